"""Gradients of several calls, of which one step is taken."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmom.kernels import Engine
from fastmom.optim.formats import computed
from fastmom.optim.sgd import sgd


class Sums:
    """Sums of a rank's parts of gradients, as `GradientAccumulation` makes them.

    Parameters
    ----------
    params : list of ndarray
        The rank's parts.
    calls : int
        Gradients that make one step.
    threads : int

    Attributes
    ----------
    sources : list of list of ndarray
        The sum of each, as a list of one.
    had : list of bool
        Which have got a gradient.
    """

    def __init__(self, params: list[Any], calls: int, threads: int) -> None:
        self._sums = [np.zeros(p.shape, computed(p.dtype)) for p in params]
        self.sources = [[s] for s in self._sums]
        self._adder = Engine(self._sums, [()] * len(params))
        self._adder.parts = threads
        self._calls = calls
        self.clear()

    @property
    def nbytes(self) -> int:
        return sum(s.nbytes for s in self._sums)

    def add(self, grads: list[Any], mask: list[bool]) -> bool:
        """Add gradients; return whether there are enough for a step."""
        self._adder.run(grads, [sgd(lr=-1.0, wd=0.0, keep=1.0)])
        for i, there in enumerate(mask):
            self.had[i] |= there
        self._pending += 1
        return self._pending == self._calls

    def clear(self) -> None:
        self._pending = 0
        self.had = [False] * len(self._sums)
        for s in self._sums:
            s[...] = 0
