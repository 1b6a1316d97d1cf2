"""YellowFin: momentum and learning rate from what the gradients tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastmom.optim.base import Optimizer
from fastmom.optim.hyper import Beta, Flag, Integer, Number
from fastmom.optim.sgd import heavy_ball
from fastmom.optim.trust import novograd

if TYPE_CHECKING:
    from fastmom.types import Array, Grads, Row

__all__ = ["YellowFin"]

# Constants of the authors' program
EPS = 1e-6
FIRST_LR = 1e-4         # of the first step, which has no momentum
SLOW = 10               # windows of steps until the learning rate is the tuned one
PROTECTION = 100.0      # how far above the largest a squared norm may count
FARTHEST = 100.0        # that a step goes along its gradient

SURE = 2.0              # standard errors below 0 of a mean that is taken for negative

LARGEST = 1e300         # squared norm, which some may be multiplied with
WIDEST = 100            # steps whose squared norms are kept


class Tuned(NamedTuple):
    """What the latest step was taken with, and the measurements that this follows from."""

    lr: float           # before the factor
    momentum: float
    h_min: float        # range of the curvature
    h_max: float
    variance: float     # of the gradient
    distance: float     # to the optimum


class YellowFin(Optimizer):
    r"""Momentum whose learning rate and momentum are tuned from measurements of the gradients.

    Over all parameters together, with g the gradient after `clip_norm` and the like, and with
    averages that keep a share `beta` of themselves and are corrected for their start at 0: the
    curvature lies between the averages h_min and h_max, in logarithms, of the least and the largest
    ``|g|^2`` of the last `curv_win_width` steps; the variance is ``C = avg |g|^2 - avg g.u``, the
    distance to the optimum ``D = avg (avg |g| / avg |g|^2)``. With x from 0 to 1 that minimizes
    ``x^2 D^2 + (1 - x)^4 C / h_min^2`` and ``k = h_max / h_min``:
    ``m = max(x^2, ((sqrt(k) - 1) / (sqrt(k) + 1))^2)``, ``a = lr (1 - sqrt(m))^2 / h_min``, and
    ``v = m v + g + weight_decay * p``, ``p -= a v``. The learning rate rises over the first ten
    windows, and falls for good: by the factor `beta` in each step in which ``avg g.u`` lies two
    standard errors below 0, where u is the mean gradient that the velocity holds. With `adapt_clip`
    a norm above ``sqrt(h_max)`` is brought down to it, one above ten times that counts as that
    much, and ``a |g|`` is at most 100.

    Notes
    -----
    Equals the authors' program but for the variance and for the fall of the learning rate. They
    subtract ``|avg g|^2`` from ``avg |g|^2``, for which an average of all gradients has to be kept,
    read and written. Here u is ``v`` before the step over the sum of its weights. The noise of the
    new gradient is not in it, so ``g.u`` has the same mean, without a part of the noise. It is
    summed up in the pass of the update and counts from the next step on. So state is that of
    momentum, and so is memory traffic, but for one more reading of the gradients, for their norm.

    Their learning rate never falls, unless by a factor that the user drops: it is in proportion to
    ``1 / h_min``, which grows as gradients vanish, and the momentum depends on no scale. So the
    parameters end up wandering about the optimum as far as the noise of the gradients takes them.
    Then, and not while they make way, a gradient on the average opposes those before it, the more
    the larger the step, which is Pflug's test for a step size that has done its work.

    ``state[0]["measured"]`` holds averages and window, `tuned` what follows from them. A gradient
    that is not finite is not measured, and neither is weight decay.

    References
    ----------
    J. Zhang and I. Mitliagkas, "YellowFin and the art of momentum tuning", MLSys 2019; and
    ``tuner_utils/yellowfin.py`` in JianGoForIt/YellowFin_Pytorch. The fall: G. Ch. Pflug, "On the
    determination of the step size in stochastic quasigradient methods", IIASA CP-83-025, 1983; and
    J. Chee and P. Toulis, "Convergence diagnostics for stochastic gradient descent with constant
    learning rate", AISTATS 2018.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p, rng = np.ones(100), np.random.default_rng(0)
    >>> opt = fm.YellowFin([p])
    >>> for _ in range(1000):
    ...     _ = opt.step([p + rng.standard_normal(100) / 10])
    >>> bool(np.abs(p).mean() < 0.1), bool(0 < opt.tuned.momentum < 1)
    (True, True)
    """

    lr: Number = Number(default=1.0, doc="Factor of the tuned learning rate.")
    weight_decay: Number = Number(default=0.0, doc="L2 penalty added to the gradient.")
    beta: Beta = Beta(default=0.999, kw_only=True, shared=True,
                      doc="How much of the averages a step keeps.")
    curv_win_width: Integer = Integer(
        default=20, low=1, high=WIDEST, kw_only=True, shared=True,
        doc="Steps among which the curvature's range is found.")
    adapt_clip: Flag = Flag(default=True, kw_only=True, shared=True,
                            doc="Limit gradients far above what was usual, and long steps.")

    state_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def _needs_whole_gradients(self) -> str:
        return type(self).__name__

    def _new_state(self, arrays: list[Array], first: int) -> tuple[list[tuple[Array, ...]],
                                                                   list[dict[str, Array]]]:
        state, apart = super()._new_state(arrays, first)
        if first == 0:      # the numbers of all are with the first parameter
            apart[0] = {**apart[0], "measured": np.zeros(len(NAMES) + WIDEST)}
        return state, apart

    def _bound(self, first: int) -> None:
        self._bound_engine().measure()

    def _steady(self, group: Mapping[str, Any]) -> bool:
        return True

    @property
    def tuned(self) -> Tuned:
        """What the latest step was taken with: see `Tuned`; all NaN before the first."""
        if not self.iterations:
            return Tuned(*[math.nan] * 6)
        return Measurements(self._apart[0]["measured"]).tuned()

    def step(self, grads: Grads) -> bool:
        """Update the parameters in place: see `Optimizer.step`."""
        engine = self._bound_engine()
        now = engine.iterations
        if self._stale:
            self._take_values(engine, now)
        options = self._options.at(now)
        clips = options["adapt_clip"]
        own = Measurements(self._apart[0]["measured"])
        norm = kept = share = 0.0

        def rows() -> list[Row]:
            nonlocal norm, kept, share
            norm = math.hypot(*engine.norms())
            kept, share = own.see(norm, options) if math.isfinite(norm) else (1.0, 1.0)
            longest = FARTHEST / (kept * norm) if clips and 0 < norm < math.inf else math.inf
            return [row(group, min(own.lr * group["lr"], longest), own.momentum, share)
                    for _, group in self._makers]

        if not engine.run(grads, rows, now):
            return False
        if math.isfinite(norm):
            own.look(kept * math.fsum(engine.products), share, options["beta"])
            self._apart[0]["measured"][...] = own.numbers()
        return True


def row(group: Mapping[str, Any], lr: float, m: float, share: float) -> Row:
    """Return the coefficients of a step with so much of the gradient."""
    if group["weight_decay"]:
        return novograd(m=m, k=share, wd=group["weight_decay"], lr=lr)
    return heavy_ball(m=m, k=share, x=lr)


# In the order of the array. The averages are not corrected; `mass` is the average of 1.
NAMES = ("steps", "mass", "square", "norm", "distance", "log_min", "log_max", "signal",
         "signal_square", "signal_mass", "weight", "fall", "lr", "momentum")


class Measurements:
    """The numbers of ``state[0]["measured"]``, as a step moves them on."""

    steps: float
    mass: float
    square: float
    norm: float
    distance: float
    log_min: float
    log_max: float
    signal: float           # of products with the velocity over its weight
    signal_square: float
    signal_mass: float
    weight: float           # sum of the weights of the gradients in the velocity
    fall: float             # of the learning rate, from 1
    lr: float
    momentum: float

    def __init__(self, numbers: Array) -> None:
        vars(self).update(zip(NAMES, numbers.tolist(), strict=False))
        self.window: list[float] = numbers[len(NAMES):].tolist()
        if not self.steps:
            self.fall, self.lr = 1.0, FIRST_LR

    def numbers(self) -> list[float]:
        """Return them in the order of the array."""
        return [*(getattr(self, name) for name in NAMES), *self.window]

    def tuned(self) -> Tuned:
        """Return the corrected averages."""
        signal = self.signal / self.signal_mass if self.signal_mass else 0.0
        return Tuned(self.lr, self.momentum, math.exp(self.log_min / self.mass),
                     math.exp(self.log_max / self.mass),
                     max(self.square / self.mass - max(signal, 0.0), EPS),
                     self.distance / self.mass)

    def see(self, norm: float, options: Mapping[str, Any]) -> tuple[float, float]:
        """Measure a gradient and tune; return how much of it counts, and is stepped along."""
        kept = share = 1.0
        if options["adapt_clip"] and self.steps > 0:
            root = math.exp(self.log_max / self.mass / 2)
            if self.steps > 1:
                kept = limit(norm, math.sqrt(PROTECTION) * root + EPS)
            share = kept * limit(kept * norm, root + EPS)
        self._average(kept * norm, options["curv_win_width"], options["beta"])
        if self.steps > 0:
            self._tune(SLOW * options["curv_win_width"])
        self.steps += 1
        return kept, share

    def _average(self, norm: float, width: int, beta: float) -> None:
        square, now = min(norm * norm, LARGEST), int(self.steps)
        self.window[now % WIDEST] = square
        seen = [self.window[i % WIDEST] for i in range(max(0, now + 1 - width), now + 1)]
        self.mass += (1 - beta) * (1 - self.mass)
        self.square += (1 - beta) * (square - self.square)
        self.norm += (1 - beta) * (norm - self.norm)
        self.distance += (1 - beta) * (self.norm / (self.square + EPS) - self.distance)
        self.log_min += (1 - beta) * (math.log(min(seen) + EPS) - self.log_min)
        self.log_max += (1 - beta) * (math.log(max(seen) + EPS) - self.log_max)

    def _tune(self, slow: int) -> None:
        """Set momentum and learning rate, which rises over so many steps."""
        _, _, h_min, h_max, variance, distance = self.tuned()
        root = math.sqrt(max((h_max + EPS) / (h_min + EPS), 1 + EPS))
        self.momentum = max(best(distance + EPS, h_min + EPS, variance + EPS) ** 2,
                            ((root - 1) / (root + 1)) ** 2)
        self.lr = (1 - math.sqrt(self.momentum)) ** 2 / (h_min + EPS)
        self.lr *= self.fall * min(1.0, (self.steps + 1) / slow)

    def look(self, product: float, share: float, beta: float) -> None:
        """Measure the product with the velocity before a step, and follow its weight."""
        if self.weight > 0 and math.isfinite((product / self.weight) * (product / self.weight)):
            product /= self.weight
            self.signal += (1 - beta) * (product - self.signal)
            self.signal_square += (1 - beta) * (product * product - self.signal_square)
            self.signal_mass += (1 - beta) * (1 - self.signal_mass)
            self.fall *= beta if self._turns(beta) else 1.0
        self.weight = self.momentum * self.weight + share

    def _turns(self, beta: float) -> bool:
        """Whether gradients surely oppose those before them.

        The squares of the average's weights add up to ``(1 - beta) / (1 + beta)``, times
        ``(2 - mass) / mass`` after its start, which gives the mean's standard error.
        """
        square = self.signal_square * (1 - beta) / (1 + beta) * (2 - self.signal_mass)
        return self.signal < -SURE * math.sqrt(square)


def limit(norm: float, largest: float) -> float:
    """Return what brings a norm down to a limit, if it is above."""
    return largest / norm if norm > largest else 1.0


def best(distance: float, h: float, variance: float) -> float:
    """Return the x that minimizes ``x^2 distance^2 + (1 - x)^4 variance / h^2``.

    That is 1 + y for the root of ``y^3 + p y + p``, here in a form that loses no digits.
    """
    half = distance * h
    p = min(max(half * half / (2 * variance), 1e-30), 1e30)
    y = -2 * math.sqrt(p / 3) * math.sinh(math.asinh(1.5 * math.sqrt(3 / p)) / 3)
    return max(0.0, 1 + y)
