"""Number formats of state: which buffer is kept in which.

A running mean that keeps a share beta of itself changes by up to 1 - beta of it in a step, and
stays if that is less than half of what the format tells apart: 0.2 to 0.4 % in bfloat16, 0.02 to
0.05 % in float16. Rounded to nearest, a mean of squares with beta = 0.999 stands still, and a
mean of steady gradients with beta = 0.9 ends up to 4 % below them. So each optimizer says which
of its buffers are precise; these are float32, but for means of squares, which may be rounded up
or down by noise: to bfloat16, or to ufloat8 beside means in 8 bits. Names in a dict may also mean
those that a format's name leaves out, since their memory is long by default.

The formats of 8 bits keep blocks of 128 numbers in units of the largest: `int8` in 127 equal steps,
`float8` with 4 bits of exponent and 3 of fraction, so that small numbers beside large ones remain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.extras import need
from fastmom.kernels import formats as blocks

if TYPE_CHECKING:
    from fastmom.optim.stateful import Stateful
    from fastmom.types import Array

WORDS = ("bfloat16", "float16")
BLOCKS = ("int8", "float8")
SQUARES = "ufloat8"         # of what has no sign
LIKE_FLOAT32 = ("float32", *WORDS)      # converted into each other when state is loaded


def chosen(cls: type[Stateful], given: str | Mapping[str, str] | None,
           rounding: str = "nearest") -> dict[str, str]:
    """Return the format of each buffer that is not kept in the parameter's dtype.

    Raises
    ------
    ValueError
        If there is no such buffer, it is precise, or those that a rule reads alike differ.
    """
    if given is None:
        return {}
    noisy = rounding == "stochastic"
    free = [[name for name in names if name not in cls.precise_state_names]
            for names in (cls.state_names, cls.matrix_state_names)]
    names = [*dict.fromkeys(name for together in free for name in together)]
    listed = ", ".join(map(repr, [*names, *cls.square_state_names])) or "none"
    if isinstance(given, str):
        slow = () if noisy else cls.slow_state_names
        result = {name: given for name in names if name not in slow}
        if given in BLOCKS or (noisy and given == "bfloat16"):
            result |= dict.fromkeys(cls.square_state_names, SQUARES if given in BLOCKS else given)
        if not result:
            raise ValueError(f"state_dtype={given!r} would have no effect: rounded, the state of "
                             f"{cls.__name__} would stand still; a dict may name {listed}")
        return result
    for name, word in given.items():
        if name in cls.square_state_names:
            if word != SQUARES and not (noisy and word == "bfloat16"):
                raise ValueError(f"state_dtype names {name!r}, means of squares: they may be in "
                                 f"{SQUARES!r}, or with rounding='stochastic' in 'bfloat16', not "
                                 f"in {word!r}")
        elif name not in names:
            raise ValueError(f"state_dtype names {name!r}; of {cls.__name__} it may name {listed}")
        elif word == SQUARES:
            raise ValueError(f"state_dtype[{name!r}] must not be {SQUARES!r}, which has no sign")
    for together in free:
        if len({given.get(name) for name in together}) > 1:
            raise ValueError(f"state_dtype={given!r} must name {', '.join(map(repr, together))} of "
                             f"{cls.__name__} together, in one format")
    return dict(given)


def dtype_named(word: str) -> np.dtype[Any]:
    """Return the dtype of a format; imports its library only now."""
    if word in blocks.BLOCKS:
        return blocks.BLOCKS[word]
    library = need("ml_dtypes", "formats", "numbers in bfloat16") if word == "bfloat16" else np
    dtype: np.dtype[Any] = np.dtype(getattr(library, word))
    return dtype


def is_low(dtype: np.dtype[Any]) -> bool:
    """Return whether parameters of this dtype are computed with in float32."""
    return dtype.name in WORDS and dtype.isnative


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that parameters of another are computed in."""
    return np.dtype(np.float32) if is_low(dtype) else dtype


def shape_in(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an array that keeps numbers of a shape: in blocks, one of records."""
    return shape if dtype.names is None else (-(-math.prod(shape) // blocks.BLOCK),)


def readable(buffer: Array, shape: tuple[int, ...]) -> Array:
    """Return a view of the numbers, or if they are in blocks a read-only float32 copy of them."""
    if buffer.dtype.names is None:
        return buffer.view()
    numbers = blocks.decoded(buffer, shape)
    numbers.flags.writeable = False
    return numbers


def store(buffer: Array, numbers: Array | float) -> None:
    """Fill a buffer, in blocks or not, with numbers."""
    if buffer.dtype.names is not None:
        size = buffer.size * blocks.BLOCK if np.ndim(numbers) == 0 else np.shape(numbers)
        buffer[...] = blocks.encoded(np.full(size, numbers, np.float32), buffer.dtype)
    else:
        buffer[...] = numbers


def as_kept(numbers: Any, dtype: np.dtype[Any]) -> Any:
    """Return numbers as a buffer of this dtype gives them back."""
    if dtype.names is None:
        return numbers.astype(dtype).astype(numbers.dtype)
    return blocks.decoded(blocks.encoded(numbers.astype(np.float32), dtype), numbers.shape)


def fits(array: Array, like: Array) -> bool:
    """Return whether state of one dtype may be loaded into another's place."""
    return array.dtype == like.dtype or all(
        a.dtype.names is not None or a.dtype.name in LIKE_FLOAT32 for a in (array, like))


def rounded(where: str, array: Any, like: Any) -> Any:
    """Return the numbers in the format of another array.

    Each is rounded to the nearest; in `ufloat8` up or down, evenly spread.

    Raises
    ------
    ValueError
        If a finite one is beyond the format's largest.
    """
    if array.dtype == like.dtype:
        return array
    if array.dtype.names is not None:
        inside = like.dtype.names is not None
        array = blocks.decoded(array, (array.size * blocks.BLOCK,) if inside else like.shape)
    if like.dtype.names is not None:
        return blocks.encoded(array.astype(np.float32), like.dtype)
    with np.errstate(over="ignore"):
        result = array.astype(like.dtype)
    if not (np.isfinite(result) | ~np.isfinite(array)).all():
        raise ValueError(f"{where} holds numbers that {like.dtype} cannot: the largest is "
                         f"{np.abs(array[np.isfinite(array)]).max():g}")
    return result
