"""Number formats of state, gone through by name: which buffer is kept in which.

A running mean keeps a share beta of itself at a step and changes by up to 1 - beta of it. Two
neighbours in bfloat16 are 0.4 to 0.8 % apart and in float16 0.05 to 0.1 %: rounded to nearest, a
mean of squares with beta = 0.999 would stand still. So each optimizer says which of its buffers are
precise; these are kept in float32 unless they are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.extras import need

if TYPE_CHECKING:
    from fastmom.optim.stateful import Stateful
    from fastmom.types import Array

WORDS = ("bfloat16", "float16")
LIKE_FLOAT32 = ("float32", *WORDS)      # converted into each other when state is loaded


def chosen(cls: type[Stateful], given: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return the format of each buffer that is not kept in the parameter's dtype.

    Raises
    ------
    ValueError
        If there is no such buffer.
    """
    names = [*dict.fromkeys([*cls.state_names, *cls.matrix_state_names])]
    listed = ", ".join(map(repr, names)) or "none"
    if given is None:
        return {}
    if not isinstance(given, str):
        for name in given:
            if name not in names:
                raise ValueError(f"state_dtype names {name!r}, but the state of {cls.__name__} "
                                 f"that can have another format is {listed}")
        return dict(given)
    result = {name: given for name in names if name not in cls.precise_state_names}
    if not result:
        raise ValueError(f"state_dtype={given!r} would have no effect: all state of {cls.__name__} "
                         f"is precise; what may have another format if a dict names it is {listed}")
    return result


def dtype_named(word: str) -> np.dtype[Any]:
    """Return the dtype of a format; imports its library only now."""
    if word == "bfloat16":
        return np.dtype(need("ml_dtypes", "formats", "numbers in bfloat16").bfloat16)
    return np.dtype(word)


def convertible(dtype: np.dtype[Any], into: np.dtype[Any]) -> bool:
    """Return whether state of one dtype may be loaded into another."""
    return dtype == into or (dtype.name in LIKE_FLOAT32 and into.name in LIKE_FLOAT32)


def rounded(where: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return the numbers in another format, each rounded to the nearest.

    Raises
    ------
    ValueError
        If a finite one is beyond the format's largest.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        result: Array = array.astype(dtype)
    if not (np.isfinite(result) | ~np.isfinite(array)).all():
        raise ValueError(f"{where} holds numbers that {dtype} cannot: the largest is "
                         f"{np.abs(array[np.isfinite(array)]).max():g}")
    return result
