"""Arrays in an `.npz` file: written whole or not at all, read with checksums, without pickles.

A file is never trusted with memory. Its members are stored uncompressed, so that they cannot take
more than the file itself; all that they declare is checked before anything is allocated.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from fastmom.extras import need
from fastmom.files import open_regular, replacing
from fastmom.kernels.formats import BLOCKS

MARK = "__array__"
BFLOAT16 = "bfloat16"
BLOCK = 1 << 18     # bytes read at once: they are still in the cache when they are summed
# As `numpy.lib.format` writes it. Its own parser runs Python's on the text, whose errors and
# warnings are many.
HEADER = re.compile(rb"\{'descr': '([<>|=]?[biufcOSUVmM?]\d{0,4})', 'fortran_order': (True|False), "
                    rb"'shape': \(((?:\d{1,19}(?:, ?|(?=\))))*)\), ?\} *\n?")
HEADER_BYTES = {(1, 0): 2, (2, 0): 4}       # of the header's length, by version


class Damaged(ValueError):
    """A file is not a whole `.npz` file as `write` writes them."""


@dataclass(frozen=True)
class Member:
    """An array in a file, not yet read."""

    info: zipfile.ZipInfo
    header: int             # bytes before the numbers
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool           # the first index varies fastest


class Archive:
    """An open `.npz` file whose members are known and bounded, to be read one by one.

    A context manager, which closes the file.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    members : dict of Member
        By the arrays' names.

    Raises
    ------
    Damaged
        If anything is wrong with the file; says what.
    OSError
        If it cannot be opened or is no regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open_regular(path)
        try:
            with _damage():
                self._zip = zipfile.ZipFile(self._file)
                self.members = self._find_members(os.fstat(self._file.fileno()).st_size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()
        self._file.close()

    def _find_members(self, size: int) -> dict[str, Member]:
        infos = self._zip.infolist()
        names = [info.filename.removesuffix(".npy") for info in infos]
        if len(set(names)) < len(names):
            raise ValueError("two members have the same name")
        for name, info in zip(names, infos, strict=True):
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise ValueError(f"member {name!r} is compressed")
        if (declared := sum(info.file_size for info in infos)) > size:
            raise ValueError(f"its members have {declared} bytes, and it has {size}")
        return {name: self._member(info) for name, info in zip(names, infos, strict=True)}

    def _member(self, info: zipfile.ZipInfo) -> Member:
        """Read a member's header and check it against the member's size."""
        with self._zip.open(info) as stream:
            length = HEADER_BYTES[np.lib.format.read_magic(stream)]
            text = stream.read(int.from_bytes(stream.read(length), "little"))
            header = stream.tell()
        if (match := HEADER.fullmatch(text)) is None:
            raise ValueError(f"member {info.filename!r} has a malformed header")
        dtype = np.dtype(match[1].decode())
        if dtype.kind not in "biufcV":
            raise ValueError(f"member {info.filename!r} has dtype {dtype}")
        shape = tuple(int(n) for n in match[3].split(b",") if n.strip())
        if header + prod(shape) * dtype.itemsize != info.file_size:
            raise ValueError(f"member {info.filename!r} has another size than its header says")
        return Member(info, header, shape, dtype, match[2] == b"True")

    def read(self, name: str, out: Any = None) -> Any:
        """Read an array, its checksum compared.

        Parameters
        ----------
        name : str
        out : ndarray, optional
            Where to: of the same shape and dtype. If the file is damaged, it has changed.

        Returns
        -------
        ndarray
            `out` if it is given, else a new array.
        """
        member = self.members[name]
        with _damage():
            order: Literal["C", "F"] = "F" if member.fortran else "C"
            fits = out is not None and out.flags[f"{order}_CONTIGUOUS"]
            array = out if fits else np.empty(member.shape, member.dtype, order)
            self._read_numbers(member, _parts(array.reshape(-1, order="A").view(np.uint8).data))
            if out is None or fits:
                return array
            out[...] = array
            return out

    def check(self) -> None:
        """Read all of the file and compare the checksums; keep nothing."""
        block = memoryview(bytearray(BLOCK))
        with _damage():
            for member in self.members.values():
                size = member.info.file_size - member.header
                parts = (block[:size - start] for start in range(0, size, BLOCK))
                self._read_numbers(member, parts)

    def _read_numbers(self, member: Member, parts: Iterable[memoryview]) -> None:
        """Fill the parts one after the other; compare the checksum.

        `ZipExtFile.read` would copy all of it once more.
        """
        info = member.info
        self._file.seek(info.header_offset + 26)        # in front of the member
        name, extra = struct.unpack("<HH", self._file.read(4))
        self._file.seek(name + extra, os.SEEK_CUR)
        crc = zlib.crc32(self._file.read(member.header))
        for part in parts:
            if self._file.readinto(part) != len(part):
                raise EOFError(f"member {info.filename!r} is cut short")
            crc = zlib.crc32(part, crc)
        if crc != info.CRC:
            raise ValueError(f"Bad CRC-32 of member {info.filename!r}")


def _parts(data: memoryview) -> Iterator[memoryview]:
    return (data[start:start + BLOCK] for start in range(0, len(data), BLOCK))


@contextmanager
def _damage() -> Iterator[None]:
    """Raise Damaged for all that reading a damaged file may raise; it is not one list."""
    try:
        yield
    except (MemoryError, Damaged):
        raise
    except Exception as error:
        raise Damaged(f"not a whole .npz file ({error or type(error).__name__})") from error


def members(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return all arrays of a file; raise as `Archive` does."""
    with Archive(path) as archive:
        return {name: archive.read(name) for name in archive.members}


def write(target: Path, arrays: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write arrays to a file, whole or not at all, as `replacing` does."""
    with (replacing(target, sync=sync) as temporary,
          zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


# JSON with arrays ---------------------------------------------------------------------------------

def packed(where: str, value: Any, arrays: dict[str, Any] | None) -> Any:
    """Return `value` as JSON will give it back, its arrays moved to `arrays` unless that is None.

    Raises
    ------
    TypeError
        If JSON cannot hold it or would change it, such as a tuple; names the place.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray) and arrays is not None:
        if value.dtype.name == BFLOAT16:        # not one of NumPy's own, so the file has its bits
            arrays[where] = value.view(np.uint16)
            return {MARK: where, "dtype": BFLOAT16}
        if value.dtype.names is not None:       # records of a scale and the codes of its block
            arrays[where] = value.view(f"V{value.dtype.itemsize}")
            return {MARK: where, "dtype": value.dtype.names[-1]}
        arrays[where] = value
        return {MARK: where}
    if type(value) is list:
        return [packed(f"{where}/{i}", entry, arrays) for i, entry in enumerate(value)]
    if type(value) is dict and MARK not in value and all(type(key) is str for key in value):
        return {key: packed(f"{where}/{key}", entry, arrays) for key, entry in value.items()}
    raise TypeError(f"{where} cannot be stored: {value!r} is not None, a bool, int, float, str, "
                    f"list or dict with str keys other than {MARK!r}")


def viewed(entry: Mapping[str, Any], array: Any) -> Any:
    """Return an array of a file as what its entry says that it is."""
    if "dtype" not in entry:
        return array
    if str(entry["dtype"]) in BLOCKS and array.dtype.str == f"|V{BLOCKS[entry['dtype']].itemsize}":
        return array.view(BLOCKS[entry["dtype"]])
    if entry["dtype"] != BFLOAT16 or array.dtype != np.uint16:
        raise ValueError(f"{entry[MARK]} is said to be {entry['dtype']!r} in {array.dtype}")
    return array.view(need("ml_dtypes", "formats", "numbers in bfloat16").bfloat16)


def unpacked(value: Any, array_of: Callable[[str], Any]) -> Any:
    """Undo `packed`: put the arrays, asked for by name, back in their places."""
    if isinstance(value, list):
        return [unpacked(entry, array_of) for entry in value]
    if not isinstance(value, dict):
        return value
    if MARK in value:
        return viewed(value, array_of(value[MARK]))
    return {key: unpacked(entry, array_of) for key, entry in value.items()}
