"""Parameters in 16 bits: float32 masters, which steps change and round to the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.kernels.arrays import check_array
from fastmom.optim.buffers import zeros_beside
from fastmom.optim.formats import is_low

if TYPE_CHECKING:
    from fastmom.types import Array, Copies

FLOAT32 = np.dtype(np.float32)


def new_masters(arrays: Sequence[Array], first: int, wanted: bool,
                copies: Copies | None) -> list[Array | None]:
    """Return a master of each array that is float16 or bfloat16, if they are wanted, else None.

    Parameters
    ----------
    arrays : list of ndarray
        Parameters, of which the first is called ``params[first]`` in errors.
    first : int
    wanted : bool
    copies : list of (ndarray or None) or None
        What else each step is to fill.

    Raises
    ------
    TypeError, ValueError
        If an array cannot be updated in place, or one in 16 bits is to have a copy besides.
    """
    for i, array in enumerate(arrays, first):
        low = isinstance(array, np.ndarray) and is_low(np.asarray(array).dtype)
        check_array(array, "params", i, True, low)
        if low and copies is not None and i < len(copies) and copies[i] is not None:
            raise TypeError(f"copies[{i}] must be None: params[{i}] is {array.dtype} itself; "
                            f"copies are of float32 parameters")
    places = [i for i, a in enumerate(arrays) if wanted and is_low(np.asarray(a).dtype)]
    made = zeros_beside([arrays[i] for i in places],
                        [[(np.asarray(arrays[i]).shape, FLOAT32)] for i in places])
    masters: list[Any] = [None] * len(arrays)
    for i, (master,) in zip(places, made, strict=True):
        master[...] = arrays[i]
        masters[i] = master
    return masters


def tensors(arrays: Sequence[Array], masters: Sequence[Array | None]) -> list[Array]:
    """Return what steps change: a master where there is one, else the parameter."""
    return [p if m is None else m for p, m in zip(arrays, masters, strict=True)]


def mastered(arrays: Sequence[Array], masters: Sequence[Array | None],
             copies: Copies | None = None) -> list[Array | None]:
    """Return what each step fills from what it has changed: the parameters with masters, copies."""
    if copies is not None and len(copies) != len(arrays):
        return list(copies)         # which the engine refuses
    rest = copies or [None] * len(arrays)
    return [c if m is None else p for p, m, c in zip(arrays, masters, rest, strict=True)]


def check_effect(arrays: Sequence[Array], state: Sequence[Sequence[Array]], master: bool,
                 rounding: str) -> None:
    """Raise ValueError if an option about numbers in few bits has none to act on."""
    low = [is_low(np.asarray(array).dtype) for array in arrays]
    if not master and not any(low):
        raise ValueError("master=False would have no effect: no parameter is float16 or bfloat16")
    formed = any(buffer.dtype.itemsize not in (4, 8) for own in state for buffer in own)
    if rounding == "stochastic" and not formed and (master or not any(low)):
        raise ValueError("rounding='stochastic' would have no effect: neither state nor parameters "
                         "without masters are kept in fewer bits than float32; see state_dtype")
