"""Adafactor: Adam's second moments of matrices in as little memory as rows and columns take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.kernels import Engine
from fastmom.optim.base import Optimizer
from fastmom.optim.hyper import Limit, Number
from fastmom.optim.sgd import sgd

if TYPE_CHECKING:
    from fastmom.types import Array, Grads, Row

__all__ = ["Adafactor"]

BLOCK = 1 << 15     # elements of a tensor that are taken at once: their arrays fit in the cache
Load = Callable[[int, Any], None]       # fills an array with the gradient from an element on
Place = tuple[slice, slice]             # some matrices, and some rows of each


class Adafactor(Optimizer):
    r"""Steps divided by root mean squares that only rows and columns of a matrix remember.

    At a parameter's step t, counted from 1, ``k = t^beta2_decay``. Of a parameter with two axes or
    more, the last two are those of matrices: ``r += k (mean of g^2 over a row - r)``, ``c`` the
    same over a column, ``v = r c / max(mean of r, eps1)``; of any other ``v += k (g^2 - v)``. Then
    ``u = g / sqrt(max(v, eps1^2))``, ``a = min(lr, 1 / sqrt(t)) max(eps2, RMS(p))``,
    ``p = (1 - lr weight_decay) p - a u / max(1, RMS(u) / clipping_threshold)``, where RMS is the
    root mean square over the whole parameter. Equals PyTorch's; optax's adds momentum and other
    schedules.

    Notes
    -----
    A matrix has state of one number per row and one per column, "row" and "column", anything else
    the "square" v. The step is computed in NumPy, in blocks, and takes no array as large as a
    parameter; threads do not speed it up.

    References
    ----------
    N. Shazeer and M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML
    2018.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.ones((2, 3), np.float32)
    >>> opt = fm.Adafactor([p], lr=0.5)
    >>> opt.step([np.full((2, 3), 3.0, np.float32)])
    True
    >>> p[0]
    array([0.5, 0.5, 0.5], dtype=float32)
    >>> {name: array.shape for name, array in opt.state[0].items()}
    {'row': (2, 1), 'column': (1, 3)}
    """

    lr: Number = Number(
        default=1e-2, doc="Largest step in proportion to the parameter's root mean square.")
    beta2_decay: Number = Number(
        default=-0.8, low=-math.inf, high=0.0, doc="How fast the memory of the squares grows.")
    eps1: Limit = Limit(
        default=None, doc="Of the roots; None is the machine epsilon of the parameter's dtype.")
    eps2: Number = Number(
        default=1e-3, doc="Smallest root mean square that a parameter is taken to have.")
    clipping_threshold: Number = Number(
        default=1.0, low=1.0, doc="Largest root mean square of u; PyTorch calls it d.")
    weight_decay: Number = Number(default=0.0, doc="Decoupled.")

    needs_masters = True
    needs_whole_tensors = True

    def _state_apart(self, array: Array) -> dict[str, tuple[int, ...]]:
        if array.ndim < 2:
            return {"square": array.shape}
        return {"row": (*array.shape[:-1], 1), "column": (*array.shape[:-2], 1, array.shape[-1])}

    def step(self, grads: Grads) -> bool:
        """Update the parameters in place: see `Optimizer.step`."""
        engine = self._bound_engine()
        now = engine.iterations
        if self._stale:
            self._take_values(engine, now)
        return engine.run(grads, lambda: self._update(engine, grads), now)

    def _update(self, engine: Engine, grads: Grads) -> list[Row]:
        """Update all parameters that have a gradient."""
        for i, (p, state) in enumerate(zip(engine.params, self._apart, strict=True)):
            if self._state_apart(p) != {name: array.shape for name, array in state.items()}:
                raise ValueError(f"params[{i}] is now of shape {p.shape}: it was changed in place "
                                 f"after the optimizer was built")
        for i, (p, g) in enumerate(zip(engine.params, grads, strict=True)):
            if g is not None and p.size:
                def load(start: int, out: Any, i: int = i) -> None:
                    engine.load(i, start, out)
                update(p, load, self._apart[i], self._makers[self._kind_of[i]][1],
                       int(engine.steps[i]) + 1)
        # averages still have to move, and copies to be filled, by a rule that leaves p alone
        follows = engine.averaged or any(copy is not None for copy in engine.copies)
        return [sgd(lr=0.0, wd=0.0, keep=1.0)] * len(self._kinds) if follows else []


def update(p: Any, load: Load, state: Mapping[str, Any], h: Mapping[str, Any], t: int) -> None:
    """Take a step of one parameter: whole sums between three passes over its blocks."""
    blocks = Blocks(p, load, list(state.values()), h["eps1"])
    size = length = 0.0
    with np.errstate(all="ignore"):
        for x, place in blocks:
            size += square_sum(x, blocks.work(place)[0])
            blocks.remember(place, t ** h["beta2_decay"])
        blocks.scale_rows()
        for _, place in blocks:
            u = blocks.direction(place)
            length += square_sum(u, blocks.work(place)[1])
        step = min(h["lr"], t ** -0.5) * max(h["eps2"], math.sqrt(size / p.size))
        step /= max(1.0, math.sqrt(length / p.size) / h["clipping_threshold"])
        for x, place in blocks:
            u = u if len(blocks.places) == 1 else blocks.direction(place)
            u *= step
            x *= 1 - h["lr"] * h["weight_decay"]
            x -= u


class Blocks:
    """A parameter and its state, cut into blocks: several whole matrices, or rows of one.

    A parameter without rows and columns counts as one column.
    """

    def __init__(self, p: Any, load: Load, arrays: list[Any], eps1: float | None) -> None:
        self.factored = len(arrays) == 2
        axes = p.shape[-2:] if self.factored else (p.size, 1)
        self.p, self.load = np.asarray(p).reshape(-1, *axes), load
        self.arrays = [array.reshape(len(self.p), -1, array.shape[-1]) if self.factored
                       else array.reshape(self.p.shape) for array in arrays]
        limits = np.finfo(p.dtype)
        eps1 = float(limits.eps) if eps1 is None else eps1
        self.smallest, self.smallest_mean = (max(e, float(limits.tiny)) for e in (eps1 ** 2, eps1))
        count, rows, columns = self.p.shape
        several, few = max(1, BLOCK // (rows * columns)), max(1, min(rows, BLOCK // columns))
        self.places: list[Place] = [(slice(i, i + several), slice(j, j + few))
                                    for i in range(0, count, several) for j in range(0, rows, few)]
        self.memory = np.empty((2, min(p.size, several * few * columns)), p.dtype)

    def __iter__(self) -> Iterator[tuple[Any, Place]]:
        for place in self.places:
            yield self.p[place], place

    def work(self, place: Place) -> Any:
        """Return two arrays like a block; the same memory serves all."""
        shape = self.p[place].shape
        return self.memory[:, :math.prod(shape)].reshape(2, *shape)

    def gradient(self, place: Place) -> Any:
        """Return a block of the gradient in the first work array."""
        g = self.work(place)[0]
        _, rows, columns = self.p.shape
        self.load((place[0].start * rows + place[1].start) * columns, g)
        return g

    def remember(self, place: Place, k: float) -> None:
        """Move the means of squares towards those of a block."""
        g, spare = self.gradient(place), self.work(place)[1]
        np.multiply(g, g, out=spare)
        if not self.factored:
            square = self.arrays[0][place]
            square += np.multiply(np.subtract(spare, square, out=spare), k, out=spare)
            return
        rows, columns = self.arrays[0][place], self.arrays[1][place[0]]
        rows += k * (spare.mean(-1, keepdims=True) - rows)
        if place[1].start == 0:
            columns *= 1 - k
        columns += k / self.p.shape[1] * spare.sum(-2, keepdims=True, dtype=np.float64)

    def scale_rows(self) -> None:
        """Divide the rows' means by the mean of all, once they are complete."""
        if self.factored:
            rows = self.arrays[0]
            means = rows[:, :, 0].mean(-1)[:, None, None]
            self.rows = rows / np.maximum(means, self.smallest_mean)

    def direction(self, place: Place) -> Any:
        """Return a block of u in the first work array."""
        g, v = self.gradient(place), self.work(place)[1]
        if self.factored:
            np.multiply(self.rows[place], self.arrays[1][place[0]], out=v)
            np.maximum(v, self.smallest, out=v)
        else:
            np.maximum(self.arrays[0][place], self.smallest, out=v)
        return np.divide(g, np.sqrt(v, out=v), out=g)


def square_sum(x: Any, spare: Any) -> float:
    """Return the sum of squares; `spare` is an array like x to write to."""
    return float(np.multiply(x, x, out=spare).sum())
