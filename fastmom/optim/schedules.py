"""Schedules: values of a hyper-parameter (momentum, lr, ...) as functions of the step.

An optimizer takes any callable of the step (0, 1, ...). Those here can also be compared, printed
and stored in a checkpoint: see `Schedule`. All but `ReduceOnPlateau` are immutable and stateless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastmom.checks import integer, number
from fastmom.optim.plateau import ReduceOnPlateau
from fastmom.optim.schedule_base import Schedule, between, cosine

__all__ = ["Constant", "Cosine", "Exponential", "Linear", "OneCycle", "Piecewise",
           "ReduceOnPlateau", "Schedule", "Step", "Sutskever"]


class Constant(Schedule):
    """Always `value`."""

    value: float

    def __init__(self, value: float) -> None:
        super().__init__(value=number("value", value))

    def _value(self, step: int) -> float:
        return self.value


class Linear(Schedule):
    """Straight from `start` at step 0 to `end` at step `steps`, which it holds: a warm-up.

    >>> [Linear(0.5, 0.9, steps=4)(step) for step in (0, 2, 4, 100)]
    [0.5, 0.7, 0.9, 0.9]
    """

    start: float
    end: float
    steps: int

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__(start=number("start", start), end=number("end", end),
                         steps=integer("steps", steps, 1))

    def _value(self, step: int) -> float:
        return between(self.start, self.end, min(step, self.steps) / self.steps)


class Sutskever(Schedule):
    """Momentum that rises from 0.5: ``min(1 - 2**(-1 - log2(step // period + 1)), maximum)``.

    From I. Sutskever et al., "On the importance of initialization and momentum in deep learning",
    ICML 2013, equation 5.

    >>> [Sutskever()(step) for step in (0, 250, 1000, 10**6)]
    [0.5, 0.75, 0.9, 0.99]
    """

    maximum: float
    period: int

    def __init__(self, maximum: float = 0.99, period: int = 250) -> None:
        super().__init__(maximum=number("maximum", maximum, 0.0, 1.0),
                         period=integer("period", period, 1))

    def _value(self, step: int) -> float:
        return min(1 - 0.5 / (step // self.period + 1), self.maximum)   # the same without logarithm


class Step(Schedule):
    """In stairs: ``start * factor**(step // every)``.

    >>> [Step(0.5, factor=0.5, every=10)(step) for step in (0, 9, 10, 20)]
    [0.5, 0.5, 0.25, 0.125]
    """

    start: float
    factor: float
    every: int

    def __init__(self, start: float, factor: float, every: int) -> None:
        super().__init__(start=number("start", start, 0.0), factor=number("factor", factor, 0.0),
                         every=integer("every", every, 1))

    def _value(self, step: int) -> float:
        return _power(self.start, self.factor, step // self.every)


class Exponential(Schedule):
    """Smoothly by `factor` every `steps` steps: ``start * factor**(step / steps)``.

    >>> [Exponential(0.5, factor=0.25, steps=10)(step) for step in (0, 5, 10)]
    [0.5, 0.25, 0.125]
    """

    start: float
    factor: float
    steps: int

    def __init__(self, start: float, factor: float, steps: int = 1) -> None:
        super().__init__(start=number("start", start, 0.0), factor=number("factor", factor, 0.0),
                         steps=integer("steps", steps, 1))

    def _value(self, step: int) -> float:
        return _power(self.start, self.factor, step / self.steps)


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
        """The inverse cycle for the momentum: down to `low` while this one rises to its peak."""
        return OneCycle(number("low", low), self.steps, number("high", high), high, self.rise)

    def _value(self, step: int) -> float:
        top, last = self.rise * self.steps - 1, self.steps - 1
        if step <= top:
            return cosine(self.start, self.peak, step / top)
        return cosine(self.peak, self.end, (min(step, last) - top) / (last - top))


class Piecewise(Schedule):
    """One schedule after the other: pairs of the step at which a piece begins and the piece.

    A piece is a number or a schedule, which sees the steps since its own beginning.

    >>> warm_up = Piecewise([(0, Linear(0.0, 0.1, 100)), (100, Cosine(0.1, 0.0, 900)), (1000, 0)])
    >>> [round(warm_up(step), 4) for step in (0, 50, 100, 550, 1000)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """

    pieces: tuple[tuple[int, float | Schedule], ...]

    def __init__(self, pieces: Sequence[tuple[int, float | Schedule]]) -> None:
        if not isinstance(pieces, Sequence):
            raise TypeError(f"pieces must be a list of (step, number or schedule), not {pieces!r}")
        super().__init__(pieces=tuple(_piece(i, pair) for i, pair in enumerate(pieces)))
        begins = [begin for begin, _ in self.pieces]
        if begins[:1] != [0] or begins != sorted(set(begins)):
            raise ValueError(f"pieces must begin at 0 and at ever later steps, not at {begins}")

    def _value(self, step: int) -> float:
        begin, piece = next(pair for pair in reversed(self.pieces) if pair[0] <= step)
        return piece(step - begin) if isinstance(piece, Schedule) else piece


def _piece(i: int, pair: Any) -> tuple[int, float | Schedule]:
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise TypeError(f"pieces[{i}] must be (step, number or schedule), not {pair!r}")
    begin = integer(f"pieces[{i}][0]", pair[0], 0)
    if isinstance(pair[1], Schedule):
        return begin, pair[1]
    return begin, number(f"pieces[{i}][1], if not a schedule,", pair[1])


def _power(start: float, factor: float, times: float) -> float:
    """``start * factor**times``; infinite when too large, which the optimizer refuses by name."""
    try:
        return start * math.pow(factor, times)
    except OverflowError:
        return math.inf if start else 0.0
