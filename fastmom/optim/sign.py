"""Steps along a sign: every element moves by lr, or by a length of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastmom.kernels import coefficients
from fastmom.optim.base import Optimizer
from fastmom.optim.formats import store
from fastmom.optim.hyper import Momentum, Number

if TYPE_CHECKING:
    from fastmom.types import Row

__all__ = ["Lion", "Rprop", "Signum"]


@coefficients("sign")
def sign(*, b1: float, k1: float, b2: float, k2: float, lr: float, keep: float) -> None:
    """``p = keep p - lr sign(b1 v + k1 g);  v = b2 v + k2 g``"""


class Signum(Optimizer):
    r"""SignSGD with momentum.

    ``v = m v + (1 - m) g``, ``p = (1 - lr weight_decay) p - lr sign(v)``. Without momentum it is
    SignSGD. The sign of 0 is 0, as in NumPy.

    References
    ----------
    J. Bernstein et al., "signSGD: compressed optimisation for non-convex problems", ICML 2018.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(3, np.float32)
    >>> fm.Signum([p], lr=0.5).step([np.array([3.0, -0.1, 0.0], np.float32)])
    True
    >>> p
    array([-0.5,  0.5,  0. ], dtype=float32)
    """

    lr: Number = Number(default=1e-3, doc="Distance that each element moves in a step.")
    momentum: Momentum = Momentum(default=0.9, doc="Memory of the gradient.")
    weight_decay: Number = Number(default=0.0, doc="Decoupled.")

    state_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, m = group["lr"], group["momentum"]
        return sign(b1=m, k1=1 - m, b2=m, k2=1 - m, lr=lr, keep=1 - lr * group["weight_decay"])


class Lion(Optimizer):
    r"""Evolved sign momentum.

    ``p = (1 - lr weight_decay) p - lr sign(beta1 v + (1 - beta1) g)``,
    ``v = beta2 v + (1 - beta2) g``. Equals optax's `lion`.

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(3, np.float32)
    >>> fm.Lion([p], lr=0.5).step([np.array([3.0, -0.1, 0.0], np.float32)])
    True
    >>> p
    array([-0.5,  0.5,  0. ], dtype=float32)
    """

    lr: Number = Number(
        default=1e-4,
        doc="Distance that each element moves in a step; a third to a tenth of AdamW's.")
    beta1: Number = Number(default=0.9, high=1.0, doc="Weight of the velocity in the step.")
    beta2: Number = Number(default=0.99, high=1.0, doc="Memory of the gradient.")
    weight_decay: Number = Number(default=0.0, doc="Decoupled; three to ten times AdamW's.")

    state_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, b1, b2 = group["lr"], group["beta1"], group["beta2"]
        return sign(b1=b1, k1=1 - b1, b2=b2, k2=1 - b2, lr=lr,
                    keep=1 - lr * group["weight_decay"])


@coefficients("rprop")
def rprop(*, lr: float, plus: float, minus: float, low: float, high: float) -> None:
    """``e = sign(g) h;  r = r times plus where e > 0, minus where e < 0, from low to high;
    g = 0 where e < 0;  p -= lr r sign(g);  h = g``"""


class Rprop(Optimizer):
    r"""Resilient propagation: each element's step grows while the gradient keeps its sign.

    Each element moves by ``lr * ratio`` against the sign of its gradient. Its ratio, at first 1, is
    multiplied by `eta_plus` where the sign is that of the step before and by `eta_minus` where it
    has turned (there the element rests for a step), so that ``lr * ratio`` stays from `step_min`
    to `step_max`. For gradients of all samples at once, not of batches. What scales or limits
    gradients would have no effect and raises. Equals PyTorch's, in which lr has no effect after the
    first step.

    References
    ----------
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", 1993.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(3)
    >>> opt = fm.Rprop([p], lr=0.5)
    >>> [opt.step([np.array(g)]) for g in ([3.0, -0.1, 0.0], [0.2, 0.2, 0.0])]
    [True, True]
    >>> p
    array([-1.1,  0.5,  0. ])
    """

    lr: Number = Number(default=1e-2, open_low=True, doc="Length of the first step.")
    eta_minus: Number = Number(default=0.5, open_low=True, high=1.0,
                               doc="Factor where the sign has turned.")
    eta_plus: Number = Number(default=1.2, low=1.0, doc="Factor where it has not.")
    step_min: Number = Number(default=1e-6, open_low=True, doc="Least length of a step.")
    step_max: Number = Number(default=50.0, open_low=True, doc="Greatest length of a step.")

    state_names: ClassVar[tuple[str, ...]] = ("gradient", "ratio")

    def _bound(self, first: int) -> None:
        for state in self._buffers()[first:]:
            store(state["ratio"], 1.0)

    def _check_together(self, values: Mapping[str, Any]) -> None:
        super()._check_together(values)
        for name in ("clip_norm", "clip_norm_per_tensor", "clip_value", "grad_scale"):
            if name in values and values[name] != self._shared_hypers[name].default:
                raise ValueError(f"{name}={values[name]} would have no effect: Rprop follows the "
                                 f"signs of gradients alone")
        low, high = values.get("step_min"), values.get("step_max")
        if not (low is None or callable(low) or callable(high)) and low > high:
            raise ValueError(f"step_min={low} must not be above step_max={high}")

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr = group["lr"]
        return rprop(lr=lr, plus=group["eta_plus"], minus=group["eta_minus"],
                     low=group["step_min"] / lr, high=group["step_max"] / lr)
