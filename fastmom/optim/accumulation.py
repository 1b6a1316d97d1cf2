"""One step from the gradients of several batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import integer
from fastmom.kernels import Engine
from fastmom.kernels.row_grads import RowGrad
from fastmom.kernels.sums import WeightedSum
from fastmom.optim.base import Optimizer
from fastmom.optim.buffers import zeros_beside
from fastmom.optim.copying import refuse_shallow_copy
from fastmom.optim.formats import computed
from fastmom.optim.sgd import sgd

if TYPE_CHECKING:
    from fastmom.types import Array, Grads


class GradientAccumulation:
    r"""Steps an optimizer with the mean of every `steps` gradients.

    As if one batch had been `steps` times as large, for the memory of one more gradient.

    Parameters
    ----------
    optimizer : Optimizer
        With parameters. Its clipping and its policy for non-finite gradients see the mean.
    steps : int
        Gradients per step, >= 1.

    Attributes
    ----------
    pending : int
        Gradients added since the last step.

    Raises
    ------
    TypeError, ValueError
        If `optimizer` is not a bound Optimizer or `steps` is not an integer >= 1.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> batches = fm.GradientAccumulation(fm.SGD([p], lr=1.0), steps=2)
    >>> [batches.step([np.full(2, g, np.float32)]) for g in (1, 3)]
    [False, True]
    >>> p
    array([-2., -2.], dtype=float32)
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, not {type(optimizer).__name__}")
        steps = integer("steps", steps, 1)
        if optimizer._engine is None:
            raise ValueError("optimizer has no parameters yet: bind it first")
        self.optimizer, self.steps, self.pending = optimizer, steps, 0
        params = optimizer._engine.params
        kinds = [[(p.shape, computed(p.dtype))] for p in params]
        self._sums = [s for s, in zeros_beside(params, kinds)]
        self._given: list[list[Any] | bool] = [False] * len(self._sums)
        self._adder = Engine(self._sums, [()] * len(self._sums))

    def __repr__(self) -> str:
        return f"GradientAccumulation({self.optimizer!r}, steps={self.steps})"

    def step(self, grads: Grads) -> bool:
        """Add these gradients, and step once there are enough.

        Parameters
        ----------
        grads : list or tuple of (ndarray, WeightedSum, RowGrad or None)
            As for `Optimizer.step`. None adds nothing; a parameter that none of the `steps` calls
            had a gradient for is skipped. The mean of nothing but `RowGrad` is one again, of all
            rows that they have; with whole gradients among them it is whole.

        Returns
        -------
        bool
            Whether the optimizer stepped.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit. Then nothing is added.
        FloatingPointError
            By the optimizer's policy. Then what was added is dropped.
        """
        engine = self.optimizer._bound_engine()
        params = engine.params          # those of the adder are sums
        if len(self._sums) != len(params):
            raise RuntimeError("the optimizer has other parameters now: make another "
                               "GradientAccumulation")
        # s = s - (-1 / steps) g, which the rule of plain descent is
        if isinstance(grads, (list, tuple)) and len(grads) == len(params):
            grads = [g.absolute(p) if type(g) is WeightedSum else g
                     for g, p in zip(grads, params, strict=True)]
        self._adder.no_rows = engine.no_rows
        self._adder.run(grads, [sgd(lr=-1 / self.steps, wd=0.0, keep=1.0)])
        for i, grad in enumerate(grads):
            had: Any = self._given[i]
            if type(grad) is RowGrad and had is not True:
                self._given[i] = [*(had or ()), grad.rows.copy()]
            elif grad is not None:
                self._given[i] = True
        self.pending += 1
        if self.pending < self.steps:
            return False
        touched: list[Any] = [np.unique(np.concatenate(had)) if isinstance(had, list) else had
                              for had in self._given]
        try:
            return self.optimizer.step([_mean(s, rows) for s, rows
                                        in zip(self._sums, touched, strict=True)])
        finally:
            self._clear(touched)

    def drop(self) -> None:
        """Drop what was added since the last step."""
        self._clear([had is not False for had in self._given])

    def _clear(self, touched: list[Any]) -> None:
        self.pending, self._given = 0, [False] * len(self._sums)
        for s, rows in zip(self._sums, touched, strict=True):
            if rows is not False:
                s[... if rows is True else rows] = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_adder"}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        vars(self).update(saved)
        self._adder = Engine(self._sums, [()] * len(self._sums))

    __copy__ = refuse_shallow_copy


def _mean(total: Array, touched: Any) -> Array | RowGrad | None:
    """Return what was added up, if anything was: all of it, or the rows touched."""
    if touched is False:
        return None
    return total if touched is True else RowGrad(touched, total[touched])
