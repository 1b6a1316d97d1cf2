"""Adam: momentum over the root mean square, both corrected for starting at zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from fastmom.kernels import coefficients
from fastmom.optim.base import Optimizer, weight_decay
from fastmom.optim.hyper import Beta, Flag, Number

if TYPE_CHECKING:
    from fastmom.types import Row

__all__ = ["Adam", "AdamW", "NAdam"]


@coefficients("adam")
def adam(*, b1: float, k1: float, b2: float, k2: float, x: float, y: float, r: float, eps: float,
         wd: float, keep: float) -> None:
    """``d = g + wd p;  m = b1 m + k1 d;  v = b2 v + k2 d^2;
    p = keep p - (x m + y d) / (r sqrt(v) + eps)``"""


@coefficients("amsgrad")
def amsgrad(*, b1: float, k1: float, b2: float, k2: float, x: float, y: float, r: float,
            eps: float, wd: float, keep: float) -> None:
    """As `adam`, with the largest v so far in the last line."""


class Adam(Optimizer):
    r"""Adaptive moment estimation.

    With ``d = g + weight_decay * p`` and t the parameter's own step, counted from 1:
    ``m = beta1 m + (1 - beta1) d``, ``v = beta2 v + (1 - beta2) d^2``,
    ``p -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)``.
    Equals PyTorch's and, without `amsgrad`, optax's, which takes the largest of the corrected
    squares. Keras and TensorFlow.js add `eps` to the uncorrected root, so their eps is smaller by
    ``sqrt(1 - beta2^t)``.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015. S. J. Reddi,
    S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018 (AMSGrad).

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.Adam([p], lr=0.5).step([np.array([3.0, -0.1], np.float32)])
    True
    >>> p
    array([-0.5,  0.5], dtype=float32)
    """

    lr: Number = Number(default=1e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.999, doc="Memory of its square.")
    eps: Number = Number(default=1e-8, open_low=True, doc="Added to the root.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    decoupled_weight_decay: Flag = Flag(
        default=False,
        doc="Shrink the parameters by ``1 - lr * weight_decay`` instead: `AdamW`.")
    amsgrad: Flag = Flag(
        default=False, doc="Divide by the root of the largest v so far.")

    takes_rows: ClassVar[bool] = True
    # Without AMSGrad the largest square is never touched, so it takes no memory.
    state_names: ClassVar[tuple[str, ...]] = ("mean", "square", "largest_square")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square", "largest_square")
    square_state_names: ClassVar[tuple[str, ...]] = ("square",)

    def _idle_state(self, group: Mapping[str, Any]) -> Collection[str]:
        return () if group["amsgrad"] else ("largest_square",)

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        rule = amsgrad if group["amsgrad"] else adam
        return adam_row(rule, group, age + 1, group["lr"] / (1 - group["beta1"] ** (age + 1)), 0.0)


class AdamW(Adam):
    r"""Adam with decoupled weight decay: `Adam` with other defaults.

    ``p = (1 - lr weight_decay) p`` before Adam's step. Equals PyTorch's and, without `amsgrad`,
    optax's.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.ones(2, np.float32)
    >>> fm.AdamW([p], lr=0.5, weight_decay=0.5).step([np.array([3.0, -0.1], np.float32)])
    True
    >>> p
    array([0.25, 1.25], dtype=float32)
    """

    weight_decay: Number = Number(default=0.01, doc="Shrinks the parameters.")
    decoupled_weight_decay: Flag = Flag(default=True, doc="False makes it `Adam`.")


class NAdam(Optimizer):
    r"""Adam with Nesterov momentum.

    With ``mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)`` and m, v, d as in `Adam`:
    ``p -= lr [(1 - mu_t) / (1 - prod mu_1..t) d + mu_(t+1) / (1 - prod mu_1..t+1) m]
    / (sqrt(v / (1 - beta2^t)) + eps)``. Equals PyTorch's for constant `beta1`.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.NAdam([p]).step([np.array([3.0, -0.1], np.float32)])
    True
    >>> bool((p < 0)[0] and (p > 0)[1])
    True
    """

    lr: Number = Number(default=2e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.999, doc="Memory of its square.")
    eps: Number = Number(default=1e-8, open_low=True, doc="Added to the root.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    decoupled_weight_decay: Flag = Flag(
        default=False, doc="Shrink the parameters by ``1 - lr * weight_decay`` instead.")
    momentum_decay: Number = Number(
        default=4e-3, doc="How fast the momentum rises from ``beta1 / 2`` to `beta1`.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square",)
    square_state_names: ClassVar[tuple[str, ...]] = ("square",)

    @staticmethod
    def momentum_product(beta1: float, decay: float, t: int) -> float:
        """Return the product of the momenta of steps 1 to t; 0 once 1 minus it rounds to 1.

        At most some 2,500 factors are multiplied and kept, whatever t: for a large `decay` the
        momentum soon is `beta1` itself, for a small one the product soon vanishes.
        """
        products = nadam_products(beta1, decay)
        while len(products) <= t and products[-1] > VANISHED:
            factor = nadam_momentum(beta1, decay, len(products))
            if factor == beta1:
                break
            products.append(products[-1] * factor)
        rest = t - (len(products) - 1)
        if rest <= 0:
            return products[t]
        return products[-1] * beta1 ** rest if products[-1] > VANISHED else 0.0

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        beta1, decay, t = group["beta1"], group["momentum_decay"], age + 1
        now, then = (self.momentum_product(beta1, decay, age) for age in (t, t + 1))
        x = group["lr"] * nadam_momentum(beta1, decay, t + 1) / (1 - then)
        y = group["lr"] * (1 - nadam_momentum(beta1, decay, t)) / (1 - now)
        return adam_row(adam, group, t, x, y)


def adam_row(rule: Callable[..., Row], group: Mapping[str, Any], t: int, x: float, y: float,
             r: float | None = None, eps: float | None = None) -> Row:
    """Return the row of a step along ``x m + y d``; by default r corrects the bias of v."""
    b1, b2 = group["beta1"], group["beta2"]
    wd, keep = weight_decay(group, group["lr"])
    return rule(b1=b1, k1=1 - b1, b2=b2, k2=1 - b2, x=x, y=y,
                r=1 / math.sqrt(1 - b2 ** t) if r is None else r,
                eps=group["eps"] if eps is None else eps, wd=wd, keep=keep)


VANISHED = 2.0 ** -54       # 1 minus this, or less, is 1


def nadam_momentum(beta1: float, decay: float, t: int) -> float:
    return float(beta1 * (1 - 0.5 * 0.96 ** (t * decay)))


@lru_cache(maxsize=16)
def nadam_products(beta1: float, decay: float) -> list[float]:
    """Return the list of products that `NAdam.momentum_product` has computed so far."""
    return [1.0]
