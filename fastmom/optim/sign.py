"""Steps along the sign of a momentum: every element moves by lr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastmom.kernels import coefficients
from fastmom.optim.base import Optimizer
from fastmom.optim.hyper import Momentum, Number

if TYPE_CHECKING:
    from fastmom.types import Row


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
