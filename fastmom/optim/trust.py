"""Steps that the norms of whole tensors scale: trust ratios, normalised gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmom.kernels import coefficients
from fastmom.optim.base import Optimizer
from fastmom.optim.formats import computed, store
from fastmom.optim.hyper import Beta, Flag, Momentum, Number

if TYPE_CHECKING:
    from fastmom.types import Array, Grads, Row

__all__ = ["LAMB", "LARS", "NovoGrad"]


@coefficients("lars")
def lars(*, trust_coefficient: float, trust_eps: float, m: float, k: float, x: float, y: float,
         wd: float) -> None:
    """``d = trust (g + wd p);  v = m v + k d;  p -= x v + y d``"""


@coefficients("lamb")
def lamb(*, trust_coefficient: float, trust_eps: float, b1: float, k1: float, b2: float, k2: float,
         x: float, r: float, eps: float, wd: float, lr: float) -> None:
    """``m = b1 m + k1 g;  v = b2 v + k2 g^2;
    p -= lr trust (x m / (r sqrt(v) + eps) + wd p)``"""


@coefficients("novograd")
def novograd(*, m: float, k: float, wd: float, lr: float) -> None:
    """``v = m v + k g + wd p;  p -= lr v``"""


class LARS(Optimizer):
    r"""Layer-wise adaptive rate scaling: momentum over trust ratios.

    With ``r = g + weight_decay * p`` and ``d = trust_coefficient |p| / (|r| + eps) r`` per tensor
    (``d = r`` where a norm is 0): ``v = m v + lr d``, ``p -= v``, with Nesterov
    ``p -= lr d + m v``. Equals optax's `lars`; the paper divides by ``|g| + weight_decay |p|``.

    References
    ----------
    Y. You, I. Gitman and B. Ginsburg, "Large batch training of convolutional networks", 2017.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.array([3.0, 4.0], np.float32)
    >>> fm.LARS([p], lr=0.5, trust_coefficient=0.1).step([np.array([0.0, 9.0], np.float32)])
    True
    >>> p
    array([3.  , 3.75], dtype=float32)
    """

    lr: Number = Number(default=0.1, doc="Learning rate.")
    momentum: Momentum = Momentum(default=0.9, doc="Of the scaled direction.")
    nesterov: Flag = Flag(default=False, doc="Look ahead along the velocity.")
    weight_decay: Number = Number(default=0.0, doc="Part of the direction that is scaled.")
    trust_coefficient: Number = Number(
        default=1e-3, open_low=True, doc="Length of a step in proportion to the tensor's norm.")
    eps: Number = Number(default=0.0, doc="Added to the norm of the direction.")

    state_names: ClassVar[tuple[str, ...]] = ("velocity",)
    needs_whole_tensors = True

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, m = group["lr"], group["momentum"]
        x, y = (m, lr) if group["nesterov"] else (1.0, 0.0)
        return lars(trust_coefficient=group["trust_coefficient"], trust_eps=group["eps"],
                    m=m, k=lr, x=x, y=y, wd=group["weight_decay"])


class LAMB(Optimizer):
    r"""Adam over trust ratios.

    With m and v as in `Adam` and ``r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
    + weight_decay * p``: ``p -= lr |p| / |r| r`` per tensor, ``p -= lr r`` where a norm is 0.
    Equals optax's `lamb`.

    References
    ----------
    Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
    ICLR 2020.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.full(4, 2.0, np.float32)
    >>> fm.LAMB([p], lr=0.25, eps=1e-12).step([np.full(4, 9.0, np.float32)])
    True
    >>> p
    array([1.5, 1.5, 1.5, 1.5], dtype=float32)
    """

    lr: Number = Number(default=1e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.999, doc="Memory of its square.")
    eps: Number = Number(default=1e-6, open_low=True, doc="Added to the root.")
    weight_decay: Number = Number(default=0.0, doc="Part of the direction that is scaled.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square",)
    square_state_names: ClassVar[tuple[str, ...]] = ("square",)
    needs_whole_tensors = True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        b1, b2, t = group["beta1"], group["beta2"], age + 1
        return lamb(trust_coefficient=1.0, trust_eps=0.0, b1=b1, k1=1 - b1, b2=b2, k2=1 - b2,
                    x=1 / (1 - b1 ** t), r=1 / math.sqrt(1 - b2 ** t), eps=group["eps"],
                    wd=group["weight_decay"], lr=group["lr"])


class NovoGrad(Optimizer):
    r"""Momentum over gradients that are divided by the running norm of their tensor.

    With ``n = sqrt(beta2 n^2 + (1 - beta2) |g|^2)``, in a tensor's first step ``n = |g|``:
    ``m = beta1 m + g / (n + eps) + weight_decay * p``, ``p -= lr m``. Equals optax's.

    Notes
    -----
    Its state is one array like the parameter, and one number a tensor.

    References
    ----------
    B. Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments for training
    of deep networks", 2019.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.NovoGrad([p], lr=0.5).step([np.array([3.0, -4.0], np.float32)])
    True
    >>> p.round(3)
    array([-0.3,  0.4], dtype=float32)
    """

    lr: Number = Number(default=1e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the normalised gradient.")
    beta2: Beta = Beta(default=0.25, doc="Memory of the squared norm.")
    eps: Number = Number(default=1e-6, open_low=True, doc="Added to the norm.")
    weight_decay: Number = Number(default=0.0, doc="Added to the normalised gradient.")

    state_names: ClassVar[tuple[str, ...]] = ("mean",)
    needs_whole_tensors = True

    def _state_apart(self, array: Array) -> dict[str, tuple[int, ...]]:
        return {"norm": ()}

    def step(self, grads: Grads) -> bool:
        """Update the parameters in place: see `Optimizer.step`."""
        engine = self._bound_engine()
        now = engine.iterations
        if self._stale:
            self._take_values(engine, now)
            engine.assign([*range(len(engine.params))])
        norms: list[float] = []

        def rows() -> list[Row]:
            norms.extend(map(self._running_norm, range(len(grads)), engine.norms()))
            return list(map(self._row_at, range(len(grads)), norms))

        if not engine.run(grads, rows, now):
            return False
        for own, norm, g in zip(self._apart, norms, grads, strict=True):
            if g is not None:
                own["norm"][...] = norm
        return True

    def _running_norm(self, i: int, norm: float) -> float:
        """Return n of a tensor from the norm of its gradient."""
        engine = self._bound_engine()
        if engine.steps[i]:
            b2 = self._makers[self._kind_of[i]][1]["beta2"]
            norm = math.hypot(math.sqrt(b2) * self._apart[i]["norm"], math.sqrt(1 - b2) * norm)
        largest = float(np.finfo(computed(engine.params[i].dtype)).max)
        return norm if math.isnan(norm) else min(norm, largest)

    def _row_at(self, i: int, norm: float) -> Row:
        engine, group = self._bound_engine(), self._makers[self._kind_of[i]][1]
        divisor = max(norm + group["eps"], float(np.finfo(computed(engine.params[i].dtype)).tiny))
        if math.isnan(norm):        # no coefficient may be a NaN, so the mean becomes one
            divisor = 1.0
            store(engine.state[i][0], norm)
        return novograd(m=group["beta1"], k=1 / divisor, wd=group["weight_decay"], lr=group["lr"])
