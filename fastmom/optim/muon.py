"""Muon: momentum made orthogonal, for the matrices of a network."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmom.kernels import Engine, coefficients
from fastmom.optim.adam import adam, adam_row
from fastmom.optim.base import Optimizer
from fastmom.optim.hyper import Beta, Choice, Flag, Momentum, Number

if TYPE_CHECKING:
    from fastmom.types import Array, Row

# A step is x = (a + b xx' + c (xx')^2) x with K. Jordan's a, b, c: steep at 0, near 1 at 1. For
# STRETCH x in place of x it is ((xx' + SHIFT)^2 + REST) x.
a, b, c = 3.4445, -4.7750, 2.0315
STRETCH, SHIFT, REST = c ** 0.25, b / (2 * c ** 0.5), a - b * b / (4 * c)
RUNS = {True: (3, 2), False: (1, 1, 1, 1, 1)}   # steps between two looks at x: see `orthogonal`
LONG = 1.5          # sides in this proportion make the longer runs cheaper
BLOCK = 256         # rows of a symmetric product that are taken at once


@coefficients("muon_momentum")
def muon_momentum(*, m: float, k: float, x: float, y: float) -> None:
    """``v = m v + k g;  u = x v + y g``"""


class Muon(Optimizer):
    r"""Momentum orthogonalised by Newton-Schulz, and AdamW for what is not a matrix.

    For a parameter with two axes: ``v = m v + (1 - m) g``, ``u = (1 - m) g + m v`` with Nesterov,
    else ``u = v``; U V^T of ``u``'s singular value decomposition is approximated by five steps of a
    quintic iteration, ``p = (1 - lr weight_decay) p - lr s U V^T``, with s as `scaling` says. All
    others take `AdamW`'s step with `adamw_lr`. Equals PyTorch's, which iterates in bfloat16 and
    leaves the others to the user.

    Notes
    -----
    The iteration runs in the parameters' dtype on NumPy's BLAS, with as many threads as that has,
    in memory that all matrices of a dtype share: twice the largest and four times the square of the
    longest short side.
    In `state`, "mean" of a matrix is its velocity and "square" its latest ``u``.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. J. Liu et
    al., "Muon is scalable for LLM training", 2025 (weight decay, "match_rms_adamw").

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros((2, 2))
    >>> fm.Muon([p], lr=1.0).step([np.array([[3.0, 0.0], [0.0, 0.5]])])
    True
    >>> bool(abs(p + np.eye(2)).max() < 0.35)
    True
    """

    lr: Number = Number(default=1e-3, doc="For the matrices.")
    momentum: Momentum = Momentum(default=0.95, doc="Memory of the gradient of a matrix.")
    nesterov: Flag = Flag(default=True, doc="Look ahead along the velocity.")
    weight_decay: Number = Number(default=0.1, doc="Decoupled, for all parameters.")
    scaling: Choice = Choice(
        default="original", words=("original", "match_rms_adamw"),
        doc="s is ``sqrt(max(1, rows / columns))``, or ``0.2 sqrt(max(rows, columns))``, for which "
            "AdamW's learning rates fit.")
    adamw_lr: Number = Number(default=1e-3, doc="For all other parameters.")
    beta1: Beta = Beta(default=0.9, doc="AdamW's.")
    beta2: Beta = Beta(default=0.999, doc="AdamW's.")
    eps: Number = Number(default=1e-8, open_low=True, doc="AdamW's.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")
    treats_matrices = True

    def _bound(self, first: int) -> None:
        assert self._engine is not None
        self._turn = threading.Lock()
        self._work = workspaces([p for p in self._engine.params if p.ndim == 2])

    def step(self, grads: Sequence[Array | None]) -> bool:
        """Update the parameters in place: see `Optimizer.step`."""
        self._bound_engine()
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("this optimizer is being stepped in another thread")
        try:
            groups = [group.at(self.iterations) for group in self.param_groups]
            if not super().step(grads):
                return False
            assert self._engine is not None
            self._engine.blocked_by = "this optimizer is being stepped in another thread"
            try:
                self._step_matrices(groups, grads)
            finally:
                self._engine.blocked_by = None
            return True
        finally:
            self._turn.release()

    def _step_matrices(self, groups: list[Mapping[str, Any]],
                       grads: Sequence[Array | None]) -> None:
        assert self._engine is not None
        for p, g, (_, u), kind in zip(self._engine.params, grads, self._engine.state,
                                      self._kind_of, strict=True):
            i, is_matrix = self._kinds[kind]
            if g is not None and is_matrix and p.size:
                lr = groups[i]["lr"]
                p *= 1 - lr * groups[i]["weight_decay"]
                p -= orthogonal(u, lr * scale(p.shape, groups[i]["scaling"]),
                                self._work[p.dtype, p.shape])

    def _average(self, params: list[Array], averages: list[Array]) -> Engine:
        raise ValueError("optimizer: Muon's step ends outside the engine, so averages cannot move "
                         "inside it; leave optimizer out and call update() after each step")

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, t = group["adamw_lr"], age + 1
        decayed = {**group, "lr": lr, "decoupled_weight_decay": True}
        return adam_row(adam, decayed, t, lr / (1 - group["beta1"] ** t), 0.0)

    def _matrix_row(self, group: Mapping[str, Any], age: int) -> Row:
        m = group["momentum"]
        x, y = (m, 1 - m) if group["nesterov"] else (1.0, 0.0)
        return muon_momentum(m=m, k=1 - m, x=x, y=y)


def scale(shape: tuple[int, ...], scaling: str) -> float:
    """How much longer than lr a matrix's step is."""
    rows, columns = shape
    if scaling == "original":
        return math.sqrt(max(1.0, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))


def workspaces(matrices: Sequence[Any]) -> dict[Any, list[Any]]:
    """For each dtype and shape, two arrays of it and four square ones; all of a dtype overlap."""
    memory = {}
    for dtype in {p.dtype for p in matrices}:
        alike = [p for p in matrices if p.dtype == dtype]
        memory[dtype] = (np.empty((2, max(p.size for p in alike)), dtype),
                         np.empty((4, max(min(p.shape) for p in alike) ** 2), dtype))
    return {(p.dtype, p.shape):
            [*(row[:p.size].reshape(p.shape) for row in memory[p.dtype][0]),
             *(row[:min(p.shape) ** 2].reshape(2 * (min(p.shape),)) for row in memory[p.dtype][1])]
            for p in matrices}


def orthogonal(u: Any, length: float = 1.0, work: list[Any] | None = None) -> Any:
    """`length` times the nearest semi-orthogonal matrix, roughly: singular values 0.7 to 1.2.

    Each step multiplies x by a polynomial in its Gram matrix, so a run of several, if x is long,
    costs least as products of square matrices and one with x. Rounding errors of the Gram matrix
    grow twelvefold with each, so no run is longer than three. The result lies in `work`, which is
    one of `workspaces`.
    """
    x, y, *squares = work or workspaces([u])[u.dtype, u.shape]
    np.multiply(u, STRETCH / max(math.sqrt(np.vdot(u, u)), 1e-7), out=x)
    if x.shape[0] > x.shape[1]:
        x, y = x.T, y.T             # for the smaller Gram matrix
    runs = RUNS[x.shape[1] > LONG * x.shape[0]]
    for i, steps in enumerate(runs, 1):
        symmetric_product(x, x.T, squares[0])
        factor = polynomial(squares, steps)
        if i == len(runs):
            factor *= length / STRETCH
        x, y = np.matmul(factor, x, out=y), x
    return x if x.shape == u.shape else x.T


def polynomial(squares: list[Any], steps: int) -> Any:
    """What so many steps multiply x with, from its Gram matrix, the first of four arrays."""
    gram, product, m, spare = squares
    for step in range(1, steps + 1):
        shifted = gram
        if step < steps:
            shifted = spare
            np.copyto(shifted, gram)
        diagonal(shifted)[...] += SHIFT
        symmetric_product(shifted, shifted, m)
        diagonal(m)[...] += REST
        if step < steps:
            symmetric_product(m, gram, spare)
            symmetric_product(spare, m, gram)
        if step > 1:
            symmetric_product(m, product, spare)
            product, spare = spare, product
        else:
            product, m = m, product
    return product


def symmetric_product(a: Any, b: Any, out: Any) -> None:
    """Write ``a @ b``, known to be symmetric: large blocks below the diagonal are only copied."""
    n = len(out)
    if n <= BLOCK:
        np.matmul(a, b, out=out)
        return
    for i in range(0, n, BLOCK):
        j = min(i + BLOCK, n)
        np.matmul(a[i:j], b[:, i:], out=out[i:j, i:])
        out[j:, i:j] = out[i:j, j:].T


def diagonal(square: Any) -> Any:
    """A view of it."""
    return square.reshape(-1)[::len(square) + 1]
