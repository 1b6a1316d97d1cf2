"""Relatives of Adam: other second moments, a rectified start, a look ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastmom.kernels import coefficients
from fastmom.optim.adam import adam, adam_row
from fastmom.optim.base import Optimizer, weight_decay
from fastmom.optim.formats import store
from fastmom.optim.hyper import Beta, Flag, Number

if TYPE_CHECKING:
    from fastmom.types import Row

__all__ = ["AdaBelief", "Adamax", "Adan", "RAdam", "Yogi"]


@coefficients("adamax")
def adamax(*, b1: float, k1: float, b2: float, x: float, eps: float, wd: float) -> None:
    """``d = g + wd p;  m = b1 m + k1 d;  u = max(b2 u, |d| + eps);  p -= x m / u``"""


class Adamax(Optimizer):
    r"""Adam with the largest decayed gradient in place of the root mean square.

    With ``d = g + weight_decay * p`` and t the parameter's own step, counted from 1:
    ``m = beta1 m + (1 - beta1) d``, ``u = max(beta2 u, |d| + eps)``,
    ``p -= lr / (1 - beta1^t) * m / u``. Equals PyTorch's.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, section 7.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.Adamax([p], lr=0.5).step([np.array([3.0, -0.1], np.float32)])
    True
    >>> p
    array([-0.5,  0.5], dtype=float32)
    """

    lr: Number = Number(default=2e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.999, doc="Memory of its size.")
    eps: Number = Number(default=1e-8, open_low=True, doc="Added to the gradient's size.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "largest")
    precise_state_names: ClassVar[tuple[str, ...]] = ("largest",)

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        b1 = group["beta1"]
        return adamax(b1=b1, k1=1 - b1, b2=group["beta2"], x=group["lr"] / (1 - b1 ** (age + 1)),
                      eps=group["eps"], wd=group["weight_decay"])


class RAdam(Optimizer):
    r"""Adam that rectifies the variance of its first steps.

    With m, v, d and t as in `Adam`, ``n = 2 / (1 - beta2) - 1`` and
    ``n_t = n - 2 t beta2^t / (1 - beta2^t)``: where ``n_t > 5``,
    ``p -= lr / (1 - beta1^t) * m * rect * sqrt(1 - beta2^t) / (sqrt(v) + eps)`` with
    ``rect = sqrt((n_t - 4) (n_t - 2) n / ((n - 4) (n - 2) n_t))``; before that
    ``p -= lr / (1 - beta1^t) * m``. Equals PyTorch's.

    References
    ----------
    L. Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.RAdam([p], lr=0.5).step([np.array([3.0, -0.5], np.float32)])
    True
    >>> p
    array([-1.5 ,  0.25], dtype=float32)
    """

    lr: Number = Number(default=1e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.999, doc="Memory of its square.")
    eps: Number = Number(default=1e-8, open_low=True, doc="Added to the root.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    decoupled_weight_decay: Flag = Flag(
        default=False, doc="Shrink the parameters by ``1 - lr * weight_decay`` instead.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square",)
    square_state_names: ClassVar[tuple[str, ...]] = ("square",)

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        b1, b2, t = group["beta1"], group["beta2"], age + 1
        x, power = group["lr"] / (1 - b1 ** t), b2 ** t
        limit = 2 / (1 - b2) - 1
        length = limit - 2 * t * power / (1 - power)
        if length <= 5:         # Adam's rule with 1 for its divisor
            return adam_row(adam, group, t, x, 0.0, r=0.0, eps=1.0)
        rect = math.sqrt((length - 4) * (length - 2) * limit
                         / ((limit - 4) * (limit - 2) * length))
        return adam_row(adam, group, t, x * rect * math.sqrt(1 - power), 0.0, r=1.0)


@coefficients("yogi")
def yogi(*, b1: float, k1: float, k2: float, x: float, r: float, eps: float, wd: float) -> None:
    """``d = g + wd p;  m = b1 m + k1 d;  v -= k2 sign(v - d^2) d^2;
    p -= x m / (r sqrt(v) + eps)``"""


class Yogi(Optimizer):
    r"""Adam whose mean square grows and shrinks by bounded steps.

    With m, d and t as in `Adam`: ``v -= (1 - beta2) sign(v - d^2) d^2``,
    ``p -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)``. Equals optax's, in which
    both m and v start at `initial_accumulator`.

    References
    ----------
    M. Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.Yogi([p], lr=0.5).step([np.array([3.0, -1.0], np.float32)])
    True
    >>> p.round(2)
    array([-0.5,  0.5], dtype=float32)
    """

    lr: Number = Number(default=1e-2, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.999, doc="``1 - beta2`` is the share that v moves in a step.")
    eps: Number = Number(default=1e-3, open_low=True, doc="Added to the root.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    initial_accumulator: Number = Number(
        default=1e-6, at_binding=True,
        doc="Start of m and v. No schedule, and fixed once the optimizer has parameters.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square",)

    def _bound(self, first: int) -> None:
        for state, i in list(zip(self._buffers(), self._group_of, strict=True))[first:]:
            for name in self.state_names:
                store(state[name], self.param_groups[i]["initial_accumulator"])

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        b1, b2, t = group["beta1"], group["beta2"], age + 1
        return yogi(b1=b1, k1=1 - b1, k2=1 - b2, x=group["lr"] / (1 - b1 ** t),
                    r=1 / math.sqrt(1 - b2 ** t), eps=group["eps"], wd=group["weight_decay"])


@coefficients("adabelief")
def adabelief(*, b1: float, k1: float, b2: float, k2: float, e: float, x: float, r: float,
              eps: float, wd: float, keep: float) -> None:
    """``d = g + wd p;  m = b1 m + k1 d;  v = b2 v + k2 (d - m)^2 + e;
    p = keep p - x m / (r sqrt(v) + eps)``"""


class AdaBelief(Optimizer):
    r"""Adam over the deviation of the gradient from its mean.

    With m, d and t as in `Adam`: ``v = beta2 v + (1 - beta2) (d - m)^2 + eps_root``,
    ``p -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)``. Equals optax's.

    References
    ----------
    J. Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed
    gradients", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float64)
    >>> fm.AdaBelief([p], lr=0.5).step([np.array([3.0, -1.0])])
    True
    >>> p.round(3)          # the first step is 1 / beta1 times Adam's
    array([-0.556,  0.556])
    """

    lr: Number = Number(default=1e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.9, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.999, doc="Memory of the squared deviation.")
    eps: Number = Number(default=1e-16, open_low=True, doc="Added to the root.")
    eps_root: Number = Number(default=1e-16, doc="Added to the squared deviation.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    decoupled_weight_decay: Flag = Flag(
        default=False, doc="Shrink the parameters by ``1 - lr * weight_decay`` instead.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "variance")
    precise_state_names: ClassVar[tuple[str, ...]] = ("variance",)
    square_state_names: ClassVar[tuple[str, ...]] = ("variance",)

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        b1, b2, t = group["beta1"], group["beta2"], age + 1
        wd, keep = weight_decay(group, group["lr"])
        return adabelief(b1=b1, k1=1 - b1, b2=b2, k2=1 - b2, e=group["eps_root"],
                         x=group["lr"] / (1 - b1 ** t), r=1 / math.sqrt(1 - b2 ** t),
                         eps=group["eps"], wd=wd, keep=keep)


@coefficients("adan")
def adan(*, b1: float, k1: float, b2: float, k2: float, b3: float, k3: float, z: float, x: float,
         y: float, r: float, e: float, eps: float, keep: float) -> None:
    """``h = z (g - g of the step before);  m = b1 m + k1 g;  v = b2 v + k2 h;
    q = b3 q + k3 (g + k2 h)^2;  p = keep p - (x m + y v) / (sqrt(r q + e) + eps)``"""


class Adan(Optimizer):
    r"""Adaptive Nesterov momentum from the change of the gradient.

    With ``h = g - g_before``, 0 in a parameter's first step: ``m = beta1 m + (1 - beta1) g``,
    ``v = beta2 v + (1 - beta2) h``, ``q = beta3 q + (1 - beta3) (g + (1 - beta2) h)^2``,
    ``p = (1 - lr weight_decay) p - lr (m / (1 - beta1^t) + (1 - beta2) v / (1 - beta2^t))
    / (sqrt(q / (1 - beta3^t) + eps_root) + eps)``. Equals optax's. The paper counts the betas the
    other way round: its beta is ``1 - beta`` here.

    References
    ----------
    X. Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models",
    2022.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.Adan([p], lr=0.5).step([np.array([3.0, -1.0], np.float32)])
    True
    >>> p.round(3)
    array([-0.5,  0.5], dtype=float32)
    """

    lr: Number = Number(default=1e-3, doc="Learning rate.")
    beta1: Beta = Beta(default=0.98, doc="Memory of the gradient.")
    beta2: Beta = Beta(default=0.92, doc="Memory of its change.")
    beta3: Beta = Beta(default=0.99, doc="Memory of the square of both.")
    eps: Number = Number(default=1e-8, open_low=True, doc="Added to the root.")
    eps_root: Number = Number(default=1e-8, doc="Added inside the root.")
    weight_decay: Number = Number(default=0.0, doc="Decoupled.")

    state_names: ClassVar[tuple[str, ...]] = ("mean", "change", "square", "gradient")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square",)
    square_state_names: ClassVar[tuple[str, ...]] = ("square",)

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, b1, b2, b3 = group["lr"], group["beta1"], group["beta2"], group["beta3"]
        t = age + 1
        return adan(b1=b1, k1=1 - b1, b2=b2, k2=1 - b2, b3=b3, k3=1 - b3, z=float(age > 0),
                    x=lr / (1 - b1 ** t), y=lr * (1 - b2) / (1 - b2 ** t), r=1 / (1 - b3 ** t),
                    e=group["eps_root"], eps=group["eps"], keep=1 - lr * group["weight_decay"])
