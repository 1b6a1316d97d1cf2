"""Arrays in messages, which are files of NumPy's format. Those that can be are read in place."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np

NPY = b"\x93NUMPY\x01\x00"      # how a file of format 1.0 begins


def view(data: bytes) -> Any:
    """Return the array without copying it, as a rule; it is not to be written."""
    if data.startswith(NPY):
        start = len(NPY) + 2 + int.from_bytes(data[len(NPY):len(NPY) + 2], "little")
        shape, dtype = described(data[:start])
        if dtype is not None:
            result = np.frombuffer(data, dtype, int(np.prod(shape)), start).reshape(shape)
            return result if result.flags.aligned else result.copy()
    array = np.load(BytesIO(data), allow_pickle=False)
    return np.ascontiguousarray(array).reshape(array.shape)


@lru_cache(4096)
def described(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any] | None]:
    """Return shape and dtype by the first bytes of a file; None for one that takes a copy."""
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(BytesIO(header[len(NPY):]))
    simple = dtype.kind in "biuf" and dtype.isnative and not fortran and 0 not in shape
    return shape, dtype if simple else None


@lru_cache(4096)
def header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the first bytes of a file."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype),
                                                "fortran_order": False, "shape": shape})
    return file.getvalue()


def written(array: Any) -> bytes:
    """Return the file of a contiguous array, which is copied once."""
    return b"".join((header(array.shape, array.dtype), array.reshape(-1).view(np.uint8)))
