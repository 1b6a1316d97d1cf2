"""Trust ratios: each tensor's step in proportion to its own norm, for very large batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastmom.kernels import coefficients
from fastmom.optim.base import Optimizer
from fastmom.optim.hyper import Flag, Momentum, Number

if TYPE_CHECKING:
    from typing import Unpack

    from fastmom.types import Common, Params, Row


@coefficients("lars")
def lars(*, trust_coefficient: float, trust_eps: float, m: float, k: float, x: float, y: float,
         wd: float) -> None:
    """``d = trust (g + wd p);  v = m v + k d;  p -= x v + y d``"""


@coefficients("lamb")
def lamb(*, trust_coefficient: float, trust_eps: float, b1: float, k1: float, b2: float, k2: float,
         x: float, r: float, eps: float, wd: float, lr: float) -> None:
    """``m = b1 m + k1 g;  v = b2 v + k2 g^2;
    p -= lr trust (x m / (r sqrt(v) + eps) + wd p)``"""


class LARS(Optimizer):
    r"""Layer-wise adaptive rate scaling: momentum over trust ratios.

    With ``r = g + weight_decay * p`` and ``d = trust_coefficient |p| / (|r| + eps) r`` per tensor
    (``d = r`` where a norm is 0): ``v = m v + lr d``, ``p -= v``, with Nesterov
    ``p -= lr d + m v``. Equals optax's `lars`; the paper divides by ``|g| + weight_decay |p|``.

    Parameters
    ----------
    params : list of ndarray, or list of dict, or None
        See `Optimizer`.
    lr : float, default 0.1
        Learning rate, >= 0.
    momentum : float, default 0.9
        From 0 to 1.
    nesterov : bool, default False
    weight_decay : float, default 0
        >= 0; part of the direction that is scaled.
    trust_coefficient : float, default 0.001
        > 0.
    eps : float, default 0
        >= 0.
    **common
        Clipping and the like: see `Optimizer`.

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

    lr = Number(0.1)
    momentum = Momentum(0.9)
    nesterov = Flag(False)
    weight_decay = Number(0.0)
    trust_coefficient = Number(1e-3, open_low=True)
    eps = Number(0.0)

    state_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(self, params: Params | None = None, lr: float = 0.1, momentum: float = 0.9,
                 nesterov: bool = False, weight_decay: float = 0.0,
                 trust_coefficient: float = 1e-3, eps: float = 0.0,
                 **common: Unpack[Common]) -> None:
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient, "eps": eps}, common)

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

    Parameters
    ----------
    params : list of ndarray, or list of dict, or None
        See `Optimizer`.
    lr : float, default 1e-3
        Learning rate, >= 0.
    beta1, beta2 : float, default 0.9 and 0.999
        From 0 to below 1.
    eps : float, default 1e-6
        > 0.
    weight_decay : float, default 0
        >= 0; part of the direction that is scaled.
    **common
        Clipping and the like: see `Optimizer`.

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

    lr = Number(1e-3)
    beta1 = Number(0.9, 0.0, 1.0, open_high=True)
    beta2 = Number(0.999, 0.0, 1.0, open_high=True)
    eps = Number(1e-6, open_low=True)
    weight_decay = Number(0.0)

    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")

    def __init__(self, params: Params | None = None, lr: float = 1e-3, beta1: float = 0.9,
                 beta2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.0,
                 **common: Unpack[Common]) -> None:
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps,
                                  "weight_decay": weight_decay}, common)

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        b1, b2, t = group["beta1"], group["beta2"], age + 1
        return lamb(trust_coefficient=1.0, trust_eps=0.0, b1=b1, k1=1 - b1, b2=b2, k2=1 - b2,
                    x=1 / (1 - b1 ** t), r=1 / math.sqrt(1 - b2 ** t), eps=group["eps"],
                    wd=group["weight_decay"], lr=group["lr"])
