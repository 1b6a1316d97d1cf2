"""A copy in memory of all that the steps of an optimizer change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmom.optim.base import Optimizer
from fastmom.types import Array

PIECE = 1 << 16     # elements that are compared at a time


class Mark:
    """The loss at some weights, and the length of these: enough where nobody goes back to them.

    Attributes
    ----------
    level : float
        The loss there.
    place : object
        Whatever names the time.
    nbytes : int
        Memory of the copies: none.
    """

    level = -math.inf
    place: Any = None
    nbytes = 0

    def __init__(self, optimizer: Optimizer, also: Sequence[Array] = ()) -> None:
        self._optimizer, self._engine = optimizer, optimizer._bound_engine()

    def fits(self) -> bool:
        """Return whether the optimizer has the arrays still that it had."""
        return self._optimizer._engine is self._engine

    def take(self, level: float, place: Any) -> None:
        """Measure the parameters as they are now."""
        self._length, self.level, self.place = self._measure(), level, place

    def copy(self, other: Any) -> None:
        """Take over what another mark of the same optimizer holds."""
        self._length, self.level, self.place = other._length, other.level, other.place

    def put_back(self) -> None:
        """Leave all as it is."""

    def reach(self) -> float:
        """Return how far the parameters are from here at least, in terms of their length here.

        By the triangle inequality. NaN or infinity as of a `Snapshot`.
        """
        far = abs(self._measure() - self._length)
        return far / self._length if self._length else math.inf * (far > 0 or math.nan)

    def _measure(self) -> float:
        with np.errstate(all="ignore"):
            return math.sqrt(sum(squares(np.asarray(p).reshape(-1)) for p in self._engine.params))


class Snapshot(Mark):
    """Copies of parameters, their masters and 16-bit copies, state, averages and counters.

    The memory is taken once: `take` and `put_back` allocate no arrays.

    Parameters
    ----------
    optimizer : Optimizer
        With parameters. The averages of an `EMA` in its step belong to it.
    also : list of ndarray
        What else to copy, C-contiguous.
    """

    def __init__(self, optimizer: Optimizer, also: Sequence[Array]) -> None:
        super().__init__(optimizer)
        held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
        held |= {id(p): p for p in [*self._engine.params, *self._engine.copies, *also]
                 if p is not None}          # a parameter without a master is there twice
        arrays = [*held.values(), *(b for own in self._engine.state for b in own),
                  *(b for own in optimizer._apart for b in own.values())]
        self._live = [np.asarray(a).reshape(-1).view(np.uint8) for a in arrays]
        self._held = [np.empty_like(a) for a in self._live]
        self.nbytes = sum(held.nbytes for held in self._held)
        places = {id(p): i for i, p in enumerate(held.values())}
        self._params = [(np.asarray(p).reshape(-1), self._held[places[id(p)]].view(
            np.asarray(p).dtype)) for p in self._engine.params]

    def take(self, level: float, place: Any) -> None:
        """Copy all as it is now."""
        self.place = None
        for held, live in zip(self._held, self._live, strict=True):
            held[...] = live
        self._counters = self._engine.steps.tolist(), self._engine.iterations
        self.level, self.place = level, place

    def copy(self, other: Snapshot) -> None:
        """Take over what another snapshot of the same optimizer holds."""
        for own, held in zip(self._held, other._held, strict=True):
            own[...] = held
        self._counters, self.level, self.place = other._counters, other.level, other.place

    def put_back(self) -> None:
        """Bring all back to what it was; Ctrl-C is heard when that is done."""
        try:
            self._put_back()
        except BaseException:
            self._put_back()
            raise

    def _put_back(self) -> None:
        for held, live in zip(self._held, self._live, strict=True):
            live[...] = held
        self._engine.restore(*self._counters)
        self._optimizer._changed()

    def reach(self) -> float:
        """Return how far the parameters are from here, in terms of their length here.

        NaN or infinity where they are not finite, and where they were all 0.
        """
        with np.errstate(all="ignore"):
            far = length = 0.0
            for now, then in self._params:
                far, length = far + squares(now, then), length + squares(then)
        return math.sqrt(far / length) if length else math.inf * (far > 0 or math.nan)


def squares(array: Array, minus: Array | None = None) -> float:
    """Return the sum of the squares of a flat array, or of its difference from another.

    In float32 at least, which is enough to compare lengths, and many times as fast as float64.
    """
    total = 0.0
    for i in range(0, array.size, PIECE):
        piece = array[i:i + PIECE]
        if piece.dtype.itemsize < 4:
            piece = piece.astype(np.float32)
        if minus is not None:
            piece = piece - minus[i:i + PIECE]
        total += float(np.einsum("i,i", piece, piece))      # without the threads of a BLAS
    return total


def finite(optimizer: Optimizer) -> bool:
    """Return whether all parameters are finite."""
    with np.errstate(all="ignore"):
        return all(math.isfinite(squares(p)) or bool(np.isfinite(p).all()) for p in
                   (np.asarray(p).reshape(-1) for p in optimizer._bound_engine().params))


def check_arrays(arrays: Any) -> tuple[Array, ...]:
    """Return the arrays of `also`, or raise TypeError."""
    if isinstance(arrays, np.ndarray) or not isinstance(arrays, Sequence):
        raise TypeError(f"also must be a list of arrays, not {type(arrays).__name__}")
    for i, array in enumerate(arrays):
        if not (isinstance(array, np.ndarray) and array.flags.c_contiguous
                and array.flags.writeable):
            raise TypeError(f"also[{i}] must be a writable C-contiguous array")
    return tuple(arrays)
