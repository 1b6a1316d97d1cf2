"""Schedules that rise and fall."""

from __future__ import annotations

from fastmom.checks import integer, number
from fastmom.optim.schedule_base import Schedule, between, cosine, power


class Cosine(Schedule):
    """Half a cosine: ``end + (start - end) * (1 + cos(pi * step / steps)) / 2``.

    `end` is held from step `steps` on (PyTorch's CosineAnnealingLR climbs again), unless there are
    warm restarts. From I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm
    restarts", ICLR 2017.

    Parameters
    ----------
    start, end : float
    steps : int
        Length of the (first) period.
    period_multiplier : int, optional
        Restart from `start` after each period and make the next this many times as long: 1 for
        equal periods. None, the default, for no restarts.

    Examples
    --------
    >>> [round(Cosine(0.1, 0.0, steps=4)(step), 2) for step in (0, 1, 2, 4, 5)]
    [0.1, 0.09, 0.05, 0.0, 0.0]
    >>> [round(Cosine(0.1, 0.0, 2, period_multiplier=2)(step), 2) for step in range(7)]
    [0.1, 0.05, 0.1, 0.09, 0.05, 0.01, 0.1]
    """

    start: float
    end: float
    steps: int
    period_multiplier: int | None

    def __init__(self, start: float, end: float, steps: int,
                 period_multiplier: int | None = None) -> None:
        if period_multiplier is not None:
            period_multiplier = integer("period_multiplier", period_multiplier, 1)
        super().__init__(start=number("start", start), end=number("end", end),
                         steps=integer("steps", steps, 1), period_multiplier=period_multiplier)

    def _value(self, step: int) -> float:
        period = self.steps
        if self.period_multiplier is None:
            step = min(step, period)
        elif self.period_multiplier == 1:
            step %= period
        else:
            while step >= period:       # few rounds; a logarithm could round to a wrong period
                step -= period
                period *= self.period_multiplier
        return cosine(self.start, self.end, step / period)


class OneCycle(Schedule):
    """Up from `start` to `peak` and down to `end` at step ``steps - 1``, each half a cosine.

    From L. N. Smith and N. Topin, "Super-convergence", 2018, as in PyTorch's OneCycleLR: the peak
    is at step ``rise * steps - 1``. `end` is held afterwards.

    Parameters
    ----------
    peak, start, end : float
        By default `start` is ``peak / 25`` and `end` is ``start / 10000``.
    steps : int
        Length of the whole cycle, >= 2.
    rise : float, default 0.3
        The part of it up to the peak, between ``1 / steps`` and 1.

    Examples
    --------
    >>> lr = OneCycle(0.1, steps=10, start=0.01, end=0.0, rise=0.5)
    >>> [round(lr(step), 3) for step in (0, 2, 4, 5, 9)]
    [0.01, 0.055, 0.1, 0.09, 0.0]
    >>> lr.momentum(low=0.85, high=0.95)
    OneCycle(peak=0.85, steps=10, start=0.95, end=0.95, rise=0.5)
    """

    peak: float
    steps: int
    start: float
    end: float
    rise: float

    def __init__(self, peak: float, steps: int, start: float | None = None,
                 end: float | None = None, rise: float = 0.3) -> None:
        peak, steps = number("peak", peak), integer("steps", steps, 2)
        start = peak / 25 if start is None else number("start", start)
        end = start / 1e4 if end is None else number("end", end)
        rise = number("rise", rise)
        if not 1 < rise * steps < steps:
            raise ValueError(f"rise must be > 1 / steps = {1 / steps:g} and < 1, not {rise!r}")
        super().__init__(peak=peak, steps=steps, start=start, end=end, rise=rise)

    def momentum(self, low: float = 0.85, high: float = 0.95) -> OneCycle:
        """Return the inverse cycle for the momentum: down to `low` while this one rises."""
        return OneCycle(number("low", low), self.steps, number("high", high), high, self.rise)

    def _value(self, step: int) -> float:
        top, last = self.rise * self.steps - 1, self.steps - 1
        if step <= top:
            return cosine(self.start, self.peak, step / top)
        return cosine(self.peak, self.end, (min(step, last) - top) / (last - top))


class Cyclic(Schedule):
    """Straight up from `start` to `peak` in `up` steps and back in `down`, again and again.

    From L. N. Smith, "Cyclical learning rates for training neural networks", 2017, as PyTorch's
    CyclicLR: its "triangular2" has ``factor=0.5``, its "exp_range" a `step_factor` of gamma. For a
    momentum that mirrors the learning rate exchange the two values.

    Parameters
    ----------
    start, peak : float
    up : int
        Steps to the peak, >= 1.
    down : int, optional
        Steps back, >= 1. By default as many.
    factor : float, default 1
        Ratio of a cycle's height to that of the one before, from 0 to 1.
    step_factor : float, default 1
        The same from step to step.

    Examples
    --------
    >>> [round(Cyclic(0.1, 0.4, up=2, down=3)(step), 2) for step in range(7)]
    [0.1, 0.25, 0.4, 0.3, 0.2, 0.1, 0.25]
    >>> [Cyclic(0.0, 1.0, up=2, factor=0.5)(step) for step in (2, 6, 10)]
    [1.0, 0.5, 0.25]
    """

    start: float
    peak: float
    up: int
    down: int
    factor: float
    step_factor: float

    def __init__(self, start: float, peak: float, up: int, down: int | None = None,
                 factor: float = 1.0, step_factor: float = 1.0) -> None:
        up = integer("up", up, 1)
        super().__init__(start=number("start", start), peak=number("peak", peak), up=up,
                         down=up if down is None else integer("down", down, 1),
                         factor=number("factor", factor, 0.0, 1.0),
                         step_factor=number("step_factor", step_factor, 0.0, 1.0))

    def _value(self, step: int) -> float:
        cycle, at = divmod(step, self.up + self.down)
        height = power(power(1.0, self.factor, cycle), self.step_factor, step)
        top = between(self.start, self.peak, height)
        part = at / self.up if at <= self.up else (self.up + self.down - at) / self.down
        return between(self.start, top, part)
