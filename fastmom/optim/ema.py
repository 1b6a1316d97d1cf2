"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import number
from fastmom.kernels import Engine
from fastmom.kernels.arrays import check_array
from fastmom.optim.base import Optimizer
from fastmom.optim.copying import refuse_shallow_copy
from fastmom.optim.groups import have_arrays
from fastmom.optim.sgd import sgd

if TYPE_CHECKING:
    from fastmom.types import Array


def _tensors(optimizer: Optimizer, params: Sequence[Array]) -> list[Array]:
    """Return what the optimizer's steps change, if these are its parameters."""
    if optimizer._engine is None or not have_arrays(optimizer.param_groups, params):
        raise ValueError(f"params must be the very arrays of this {type(optimizer).__name__}, in "
                         f"their order")
    return list(optimizer._engine.params)


class EMA:
    r"""Running average of parameters: ``e = decay e + (1 - decay) p``, starting at p.

    Parameters
    ----------
    params : list of ndarray
        Those to average, C-contiguous float32 or float64. With `optimizer`, exactly its own; of
        those in 16 bits, their masters are averaged.
    decay : float, default 0.999
        From 0 to 1.
    optimizer : Optimizer, optional
        Average after each of its steps, inside the step, while the parameters are in the cache. A
        parameter that a step skips is not averaged either. Without it call `update` yourself.

    Attributes
    ----------
    params, averages : list of ndarray
        What is averaged, and the averages of it.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be averaged, or `params` are not the optimizer's.
    RuntimeError
        If the optimizer is averaged already.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> opt = fm.SGD([p], lr=1.0)
    >>> ema = fm.EMA([p], decay=0.5, optimizer=opt)
    >>> for _ in range(2):
    ...     _ = opt.step([-np.ones(2, np.float32)])
    >>> p, ema.averages[0]
    (array([2., 2.], dtype=float32), array([1.25, 1.25], dtype=float32))
    >>> with ema.swapped():
    ...     p.copy()
    array([1.25, 1.25], dtype=float32)
    >>> p
    array([2., 2.], dtype=float32)
    """

    def __init__(self, params: Sequence[Array], decay: float = 0.999, *,
                 optimizer: Optimizer | None = None) -> None:
        self._decay = number("decay", decay, 0.0, 1.0)
        if isinstance(params, np.ndarray) or not isinstance(params, Sequence) or not params:
            raise TypeError("params must be a list of at least one array")
        self.params = list(params) if optimizer is None else _tensors(optimizer, params)
        for i, array in enumerate(self.params):
            check_array(array, "params", i, True)
        self.averages = [array.copy() for array in self.params]
        self._attach(optimizer)

    def _attach(self, optimizer: Optimizer | None) -> None:
        """Make or take the engine that moves the averages."""
        self._optimizer = optimizer
        if optimizer is not None:
            self._engine = optimizer._average(self.averages)
        else:
            self._engine = Engine(self.averages, [()] * len(self.params))
        self._engine.smooth(self._decay)

    @property
    def decay(self) -> float:
        """Share of the average that a step keeps."""
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        self._decay = number("decay", value, 0.0, 1.0)
        self._engine.smooth(self._decay)

    def update(self) -> None:
        """Average the parameters as they are now.

        Raises
        ------
        RuntimeError
            If an optimizer does it at each step.
        """
        if self._optimizer is not None:
            raise RuntimeError("the optimizer averages at each step already")
        self._engine.run(self.params, [sgd(lr=self._decay - 1, wd=0.0, keep=self._decay)])

    def __repr__(self) -> str:
        n, size = len(self.averages), sum(array.size for array in self.averages)
        when = "at each step of the optimizer" if self._optimizer is not None else "by update()"
        return f"<EMA of {n} array{'s' * (n != 1)} ({size:,} values), decay {self.decay:g}, {when}>"

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Exchange parameters and averages for a ``with`` block, e.g. to evaluate.

        A fused optimizer refuses to step meanwhile.
        """
        if self._engine.blocked_by:
            raise RuntimeError(f"cannot swap: {self._engine.blocked_by}")
        self._engine.blocked_by = ("the parameters hold their averages already; leave the with "
                                   "block first")
        self._swap()
        try:
            yield
        finally:
            self._swap()
            self._engine.blocked_by = None

    def _swap(self) -> None:
        for p, e in zip(self.params, self.averages, strict=True):
            held = p.copy()
            p[...] = e
            e[...] = held
        self._engine.fill_copies()

    def __getstate__(self) -> dict[str, Any]:
        if self._engine.blocked_by:
            raise RuntimeError("the parameters hold their averages now; save, copy or load outside "
                               "of the with block")
        # the parameters of an optimizer are taken from it again: joblib would store them twice
        left_out = {"_engine"} | ({"params"} if self._optimizer is not None else set())
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        vars(self).update(saved)
        if self._optimizer is not None:
            self.params = list(self._optimizer._bound_engine().params)
        self._attach(self._optimizer)

    __copy__ = refuse_shallow_copy
