"""Number formats of state: which buffer is kept in which.

A running mean that keeps a share beta of itself changes by up to 1 - beta of it in a step, and
stays if that is less than half of what the format tells apart: 0.2 to 0.4 % in bfloat16, 0.02 to
0.05 % in float16. Rounded to nearest, a mean of squares with beta = 0.999 stands still, and a
mean of steady gradients with beta = 0.9 ends up to 4 % below them. So each optimizer says which
of its buffers are precise; these are float32 always. Names in a dict may also mean those that a
format's name leaves out, since their memory is long by default.
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
        If there is no such buffer, it is precise, or those that a rule reads alike differ.
    """
    if given is None:
        return {}
    free = [[name for name in names if name not in cls.precise_state_names]
            for names in (cls.state_names, cls.matrix_state_names)]
    names = [*dict.fromkeys(name for together in free for name in together)]
    listed = ", ".join(map(repr, names)) or "none"
    if isinstance(given, str):
        result = {name: given for name in names if name not in cls.slow_state_names}
        if not result:
            raise ValueError(f"state_dtype={given!r} would have no effect: rounded, the state of "
                             f"{cls.__name__} would stand still; a dict may name {listed}")
        return result
    for name in given:
        if name not in names:
            raise ValueError(f"state_dtype names {name!r}; of {cls.__name__} it may name {listed}")
    for together in free:
        if len({given.get(name) for name in together}) > 1:
            raise ValueError(f"state_dtype={given!r} must name {', '.join(map(repr, together))} of "
                             f"{cls.__name__} together, in one format")
    return dict(given)


def dtype_named(word: str) -> np.dtype[Any]:
    """Return the dtype of a format; imports its library only now."""
    library = need("ml_dtypes", "formats", "numbers in bfloat16") if word == "bfloat16" else np
    dtype: np.dtype[Any] = np.dtype(getattr(library, word))
    return dtype


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
