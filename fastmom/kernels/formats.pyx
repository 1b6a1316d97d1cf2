"""Formats of numbers by name and dtype, and conversion from and to float32.

An array in a block format is one of records: the scale of up to 128 numbers and their codes.
"""

import numpy as np

from fastmom.kernels.codecs cimport BFLOAT16, FLOAT16, FLOAT8, INT8, NATIVE, UFLOAT8, Format
from fastmom.kernels.loops cimport loops

BLOCK = 128         # as in formats.h

# The dtypes of block formats; that the codes bear the format's name tells what they mean.
BLOCKS = {name: np.dtype([("scale", np.float32), (name, code, (BLOCK,))])
          for name, code in (("int8", np.int8), ("float8", np.uint8), ("ufloat8", np.uint8))}

cdef dict BY_NAME = {"bfloat16": BFLOAT16, "float16": FLOAT16}
cdef dict BY_DTYPE = {BLOCKS["int8"]: INT8, BLOCKS["float8"]: FLOAT8, BLOCKS["ufloat8"]: UFLOAT8}


cdef Format format_of(object dtype) except *:
    """Return the format of an array; NATIVE where its numbers are float32, float64 or none."""
    if dtype.names is None:
        return BY_NAME.get(dtype.name, NATIVE) if dtype.isnative else NATIVE
    return BY_DTYPE.get(dtype, NATIVE)


def encoded(array, dtype) -> object:
    """Return the numbers of a float32 array as records of a block format.

    Means of squares (ufloat8) are rounded up or down, evenly spread.
    """
    if dtype not in BY_DTYPE:
        raise ValueError(f"dtype must be one of BLOCKS, not {dtype}")
    cdef const float[::1] x = np.asarray(array).reshape(-1)
    result = np.zeros(-(-x.size // BLOCK), dtype)
    cdef char[::1] out = result.view(np.int8)
    if x.size:
        loops().rules.codecs[<int>format_of(dtype)].encode(&out[0], &x[0], x.size, 0)
    return result


def decoded(records, shape) -> object:
    """Return the numbers of contiguous records as a float32 array of this shape."""
    result = np.empty(shape, np.float32)
    if records.dtype not in BY_DTYPE:
        raise ValueError(f"records must be of one of BLOCKS, not {records.dtype}")
    if records.shape != (-(-result.size // BLOCK),):
        raise ValueError(f"an array of shape {result.shape} takes {-(-result.size // BLOCK)} "
                         f"records, not {records.shape}")
    cdef float[::1] out = result.reshape(-1)
    cdef const char[::1] x = np.ascontiguousarray(records).view(np.int8)
    if out.size:
        loops().rules.codecs[<int>format_of(records.dtype)].decode(&out[0], &x[0], out.size)
    return result
