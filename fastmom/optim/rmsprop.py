"""Steps divided by the root of the squared gradients, remembered or summed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastmom.kernels import coefficients
from fastmom.optim.base import Optimizer
from fastmom.optim.hyper import Flag, Momentum, Number

if TYPE_CHECKING:
    from fastmom.types import Row

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


@coefficients("rmsprop")
def rmsprop(*, lr: float, b: float, k: float, e: float, eps: float, wd: float) -> None:
    """``d = g + wd p;  q = b q + k d^2;  p -= lr d / (sqrt(q + e) + eps)``"""


@coefficients("rmsprop_momentum")
def rmsprop_momentum(*, x: float, y: float, b: float, k: float, e: float, eps: float, wd: float,
                     m: float) -> None:
    """As `rmsprop`, with ``z = d / (sqrt(q + e) + eps);  v = m v + z;  p -= x v + y z``."""


@coefficients("rmsprop_centered")
def rmsprop_centered(*, x: float, y: float, b: float, k: float, e: float, eps: float, wd: float,
                     m: float) -> None:
    """As `rmsprop_momentum`, with ``h = b h + k d`` and ``max(q - h^2, 0)`` for q."""


class RMSprop(Optimizer):
    r"""Gradient over its root mean square, with momentum if wanted.

    With ``d = g + weight_decay * p``: ``q = beta2 q + (1 - beta2) d^2``, and centered also
    ``h = beta2 h + (1 - beta2) d``; ``z = d / (sqrt(q) + eps)``, ``v = m v + z``, ``p -= lr v``,
    with Nesterov ``p -= lr (m v + z)``, centered with ``max(q - h^2, 0)`` in place of q: of steady
    gradients rounding may leave less than 0. Equals PyTorch's, and with `eps_inside_root` those of
    Keras, TensorFlow and optax, as long as lr is constant or there is no momentum: theirs is of the
    step times lr.

    References
    ----------
    G. Hinton, "Neural networks for machine learning", lecture 6e, 2012. A. Graves, "Generating
    sequences with recurrent neural networks", 2013 (centered).

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.RMSprop([p], lr=0.5, beta2=0.75).step([np.full(2, 3.0, np.float32)])
    True
    >>> p
    array([-1., -1.], dtype=float32)
    """

    lr: Number = Number(default=0.01, doc="Learning rate.")
    beta2: Number = Number(
        default=0.99, high=1.0, doc="Memory of the squares; PyTorch calls it alpha, Keras rho.")
    eps: Number = Number(default=1e-8, open_low=True, doc="Added to the root.")
    momentum: Momentum = Momentum(default=0.0, doc="Of the step.")
    centered: Flag = Flag(default=False, doc="Divide by the standard deviation instead.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    nesterov: Flag = Flag(default=False, doc="Look ahead along the velocity.")
    eps_inside_root: Flag = Flag(
        default=False, doc="Divide by ``sqrt(q + eps)`` instead, as Keras and TensorFlow do.")

    # A buffer that the chosen form does not use is never touched, so it takes no memory.
    state_names: ClassVar[tuple[str, ...]] = ("square", "velocity", "mean")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square", "mean")

    def _idle_state(self, group: Mapping[str, Any]) -> Collection[str]:
        if group["centered"]:
            return ()
        return ("mean",) if group["momentum"] else ("velocity", "mean")

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, b, m, wd = group["lr"], group["beta2"], group["momentum"], group["weight_decay"]
        e, eps = (group["eps"], 0.0) if group["eps_inside_root"] else (0.0, group["eps"])
        if not (m or group["centered"]):
            return rmsprop(lr=lr, b=b, k=1 - b, e=e, eps=eps, wd=wd)
        rule = rmsprop_centered if group["centered"] else rmsprop_momentum
        x, y = (lr * m, lr) if group["nesterov"] else (lr, 0.0)
        return rule(x=x, y=y, b=b, k=1 - b, e=e, eps=eps, wd=wd, m=m)

    def _from_format_1(self, state: dict[str, Any]) -> dict[str, Any]:
        state = super()._from_format_1(state)
        state["groups"] = [{**group, "nesterov": False, "eps_inside_root": False}
                           for group in state["groups"]]
        return state


class Adagrad(Optimizer):
    r"""Gradient over the root of the sum of all squares so far.

    With ``d = g + weight_decay * p``: ``q += d^2``, ``p -= lr_t d / (sqrt(q) + eps)``,
    ``lr_t = lr / (1 + decay * (t - 1))`` at a parameter's step t. Equals PyTorch's.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 2011.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.Adagrad([p], lr=0.5, initial_accumulator=16.0).step([np.full(2, 3.0, np.float32)])
    True
    >>> p
    array([-0.3, -0.3], dtype=float32)
    """

    lr: Number = Number(default=0.01, doc="Learning rate.")
    decay: Number = Number(default=0.0, doc="Of the learning rate: see above.")
    eps: Number = Number(default=1e-10, open_low=True, doc="Added to the root.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    initial_accumulator: Number = Number(
        default=0.0, at_binding=True,
        doc="Start of the sums. No schedule, and fixed once the optimizer has parameters.")

    takes_rows: ClassVar[bool] = True
    state_names: ClassVar[tuple[str, ...]] = ("square",)
    precise_state_names: ClassVar[tuple[str, ...]] = ("square",)

    def _bound(self, first: int) -> None:
        for sums, i in list(zip(self._buffers(), self._group_of, strict=True))[first:]:
            sums["square"][...] = self.param_groups[i]["initial_accumulator"]

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return not group["decay"]

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr = group["lr"] / (1 + group["decay"] * age)
        return rmsprop(lr=lr, b=1.0, k=1.0, e=0.0, eps=group["eps"], wd=group["weight_decay"])


@coefficients("adadelta")
def adadelta(*, lr: float, b: float, k: float, eps: float, wd: float) -> None:
    """``d = g + wd p;  q = b q + k d^2;  u = d sqrt((w + eps) / (q + eps));
    w = b w + k u^2;  p -= lr u``"""


class Adadelta(Optimizer):
    r"""Gradient over its root mean square, times that of the steps so far.

    With ``d = g + weight_decay * p``: ``q = beta2 q + (1 - beta2) d^2``,
    ``u = sqrt((w + eps) / (q + eps)) d``, ``w = beta2 w + (1 - beta2) u^2``, ``p -= lr u``.
    Equals PyTorch's.

    References
    ----------
    M. D. Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(2, np.float32)
    >>> fm.Adadelta([p], beta2=0.75, eps=1.0).step([np.full(2, 3.0, np.float32)])
    True
    >>> p.round(3)
    array([-1.664, -1.664], dtype=float32)
    """

    lr: Number = Number(default=1.0, doc="Learning rate.")
    beta2: Number = Number(
        default=0.9, high=1.0, doc="Memory of the squares; PyTorch and Keras call it rho.")
    eps: Number = Number(default=1e-6, open_low=True, doc="Added inside both roots.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")

    state_names: ClassVar[tuple[str, ...]] = ("square", "step_square")
    precise_state_names: ClassVar[tuple[str, ...]] = ("square", "step_square")

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        b = group["beta2"]
        return adadelta(lr=group["lr"], b=b, k=1 - b, eps=group["eps"], wd=group["weight_decay"])
