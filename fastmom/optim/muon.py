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
from fastmom.optim.hyper import Beta, Choice, Flag, Integer, Momentum, Number, Numbers

if TYPE_CHECKING:
    from fastmom.types import Array, Grads, Row

__all__ = ["Muon"]

COEFFICIENTS = 3.4445, -4.7750, 2.0315     # K. Jordan's a, b, c: steep at 0, near 1 at 1
LONG = 1.5          # sides in this proportion make the longer runs cheaper
STEEP = 4.0         # a from which on longer runs amplify rounding errors too much
BLOCK = 256         # rows of a symmetric product that are taken at once


@coefficients("muon_momentum")
def muon_momentum(*, m: float, k: float, x: float, y: float) -> None:
    """``v = m v + k g;  u = x v + y g``"""


class Muon(Optimizer):
    r"""Momentum orthogonalised by Newton-Schulz, and AdamW for what is not a matrix.

    For a parameter with two axes: ``v = m v + (1 - m) g``, ``u = (1 - m) g + m v`` with Nesterov,
    else ``u = v``; U V^T of ``u``'s singular value decomposition is approximated by `ns_steps` of a
    quintic iteration, ``p = (1 - lr weight_decay) p - lr s U V^T``, with s as `scaling` says. All
    others take `AdamW`'s step with `adamw_lr`. Equals PyTorch's, which iterates in bfloat16 and
    leaves the others to the user.

    Notes
    -----
    The iteration runs in the parameters' dtype on NumPy's BLAS, in memory that all matrices of a
    dtype share: twice the largest and four times the square of the longest short side. BLAS keeps
    its threads, on which last bits depend. Where other programs keep cores busy, one is faster:
    ``with threadpoolctl.threadpool_limits(1, user_api="blas")``, as the command line has it.

    In `state`, a matrix has its "velocity" v and its latest "update" u; all others have AdamW's
    "mean" and "square".

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
        doc="s is ``sqrt(max(1, outputs / inputs))``, or ``0.2 sqrt(max(outputs, inputs))``, for "
            "which AdamW's learning rates fit.")
    adamw_lr: Number = Number(default=1e-3, doc="For all other parameters.")
    beta1: Beta = Beta(default=0.9, doc="AdamW's.")
    beta2: Beta = Beta(default=0.999, doc="AdamW's.")
    adamw_eps: Number = Number(default=1e-8, open_low=True, doc="AdamW's.")
    layout: Choice = Choice(
        default="in_out", words=("in_out", "out_in"), kw_only=True,
        doc="Axes of a matrix: (inputs, outputs), as the networks of `fastmom.nn`, Keras and Flax "
            "have them, or (outputs, inputs) as in PyTorch.")
    ns_steps: Integer = Integer(
        default=5, low=1, high=99, kw_only=True, doc="Iterations.")
    ns_coefficients: Numbers = Numbers(
        default=(3.4445, -4.7750, 2.0315), one=Number(0.0, low=-math.inf), least=3, most=3,
        kw_only=True, doc="a, b and c of an iteration ``x = (a + b xx' + c (xx')^2) x``.")
    eps: Number = Number(
        default=1e-7, open_low=True, kw_only=True,
        doc="Smallest norm that ``u`` is divided by before the iterations.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")
    matrix_state_names: ClassVar[tuple[str, ...]] = ("velocity", "update")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square", "update")
    square_state_names: ClassVar[tuple[str, ...]] = ("square",)
    treats_matrices = True
    needs_masters = True
    needs_whole_tensors = True

    def _bound(self, first: int) -> None:
        assert self._engine is not None
        self._turn = threading.Lock()
        self._work = workspaces([p for p in self._engine.params if p.ndim == 2])

    def step(self, grads: Grads) -> bool:
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
                       grads: Grads) -> None:
        assert self._engine is not None
        for p, g, (_, u), kind, copy in zip(self._engine.params, grads, self._engine.state,
                                            self._kind_of, self._engine.copies, strict=True):
            i, is_matrix = self._kinds[kind]
            if g is not None and is_matrix and p.size:
                h = groups[i]
                p *= 1 - h["lr"] * h["weight_decay"]
                p -= orthogonal(u, h["lr"] * scale(p.shape, h["scaling"], h["layout"]),
                                self._work[p.dtype, p.shape], steps=h["ns_steps"],
                                coefficients=h["ns_coefficients"], eps=h["eps"])
                if copy is not None:
                    with np.errstate(all="ignore"):
                        copy[...] = p

    def _average(self, averages: list[Array]) -> Engine:
        raise ValueError("optimizer: Muon's step ends outside the engine, so averages cannot move "
                         "inside it; leave optimizer out and call update() after each step")

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, t = group["adamw_lr"], age + 1
        decayed = {**group, "lr": lr, "eps": group["adamw_eps"],
                   "decoupled_weight_decay": True}
        return adam_row(adam, decayed, t, lr / (1 - group["beta1"] ** t), 0.0)

    def _matrix_row(self, group: Mapping[str, Any], age: int) -> Row:
        m = group["momentum"]
        x, y = (m, 1 - m) if group["nesterov"] else (1.0, 0.0)
        return muon_momentum(m=m, k=1 - m, x=x, y=y)


    def _from_format_1(self, state: dict[str, Any]) -> dict[str, Any]:
        state = super()._from_format_1(state)
        since = {"layout": "out_in", "ns_steps": 5, "ns_coefficients": COEFFICIENTS, "eps": 1e-7}
        state["groups"] = [{**group, "adamw_eps": group["eps"], **since}
                           for group in state["groups"]]
        state["state"] = [dict(zip(own, saved.values(), strict=True))
                          for own, saved in zip(self.state, state["state"], strict=True)]
        return state


def scale(shape: tuple[int, ...], scaling: str, layout: str) -> float:
    """Return the length of a matrix's step in terms of lr."""
    inputs, outputs = shape if layout == "in_out" else shape[::-1]
    if scaling == "original":
        return math.sqrt(max(1.0, outputs / inputs))
    return 0.2 * math.sqrt(max(outputs, inputs))


def workspaces(matrices: Sequence[Any]) -> dict[Any, list[Any]]:
    """Return two arrays of each dtype and shape, and four square ones; all of a dtype overlap."""
    memory = {}
    for dtype in {p.dtype for p in matrices}:
        alike = [p for p in matrices if p.dtype == dtype]
        memory[dtype] = (np.empty((2, max(p.size for p in alike)), dtype),
                         np.empty((4, max(min(p.shape) for p in alike) ** 2), dtype))
    return {(p.dtype, p.shape):
            [*(row[:p.size].reshape(p.shape) for row in memory[p.dtype][0]),
             *(row[:min(p.shape) ** 2].reshape(2 * (min(p.shape),)) for row in memory[p.dtype][1])]
            for p in matrices}


def orthogonal(u: Any, length: float = 1.0, work: list[Any] | None = None, *, steps: int = 5,
               coefficients: tuple[float, ...] = COEFFICIENTS, eps: float = 1e-7) -> Any:
    """Return `length` times the nearest semi-orthogonal matrix, roughly.

    By default its singular values are from 0.7 to 1.2. Each step multiplies x by a polynomial in
    its Gram matrix, so a run of several, if x is long, costs least as products of square matrices
    and one with x. Rounding errors of the Gram matrix grow by ``a^2`` with each, so no run is
    longer than three. The result lies in `work`, which is one of `workspaces`.
    """
    x, y, *squares = work or workspaces([u])[u.dtype, u.shape]
    a, b, c = coefficients
    # For c > 0 and c**(1/4) x in place of x, the polynomial is a square: see `polynomial`.
    stretch = c ** 0.25 if c > 0 else 1.0
    np.multiply(u, stretch / max(math.sqrt(np.vdot(u, u)), eps), out=x)
    if x.shape[0] > x.shape[1]:
        x, y = x.T, y.T             # for the smaller Gram matrix
    longest = 3 if x.shape[1] > LONG * x.shape[0] and abs(a) < STEEP else 1
    for done in range(0, steps, longest):
        symmetric_product(x, x.T, squares[0])
        factor = polynomial(squares, min(longest, steps - done), a, b, c)
        if done + longest >= steps:
            factor *= length / stretch
        x, y = np.matmul(factor, x, out=y), x
    return x if x.shape == u.shape else x.T


def polynomial(squares: list[Any], steps: int, a: float, b: float, c: float) -> Any:
    """Return the product of so many steps' polynomials, from the first of four square arrays.

    That is the Gram matrix; the polynomial is ``a + b G + c G^2``, or, of a G that was stretched by
    ``sqrt(c)``, ``(G + b / (2 sqrt(c)))^2 + a - b^2 / (4 c)``.
    """
    gram, product, m, spare = squares
    for step in range(1, steps + 1):
        other = gram
        if step < steps:
            other = spare
            np.copyto(other, gram)
        if c > 0:
            diagonal(other)[...] += b / (2 * c ** 0.5)
            symmetric_product(other, other, m)
            diagonal(m)[...] += a - b * b / (4 * c)
        else:
            symmetric_product(gram, gram, m)
            m *= c
            other *= b
            m += other
            diagonal(m)[...] += a
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
    """Return a view of the diagonal."""
    return square.reshape(-1)[::len(square) + 1]
