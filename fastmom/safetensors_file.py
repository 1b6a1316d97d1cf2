"""Arrays in a `.safetensors` file: written whole or not at all, read within the file's bounds.

The files are those of the library of that name, which writes and reads them: it compares what a
file declares with the file's own size before anything is allocated. Beside the arrays they have
texts, among them what `fastmom.checkpoint` has to say about the arrays (`META`), and the arrays'
checksums.
"""

from __future__ import annotations

import errno
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from fastmom.extras import need
from fastmom.files import open_regular, replacing
from fastmom.npz import BFLOAT16, MARK, Damaged

SUFFIX = ".safetensors"
META = "checkpoint"                 # as a member, and with a prefix as a text
TEXT, CHECKSUMS, RECORDS = "fastmom.checkpoint", "fastmom.crc32", "fastmom.records"
LISTED = re.compile(r"params/(0|[1-9][0-9]*)")
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
         "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
         "C64": "<c8", "BF16": "<u2"}       # of the last as `fastmom.npz` has it: its bits
HELD = frozenset(np.dtype(text) for text in TYPES.values())


class Member(NamedTuple):
    """An array in a file, not yet read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: str               # its type, as the format names it


class Archive:
    """An open file whose members are known and bounded; otherwise as `fastmom.npz.Archive`.

    A context manager, which closes the file.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    members : dict of Member
        By the arrays' names, and the text of a checkpoint as `META`, if there is one.

    Raises
    ------
    ModuleNotFoundError
        If the library is not installed.
    Damaged
        If anything is wrong with the file; says what.
    OSError
        If it cannot be opened or is no regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        library = _library()
        open_regular(path).close()          # a pipe would block
        with _damage():
            self._file = library.safe_open(os.fspath(path), framework="numpy")
            texts = self._file.metadata() or {}
            self._text = np.frombuffer(texts.get(TEXT, "").encode(), np.uint8)
            self._checksums = _table(texts, CHECKSUMS)
            records = _table(texts, RECORDS)
            names = self._file.keys()
            self.members = {name: self._member(name, records.get(name, 0)) for name in names}
            if TEXT in texts:
                if META in self.members:
                    raise ValueError(f"an array has the name {META!r}")
                self.members[META] = Member(self._text.shape, self._text.dtype, "U8")
                if self._checksums.keys() != self.members.keys():
                    raise ValueError("it has checksums of other arrays than it holds")
                self._compare(META, self._text)

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(None, None, None)

    def _member(self, name: str, record: int) -> Member:
        """Return what the file declares of an array, or of one of records of so many bytes."""
        tensor = self._file.get_slice(name)
        kind, shape = tensor.get_dtype(), tuple(tensor.get_shape())
        if kind not in TYPES:
            raise ValueError(f"array {name!r} is of type {kind}, which NumPy does not have")
        if not record:
            return Member(shape, np.dtype(TYPES[kind]), kind)
        if kind != "U8" or shape[-1:] != (record,):
            raise ValueError(f"array {name!r} is no array of records of {record} bytes")
        return Member(shape[:-1], np.dtype(f"V{record}"), kind)

    @property
    def weights(self) -> tuple[list[str] | None, list[dict[str, str]]]:
        """Names, if they have such, and entries of arrays that have no text beside them."""
        numbers = [int(match[1]) for name in self.members if (match := LISTED.fullmatch(name))]
        listed = len(numbers) == len(self.members) and sorted(numbers) == [*range(len(numbers))]
        names = [f"params/{i}" for i in range(len(numbers))] if listed else list(self.members)
        entries = [{MARK: name} | ({"dtype": BFLOAT16} if self.members[name].kind == "BF16" else {})
                   for name in names]
        return None if listed else names, entries

    def read(self, name: str, out: Any = None) -> Any:
        """Read an array, into `out` if it is given; compare its checksum if the file has one.

        If the file is damaged, `out` has changed.
        """
        member = self.members[name]
        if name == META and self._text.size:
            return self._text
        with _damage():
            array = self._file.get_tensor(name)
            if member.kind == "BF16":
                array = array.view(np.uint16)
            self._compare(name, array)
            if member.dtype.kind == "V":
                array = array.reshape(-1).view(member.dtype).reshape(member.shape)
        if out is None:
            return array
        out[...] = array.view(out.dtype)        # such as bfloat16, for its bits
        return out

    def _compare(self, name: str, array: Any) -> None:
        if name in self._checksums and self._checksums[name] != _checksum(array):
            raise ValueError(f"Bad CRC-32 of array {name!r}")

    def check(self) -> None:
        """Read all of the file and compare the checksums; keep nothing."""
        for name in self.members:
            self.read(name)


def write(target: Path, content: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a checkpoint's content and arrays to a file, whole or not at all, as `replacing` does.

    Parameters
    ----------
    target : Path
    content : dict
        As JSON can hold it, arrays by their names.
    arrays : dict of ndarray
        By these names. Parameters that have names of their own are stored under those.

    Raises
    ------
    TypeError, ValueError
        If the format has no such dtype, or a name occurs twice. No file has changed then.
    OSError
        If the file cannot be written.
    """
    library = _library()
    content, arrays = _under_own_names(content, arrays)
    records = {name: array.dtype.itemsize for name, array in arrays.items()
               if array.dtype.kind == "V"}
    stored = {name: _storable(name, array) for name, array in arrays.items()}
    halves = {entry[MARK] for entry in _entries(content) if entry.get("dtype") == BFLOAT16}
    text = json.dumps(content)
    members = {**stored, META: np.frombuffer(text.encode(), np.uint8)}
    checksums = {name: _checksum(array) for name, array in members.items()}
    texts = {TEXT: text, RECORDS: json.dumps(records), CHECKSUMS: json.dumps(checksums)}
    for name in halves:
        half = need("ml_dtypes", "formats", "numbers in bfloat16").bfloat16
        stored[name] = stored[name].view(half)
    with replacing(target, sync=True) as temporary:
        try:
            library.numpy.save_file(stored, os.fspath(temporary), texts)
        except library.SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), os.fspath(target)) from error


def _under_own_names(content: Mapping[str, Any], arrays: Mapping[str, Any],
                     ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both with parameters that have names under those."""
    names, entries = content["names"], content["params"]
    if names is None:
        return dict(content), dict(arrays)
    own = {entry[MARK]: name for entry, name in zip(entries, names, strict=True)}
    for name in names:
        if name in ("__metadata__", META) or (name in arrays and name not in own):
            raise ValueError(f"params[{name!r}] cannot have this name in a {SUFFIX} file, where it "
                             f"means something else")
    params = [{**entry, MARK: own[entry[MARK]]} for entry in entries]
    return ({**content, "params": params},
            {own.get(name, name): array for name, array in arrays.items()})


def _storable(name: str, array: Any) -> Any:
    """Return an array as the format holds it: contiguous, in little endian."""
    if array.dtype.kind == "V":
        shape = (*array.shape, array.dtype.itemsize)
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(shape)
    if (dtype := array.dtype.newbyteorder("<")) not in HELD:
        raise TypeError(f"{name} has dtype {array.dtype}, which a {SUFFIX} file cannot hold; a "
                        f".npz file can")
    return np.asarray(array, dtype, order="C")


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all that stands for an array."""
    if isinstance(value, dict) and MARK in value:
        yield value
    elif isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _entries(entry)


def _checksum(array: Any) -> int:
    """Return the CRC-32 of an array's dtype, shape and bytes in C order."""
    start = zlib.crc32(f"{array.dtype.str}{array.shape}".encode())
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""
    return zlib.crc32(data, start)


def _table(texts: Mapping[str, str], key: str) -> dict[str, int]:
    """Return a table of integers that is one of the texts."""
    table = json.loads(texts.get(key, "{}"))
    if not isinstance(table, dict) or not all(type(n) is int and n >= 0 for n in table.values()):
        raise ValueError(f"its text {key!r} is no table of numbers")
    return table


def _library() -> Any:
    need("safetensors.numpy", "safetensors", f"{SUFFIX} files")
    return need("safetensors", "safetensors", f"{SUFFIX} files")


@contextmanager
def _damage() -> Iterator[None]:
    """Raise Damaged for all that reading a damaged file may raise."""
    try:
        yield
    except (MemoryError, Damaged, ModuleNotFoundError):
        raise
    except Exception as error:
        raise Damaged(f"not a whole {SUFFIX} file ({error or type(error).__name__})") from error
