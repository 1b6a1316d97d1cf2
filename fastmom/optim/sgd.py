"""Gradient descent with one momentum or several."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastmom.kernels import coefficients
from fastmom.optim.base import Optimizer, weight_decay
from fastmom.optim.hyper import Choice, Flag, Momentum, Number, Numbers

if TYPE_CHECKING:
    from fastmom.kernels import Engine
    from fastmom.types import Row

__all__ = ["QHM", "SGD", "AggMo"]


@coefficients("sgd")
def sgd(*, lr: float, wd: float, keep: float) -> None:
    """``p = keep p - lr (g + wd p)``"""


@coefficients("momentum")
def momentum(*, m: float, k: float, x: float, y: float, wd: float, keep: float) -> None:
    """``d = g + wd p;  v = m v + k d;  p = keep p - (x v + y d)``"""


@coefficients("heavy_ball")
def heavy_ball(*, m: float, k: float, x: float) -> None:
    """``v = m v + k g;  p -= x v``"""


@coefficients("nesterov")
def nesterov(*, m: float, k: float, x: float, y: float) -> None:
    """``v = m v + k g;  p -= x v + y g``"""


@coefficients("aggmo")
def aggmo(*, step: float, wd: float, count: float, m0: float, m1: float = 0.0, m2: float = 0.0,
          m3: float = 0.0) -> None:
    """``v_j = m_j v_j + (g + wd p);  p -= step sum(v_j)`` for the first `count` momenta."""


class SGD(Optimizer):
    r"""Gradient descent with momentum, Nesterov momentum, dampening and weight decay.

    With ``d = g + weight_decay * p`` and ``m`` the momentum, the conventions are

    ======= =============================== =============== ===============================
    name    velocity                        parameters      with Nesterov
    ======= =============================== =============== ===============================
    "torch" ``v = m v + (1 - dampening) d`` ``p -= lr v``   ``p -= lr (d + m v)``
    "keras" ``v = m v - lr d``              ``p += v``      ``p += m v - lr d``
    "ema"   ``v = m v + (1 - m) d``         ``p -= lr v``   ``p -= lr (m v + (1 - m) d)``
    ======= =============================== =============== ===============================

    "torch" is also that of TensorFlow.js. With constant `lr` the first two take the same path;
    once `lr` changes they differ, since Keras's velocity holds the old one. "ema" is exponential
    smoothing of the gradient, with steps ``1 - m`` times as long.

    Notes
    -----
    `restart` is O'Donoghue and Candes's gradient scheme, in the pass of the step: g is the gradient
    after all clipping, without `weight_decay`, and v the velocity that it has just moved. The
    parameters stay where they are, so with Nesterov's momentum at the point looked ahead at; that
    costs no second pass, and the momentum begins anew from there.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    Y. Nesterov, "A method of solving a convex programming problem with convergence rate
    O(1/k^2)", 1983. I. Sutskever et al., "On the importance of initialization and momentum in deep
    learning", ICML 2013. B. O'Donoghue and E. Candes, "Adaptive restart for accelerated gradient
    schemes", 2015.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.ones(3, np.float32)
    >>> opt = fm.SGD([p], lr=0.5, momentum=0.9)
    >>> g = np.ones(3, np.float32)
    >>> opt.step([g]), opt.step([g])
    (True, True)
    >>> p
    array([-0.45, -0.45, -0.45], dtype=float32)
    """

    lr: Number = Number(default=0.01, doc="Learning rate.")
    momentum: Momentum = Momentum(
        default=0.0,
        doc="Without it no velocity is read or written, and the conventions agree.")
    dampening: Number = Number(
        default=0.0, high=1.0,
        doc='Convention "torch" with momentum and without Nesterov only. As in PyTorch the first '
            "step of a parameter sets ``v = d``.")
    nesterov: Flag = Flag(
        default=False,
        doc="Look ahead along the velocity. Has no effect on the formula while momentum is 0.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    decay: Number = Number(
        default=0.0,
        doc="Time-based decay as in Keras 2: ``lr / (1 + decay * iterations)``.")
    decoupled_weight_decay: Flag = Flag(
        default=False, kw_only=True,
        doc="Shrink the parameters by ``1 - lr * weight_decay`` instead, as AdamW does.")
    convention: Choice = Choice(
        default="torch", words=("torch", "keras", "ema"), kw_only=True,
        doc="Formula of the velocity: see above.")
    restart: Flag = Flag(
        default=False, kw_only=True,
        doc="Set the velocities of a group to 0 after a step along which its gradient rose: where "
            "``g v < 0``, summed over the group, or ``g v > 0`` in Keras's convention.")

    takes_rows: ClassVar[bool] = True
    state_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def _idle_state(self, group: Mapping[str, Any]) -> Collection[str]:
        return () if group["momentum"] else ("velocity",)

    def _check_together(self, values: Mapping[str, Any]) -> None:
        super()._check_together(values)
        if values.get("dampening"):
            for other, wanted in (("convention", "torch"), ("nesterov", False)):
                if values[other] != wanted:
                    raise ValueError(f"dampening={values['dampening']} needs {other}={wanted!r}, "
                                     f"not {values[other]!r}")
            if values["momentum"] == 0:
                raise ValueError(f"dampening={values['dampening']} needs momentum > 0, not 0.0")
        if values.get("restart") and values["momentum"] == 0:
            raise ValueError("restart=True needs momentum > 0, not 0.0")
        if values.get("restart") and self._is_part:
            raise ValueError("restart=True needs the gradients of all parameters, and these are "
                             "divided among ranks")

    def _needs_whole_gradients(self) -> str | None:
        restarts = any(group["restart"] for group in self.param_groups)
        return f"restart=True of {type(self).__name__}" if restarts else None

    def _no_rows(self, engine: Engine) -> str | None:
        if self._needs_whole_gradients():
            return "and restart=True sets the velocities of all rows to 0; leave it out"
        return super()._no_rows(engine)

    def _take_values(self, engine: Engine, now: int) -> None:
        super()._take_values(engine, now)
        if self._needs_whole_gradients() or engine.restarts:
            engine.no_rows = self._no_rows(engine)
            groups = enumerate(group.at(now) for group in self.param_groups)
            engine.restart([(-1.0 if group["convention"] == "keras" else 1.0,
                             [j for j, own in enumerate(self._group_of) if own == i])
                            for i, group in groups if group["restart"] and group["momentum"]])

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return not (group["decay"] or group["dampening"])

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr = group["lr"] / (1 + group["decay"] * self.iterations)
        m = group["momentum"]
        wd, keep = weight_decay(group, lr)
        if m == 0:
            return sgd(lr=lr, wd=wd, keep=keep)
        convention = group["convention"]
        k, x, y = 1.0, lr, 0.0          # of the gradient in v, of v and of the gradient in the step
        if convention == "keras":
            k, x = -lr, -1.0
        elif convention == "ema":
            k = 1 - m
        elif age:
            k = 1 - group["dampening"]
        if group["nesterov"]:
            x, y = x * m, x * k
        if wd == 0 and keep == 1:
            return nesterov(m=m, k=k, x=x, y=y) if y else heavy_ball(m=m, k=k, x=x)
        return momentum(m=m, k=k, x=x, y=y, wd=wd, keep=keep)


class QHM(Optimizer):
    r"""Quasi-hyperbolic momentum: a mean of the plain and the momentum step.

    With ``d = g + weight_decay * p``: ``v = m v + (1 - m) d``, ``p -= lr ((1 - nu) d + nu v)``.
    With ``nu = 0`` it is plain descent, with ``nu = 1`` `SGD` of convention "ema", with ``nu = m``
    its Nesterov form.

    References
    ----------
    J. Ma and D. Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", ICLR 2019.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.ones(2, np.float32)
    >>> fm.QHM([p], lr=0.5, momentum=0.5, nu=0.5).step([np.ones(2, np.float32)])
    True
    >>> p
    array([0.625, 0.625], dtype=float32)
    """

    lr: Number = Number(default=0.01, doc="Learning rate.")
    momentum: Momentum = Momentum(default=0.999, doc="The paper's advice.")
    nu: Number = Number(
        default=0.7, high=1.0,
        doc="Weight of the momentum step; the default is the paper's advice.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")

    state_names: ClassVar[tuple[str, ...]] = ("velocity",)
    # By default its memory is so long that, rounded, it would stand still.
    slow_state_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        lr, m, nu = group["lr"], group["momentum"], group["nu"]
        return momentum(m=m, k=1 - m, x=lr * nu, y=lr * (1 - nu), wd=group["weight_decay"],
                        keep=1.0)


class AggMo(Optimizer):
    r"""Aggregated momentum: the mean step of several velocities.

    With ``d = g + weight_decay * p``: ``v_j = m_j v_j + d`` for each of the K momenta,
    ``p -= lr / K * sum(v_j)``. Small momenta damp the oscillations of large ones.

    References
    ----------
    J. Lucas, S. Sun, R. Zemel and R. Grosse, "Aggregated momentum: stability through passive
    damping", ICLR 2019.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.ones(2, np.float32)
    >>> opt = fm.AggMo([p], lr=0.5, momenta=(0.0, 0.5))
    >>> [opt.step([np.ones(2, np.float32)]) for _ in range(2)]
    [True, True]
    >>> p
    array([-0.125, -0.125], dtype=float32)
    """

    lr: Number = Number(default=0.01, doc="Learning rate.")
    momenta: Numbers = Numbers(
        default=(0.0, 0.9, 0.99), one=Number(0.0, high=1.0), least=1, most=4,
        doc="Each from 0 to 1.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")

    # A velocity beyond the number of momenta is never touched, so it takes no memory.
    state_names: ClassVar[tuple[str, ...]] = tuple(f"velocity{j}" for j in range(4))

    def _idle_state(self, group: Mapping[str, Any]) -> Collection[str]:
        return self.state_names[len(group["momenta"]):]

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        momenta = group["momenta"]
        return aggmo(step=group["lr"] / len(momenta), wd=group["weight_decay"], count=len(momenta),
                     **{f"m{j}": m for j, m in enumerate(momenta)})
