"""Number formats in NumPy: rounded to nearest, or by the same noise as in the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmom.kernels.formats import BLOCK, BLOCKS

F, U = np.float32, np.uint32
PIECE = 512                             # as STAGED in sweep.pyx


# The formats in NumPy: codes of numbers from -top to top, and back -------------------------------

def int8(x: Any, noise: Any) -> Any:
    return np.rint(x).astype(np.int8)


def float8(x: Any, noise: Any) -> Any:
    bits = x.view(U)
    size = bits & 0x7FFFFFFF
    code = ((size + 0x7FFFF + (size >> 20 & 1)) >> 20).astype(int) - 889
    return (np.maximum(code, 0) | bits >> 24 & 128).astype(np.uint8)


def dither_int8(x: Any, noise: Any) -> Any:
    part = (noise >> 16).astype(F) * F(2.0 ** -16)
    return np.rint(x + (part - (F(0.5) - F(2.0 ** -17)))).astype(np.int8)


def dither_float8(x: Any, noise: Any) -> Any:
    bits = x.view(U)
    size = bits & 0x7FFFFFFF
    code = np.minimum(((size + (noise >> 12)) >> 20).astype(int) - 889, 127)
    least = np.full(1, 890 << 20, U).view(F)
    small = size.view(F) > (noise >> 8).astype(F) * F(2.0 ** -24) * least
    return (np.where(size < 890 << 20, small, code) | bits >> 24 & 128).astype(np.uint8)


def dither_bfloat16(x: Any, noise: Any) -> Any:
    return ((x.view(U) + (noise >> 16)) >> 16).astype(np.uint16)


def dither_float16(x: Any, noise: Any) -> Any:
    bits = x.view(U)
    size = bits & 0x7FFFFFFF
    part = (noise >> 19).astype(F) * F(2.0 ** -13)
    units = np.where(size < 113 << 23, size, 0).astype(U).view(F) * F(2.0 ** 24)
    normal = (size - (112 << 23) + (noise >> 19)) >> 13
    held = np.where(size < 113 << 23, (units + part).astype(U), normal)
    return (bits >> 16 & 0x8000 | np.where(size >= 143 << 23, 0x7C00, held)).astype(np.uint16)


def ufloat8(x: Any, noise: Any) -> Any:
    code = (((x.view(U) & 0x7FFFFFFF) + (noise >> 12)) >> 20).astype(int) - 761
    return np.where(x != 0, np.clip(code, 1, 255), 0).astype(np.uint8)


def of_int8(code: Any) -> Any:
    return code.astype(F)


def of_float8(code: Any) -> Any:
    size = (code & 127).astype(U)
    bits = np.where(size > 0, (size + 889) << 20, 0).astype(U) | (code.astype(U) & 128) << 24
    return bits.view(F)


def of_ufloat8(code: Any) -> Any:
    return np.where(code > 0, (code.astype(U) + 761) << 20, 0).astype(U).view(F)


FORMATS = {"int8": (int8, of_int8, 127), "float8": (float8, of_float8, 1),
           "ufloat8": (ufloat8, of_ufloat8, 1)}
DITHERED = {"int8": dither_int8, "float8": dither_float8, "ufloat8": ufloat8}
WORDS = {"bfloat16": dither_bfloat16, "float16": dither_float16}


def noise_of(key: Any, size: int) -> Any:
    """The noise of so many elements; `key` is that of each piece, or of all."""
    places, keys_ = np.arange(size, dtype=np.uint64), np.asarray(key, np.uint64)
    if keys_.ndim:
        keys_, places = np.repeat(keys_, PIECE)[:size], places % PIECE
    return (keys_ + places * np.uint64(0x9E3779B9)).astype(U)


def dithered(x: Any, dtype: Any, step: int, tensor: int, array: int) -> Any:
    """The numbers as a step leaves them in its array of this dtype, by noise."""
    flat = np.ascontiguousarray(x, F).reshape(-1)
    key = keys(step, tensor, array, flat.size)
    if dtype.names is not None:
        return write(dtype.names[-1], flat, key, DITHERED)
    return WORDS[dtype.name](flat, noise_of(key, flat.size)).view(dtype).reshape(np.shape(x))


def write(name: str, x: Any, key: Any = 0, code: Any = None) -> Any:
    """The numbers as records; `key` is that of each piece's noise, or of all."""
    blocks = np.zeros((-(-x.size // BLOCK), BLOCK), F)
    blocks.reshape(-1)[:x.size] = x
    records = np.zeros(len(blocks), BLOCKS[name])
    nearest, _, top = FORMATS[name]
    largest = np.abs(blocks).max(axis=1, initial=0)
    tiny = largest < F(3e-36)
    records["scale"] = np.where(tiny, 0, largest / F(top))
    unit = np.where(tiny, F(0), F(top) / np.where(tiny, F(1), largest))
    records[name] = (code[name] if code else nearest)(
        blocks * unit[:, None], noise_of(key, blocks.size).reshape(blocks.shape))
    return records


def read(name: str, records: Any, n: int) -> Any:
    return (records["scale"][:, None] * FORMATS[name][1](records[name])).reshape(-1)[:n]


def drawn(step: int, tensor: int, array: int, start: int) -> int:
    """SplitMix's output for a piece, of which the upper half is its key."""
    mask = 2 ** 64 - 1
    z = ((step << 32) + (tensor << 3) + array & mask) ^ (start * 0xD1342543DE82EF95 & mask)
    z = z + 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return (z ^ z >> 31) >> 32


def keys(step: int, tensor: int, array: int, n: int) -> list[int]:
    return [drawn(step, tensor, array, start) for start in range(0, n, PIECE)]


