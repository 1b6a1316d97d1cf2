"""Schedules: values of a hyper-parameter (momentum, lr, ...) as functions of the step.

An optimizer takes any callable of the step (0, 1, ...). Those here can also be compared, printed
and stored in a checkpoint: see `Schedule`. All but `ReduceOnPlateau` are immutable and stateless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastmom.checks import flag, integer, number
from fastmom.optim.cycles import Cosine, Cyclic, OneCycle
from fastmom.optim.plateau import ReduceOnPlateau
from fastmom.optim.schedule_base import Schedule, between, power

__all__ = ["Constant", "Cosine", "Cyclic", "Exponential", "InverseTime", "Linear", "OneCycle",
           "Piecewise", "Polynomial", "ReduceOnPlateau", "Schedule", "Step", "Sutskever"]


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
        return power(self.start, self.factor, step // self.every)


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
        return power(self.start, self.factor, step / self.steps)


class Polynomial(Schedule):
    """A power of the time that is left: ``end + (start - end) * (1 - step / steps)**power``.

    `end` is held from step `steps` on. As PyTorch's PolynomialLR and Keras's PolynomialDecay.

    Parameters
    ----------
    start, end : float
    steps : int
        Length, >= 1.
    power : float, default 1
        > 0; 1 is straight.

    Examples
    --------
    >>> [round(Polynomial(0.4, 0.0, steps=4, power=2)(step), 3) for step in (0, 1, 2, 4, 9)]
    [0.4, 0.225, 0.1, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int
    power: float

    def __init__(self, start: float, end: float, steps: int, power: float = 1.0) -> None:
        super().__init__(start=number("start", start), end=number("end", end),
                         steps=integer("steps", steps, 1),
                         power=number("power", power, 0.0, open_low=True))

    def _value(self, step: int) -> float:
        left = 1 - min(step, self.steps) / self.steps
        return between(self.end, self.start, math.pow(left, self.power))


class InverseTime(Schedule):
    """In inverse proportion to the time: ``start / (1 + rate * step / steps)``.

    As Keras's InverseTimeDecay.

    Parameters
    ----------
    start : float
        >= 0.
    rate : float
        >= 0; with 1, half of `start` is reached at step `steps`.
    steps : int, default 1
        Unit of time, >= 1.
    stairs : bool, default False
        Change at every multiple of `steps` alone.

    Examples
    --------
    >>> [InverseTime(0.5, rate=1.0, steps=10)(step) for step in (0, 10, 30)]
    [0.5, 0.25, 0.125]
    """

    start: float
    rate: float
    steps: int
    stairs: bool

    def __init__(self, start: float, rate: float, steps: int = 1, stairs: bool = False) -> None:
        super().__init__(start=number("start", start, 0.0), rate=number("rate", rate, 0.0),
                         steps=integer("steps", steps, 1), stairs=flag("stairs", stairs))

    def _value(self, step: int) -> float:
        time = step // self.steps if self.stairs else step / self.steps
        return self.start / (1 + self.rate * time)


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
