"""Arrays in an `.npz` file: written whole or not at all, read with checksums, without pickles."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fastmom.files import replacing

MARK = "__array__"
# What reading a damaged file may raise
MALFORMED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, TypeError,
             KeyError, IndexError, OverflowError, OSError, RuntimeError)


def packed(where: str, value: Any, arrays: dict[str, Any] | None) -> Any:
    """Return `value` as JSON will give it back, its arrays moved to `arrays` unless that is None.

    Raises
    ------
    TypeError
        For what JSON cannot hold or would change, such as a tuple; names the place.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray) and arrays is not None:
        arrays[where] = value
        return {MARK: where}
    if type(value) is list:
        return [packed(f"{where}/{i}", entry, arrays) for i, entry in enumerate(value)]
    if type(value) is dict and MARK not in value and all(type(key) is str for key in value):
        return {key: packed(f"{where}/{key}", entry, arrays) for key, entry in value.items()}
    raise TypeError(f"{where} cannot be stored: {value!r} is not None, a bool, int, float, str, "
                    f"list or dict with str keys other than {MARK!r}")


def unpacked(value: Any, arrays: dict[str, Any]) -> Any:
    """Undo `packed`, taking the arrays out of `arrays`."""
    if isinstance(value, list):
        return [unpacked(entry, arrays) for entry in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {key: unpacked(entry, arrays) for key, entry in value.items()}
    if value[MARK] not in arrays:
        raise ValueError(f"the member {value[MARK]!r} is missing")
    return arrays.pop(value[MARK])


def write(target: Path, arrays: Mapping[str, Any]) -> None:
    """Write these arrays and force them to the disk, then replace what was at `target`."""
    with replacing(target) as temporary, open(temporary, "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    if os.name == "posix":      # where a directory can be forced to the disk too
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def members(path: Path) -> dict[str, Any]:
    """Read all arrays.

    Raises
    ------
    ValueError
        If anything is damaged; says what.
    OSError
        If the file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                if len(set(names)) < len(names):
                    raise ValueError("two members have the same name")
                return {name.removesuffix(".npy"): _array(archive, name) for name in names}
        except MALFORMED as error:
            raise ValueError(f"not a whole .npz file ({error})") from error


def _array(archive: zipfile.ZipFile, name: str) -> Any:
    """One member, its checksum compared. Its size is checked first: a header can ask for any."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = {(1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(member)
        if dtype.kind not in "biufc":
            raise ValueError(f"member {name!r} has dtype {dtype}")
        if member.tell() + prod(shape) * dtype.itemsize != archive.getinfo(name).file_size:
            raise ValueError(f"member {name!r} has another size than its header says")
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
