"""Schedules against PyTorch's and closed forms, as values, as data, and their refusals."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastmom.optim.schedules import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    InverseTime,
    Linear,
    OneCycle,
    Piecewise,
    Polynomial,
    ReduceOnPlateau,
    Schedule,
    Step,
    Sutskever,
)

# From torch.optim.lr_scheduler of PyTorch 2.13 on SGD(lr=0.4, momentum=0.9), 13 digits of lr (of
# momentum where said) before each step. The call is the comment; `o` is the optimizer.
GOLDEN: list[tuple[Schedule, list[float]]] = [
    # LinearLR(o, 0.25, 1.0, 4)
    (Linear(0.1, 0.4, 4), [0.1, 0.175, 0.25, 0.325, 0.4, 0.4, 0.4]),
    # StepLR(o, 3, 0.5)
    (Step(0.4, 0.5, 3), [0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1]),
    # ExponentialLR(o, 0.9)
    (Exponential(0.4, 0.9), [0.4, 0.36, 0.324, 0.2916, 0.26244]),
    # CosineAnnealingLR(o, 5, 0.01)
    (Cosine(0.4, 0.01, 5), [
        0.4, 0.3627583139031, 0.2652583139031, 0.1447416860969, 0.04724168609689, 0.01]),
    # CosineAnnealingWarmRestarts(o, 3, 1, 0.01)
    (Cosine(0.4, 0.01, 3, 1), [0.4, 0.3025, 0.1075, 0.4, 0.3025, 0.1075, 0.4, 0.3025]),
    # CosineAnnealingWarmRestarts(o, 2, 3, 0.01)
    (Cosine(0.4, 0.01, 2, 3), [
        0.4, 0.205, 0.4, 0.373874953738, 0.3025, 0.205, 0.1075, 0.03612504626203, 0.4,
        0.3970375118374, 0.3882400610533, 0.373874953738]),
    # OneCycleLR(o, 0.4, total_steps=12), then its momentum
    (OneCycle(0.4, 12), [
        0.016, 0.1399158616878, 0.3517140636489, 0.3977661741804, 0.3732051879366, 0.3246982615799,
        0.258951599078, 0.1850548410668, 0.1132243992835, 0.05339101207553, 0.01382679497016,
        1.6e-06]),
    (OneCycle(0.4, 12).momentum(), [
        0.95, 0.9177302443521, 0.8625744625914, 0.8505584586887, 0.8566987298108, 0.8688255099071,
        0.8852622412795, 0.9037365046793, 0.9216941869559, 0.9366525935915, 0.9465436874322, 0.95]),
    # OneCycleLR(o, 0.4, total_steps=7, pct_start=0.45, div_factor=4., final_div_factor=10.,
    #            base_momentum=0.8, max_momentum=0.9), then its momentum
    (OneCycle(0.4, 7, start=0.1, end=0.01, rise=0.45), [
        0.1, 0.2335943187433, 0.3964113816334, 0.3549453524412, 0.2169265238603, 0.07139736558127,
        0.01]),
    (OneCycle(0.4, 7, rise=0.45).momentum(0.8, 0.9), [
        0.9, 0.8554685604189, 0.8011962061222, 0.811552473733, 0.8469419169589, 0.8842570857484,
        0.9]),
    # CyclicLR(o, 0.1, 0.4, 2, 3, cycle_momentum=False)
    (Cyclic(0.1, 0.4, 2, 3), [0.1, 0.25, 0.4, 0.3, 0.2, 0.1, 0.25, 0.4]),
    # CyclicLR(o, 0.1, 0.4, 2, mode="triangular2", base_momentum=0.8, max_momentum=0.9), then its
    # momentum
    (Cyclic(0.1, 0.4, 2, factor=0.5), [
        0.1, 0.25, 0.4, 0.25, 0.1, 0.175, 0.25, 0.175, 0.1, 0.1375, 0.175]),
    (Cyclic(0.9, 0.8, 2, factor=0.5), [
        0.9, 0.85, 0.8, 0.85, 0.9, 0.875, 0.85, 0.875, 0.9, 0.8875, 0.875]),
    # CyclicLR(o, 0.1, 0.4, 3, mode="exp_range", gamma=0.9, cycle_momentum=False)
    (Cyclic(0.1, 0.4, 3, step_factor=0.9), [
        0.1, 0.19, 0.262, 0.3187, 0.23122, 0.159049, 0.1, 0.14782969]),
    # PolynomialLR(o, 4, 1.0), PolynomialLR(o, 5, 2.5)
    (Polynomial(0.4, 0.0, 4), [0.4, 0.3, 0.2, 0.1, 0.0, 0.0]),
    (Polynomial(0.4, 0.0, 5, 2.5), [
        0.4, 0.228973360896, 0.1115419203708, 0.04047715405016, 0.007155417527999, 0.0, 0.0]),
    # MultiStepLR(o, [2, 5], 0.5)
    (Piecewise([(0, 0.4), (2, 0.2), (5, 0.1)]), [0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1]),
    # SequentialLR(o, [LinearLR(o, 0.25, 1.0, 3), CosineAnnealingLR(o, 4)], [3])
    (Piecewise([(0, Linear(0.1, 0.4, 3)), (3, Cosine(0.4, 0.0, 4))]), [
        0.1, 0.2, 0.3, 0.4, 0.3414213562373, 0.2, 0.05857864376269, 0.0]),
]


@pytest.mark.parametrize(("schedule", "expected"), GOLDEN, ids=repr)
def test_like_pytorch(schedule: Schedule, expected: list[float]) -> None:
    values = [schedule(step) for step in range(len(expected))]
    assert values == pytest.approx(expected, rel=1e-12, abs=1e-16)


# ReduceLROnPlateau(o, **arguments) of PyTorch 2.13 on SGD(lr=0.4), the lr after each of these
METRICS = [1.0, .9, .95, .9, .8995, .7, .7, .7, .7, .71, .72, .6, .61, .62, .63, .5, .5, .5, .5, .5]
PLATEAUS: list[tuple[dict[str, Any], list[float]]] = [
    ({"factor": 0.5, "patience": 1}, [
        0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025,
        0.025, 0.0125, 0.0125, 0.00625]),
    ({"factor": 0.5, "patience": 1, "cooldown": 2, "threshold": 0.01}, [
        0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05,
        0.025, 0.025, 0.025]),
    # min_lr=0.06
    ({"factor": 0.5, "patience": 0, "minimum": 0.06}, [0.4, 0.4, 0.2, 0.1, 0.1, 0.1, *14 * [0.06]]),
    ({"factor": 0.5, "patience": 2, "mode": "max", "threshold": 0.1}, [
        0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025, 0.0125,
        0.0125, 0.0125, 0.00625, 0.00625]),
]


@pytest.mark.parametrize(("arguments", "expected"), PLATEAUS, ids=str)
def test_plateau_like_pytorch(arguments: dict[str, Any], expected: list[float]) -> None:
    schedule = ReduceOnPlateau(0.4, **arguments)
    value = 0.4
    for i, metric in enumerate(METRICS):
        assert schedule.observe(metric) == (expected[i] < value)
        value = expected[i]
        assert schedule(i) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("arguments", "expected"), PLATEAUS, ids=str)
@pytest.mark.parametrize("stop", [0, 4, 9])
def test_plateau_continues_from_its_state(arguments: dict[str, Any], expected: list[float],
                                          stop: int) -> None:
    first = ReduceOnPlateau(0.4, **arguments)
    for metric in METRICS[:stop]:
        first.observe(metric)
    data, state = first.to_dict(), first.state_dict()
    loaded = ReduceOnPlateau(0.4, **arguments)
    loaded.load_state_dict(json.loads(json.dumps(state, allow_nan=False)))
    others = [loaded, Schedule.from_dict(json.loads(json.dumps(data, allow_nan=False))),
              eval(repr(first)), copy.deepcopy(first)]
    for metric in METRICS[stop:]:
        first.observe(metric)
    assert data["state"] == state != first.state_dict()        # copies, both
    for other in others:
        assert isinstance(other, ReduceOnPlateau)
        for i, metric in enumerate(METRICS[stop:], stop):
            other.observe(metric)
            assert other(0) == pytest.approx(expected[i], rel=1e-12)
        assert other == first
        other.observe(0.1)
        assert other != first


@pytest.mark.parametrize(("metrics", "mode", "reductions"), [
    ([1.0, math.nan, math.nan], "min", 2),
    ([math.nan, 1.0, 0.5], "min", 1),
    ([math.inf, 1.0, -math.inf], "min", 2),
    ([-math.inf, 1.0, math.inf], "max", 2),
    ([-1.0, -1.0, -1.0], "min", 2),             # no improvement, whatever the sign
    ([-1.0, -1.0, -1.0], "max", 2),
    ([-1.0, -2.0, -3.0], "min", 0),
    ([-3.0, -2.0, -1.0], "max", 0),
    ([0.0, 0.0, -1e-9], "min", 1),
    ([1.0, 0.99995, 0.9998], "min", 1),         # the threshold is 1e-4 of the best
])
def test_what_counts_as_improvement(metrics: list[float], mode: str, reductions: int) -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, mode=mode)
    assert sum(schedule.observe(metric) for metric in metrics) == reductions
    assert schedule(0) == 0.5 ** reductions


CLOSED: list[tuple[Schedule, Callable[[int], float]]] = [
    (Constant(0.9), lambda t: 0.9),
    (Sutskever(), lambda t: min(1 - 2 ** (-1 - math.log2(t // 250 + 1)), 0.99)),
    (Sutskever(0.8, period=3), lambda t: min(1 - 2 ** (-1 - math.log2(t // 3 + 1)), 0.8)),
    (Sutskever(0.0), lambda t: 0.0),
    (Step(2.0, 0.9, 7), lambda t: 2.0 * 0.9 ** (t // 7)),
    (Exponential(0.1, 1.5, 40), lambda t: 0.1 * 1.5 ** (t / 40)),
    # Keras's InverseTimeDecay, without and with staircase
    (InverseTime(0.4, 2.0, 5), lambda t: 0.4 / (1 + 2.0 * t / 5)),
    (InverseTime(0.4, 0.5, 3, stairs=True), lambda t: 0.4 / (1 + 0.5 * math.floor(t / 3))),
    (Polynomial(0.1, 0.5, 9, power=0.5), lambda t: 0.5 - 0.4 * max(1 - t / 9, 0) ** 0.5),
    (Linear(0.9, 0.5, 1), lambda t: 0.5 if t else 0.9),
    (Piecewise([(0, Sutskever(period=1)), (10, Piecewise([(0, 0.1), (5, Linear(0, 1, 10))]))]),
     lambda t: 1 - 0.5 / (t + 1) if t < 10 else 0.1 if t < 15 else min((t - 15) / 10, 1.0)),
]


@pytest.mark.parametrize(("schedule", "expected"), CLOSED, ids=[repr(row[0]) for row in CLOSED])
def test_closed_forms(schedule: Schedule, expected: Callable[[int], float]) -> None:
    for step in [*range(60), 249, 250, 999, 1000]:
        assert schedule(step) == pytest.approx(expected(step), rel=1e-12)


def test_piece_may_follow_a_metric() -> None:
    plateau = ReduceOnPlateau(0.1, factor=0.5, patience=0)
    schedule = Piecewise([(0, Linear(0.0, 0.1, 10)), (10, plateau)])
    plateau.observe(1.0)
    plateau.observe(1.0)
    assert [schedule(step) for step in (5, 10, 11)] == [0.05, 0.05, 0.05]
    assert Schedule.from_dict(schedule.to_dict()) == schedule
    with pytest.raises(TypeError, match="unhashable type: 'ReduceOnPlateau'"):
        hash(schedule)


# Properties ---------------------------------------------------------------------------------------

VALUES = st.floats(-1e6, 1e6) | st.floats(0, 1)
LENGTHS = st.integers(1, 10**6)
RAMPS = st.sampled_from([Linear, Cosine])


@given(RAMPS, VALUES, VALUES, LENGTHS, st.integers(0, 2 * 10**6))
@example(Linear, 0.9, 0.9, 3, 1)        # where rounding alone would give 0.9000000000000001
def test_ramps_stay_between_their_ends(ramp: type[Any], start: float, end: float, steps: int,
                                       step: int) -> None:
    schedule = ramp(start, end, steps)
    assert schedule(0) == start
    assert schedule(steps) == schedule(steps + 1) == schedule(10**12) == end
    assert min(start, end) <= schedule(step) <= max(start, end)


@given(RAMPS, VALUES, VALUES, st.integers(2, 10**6), st.data())
def test_ramps_are_continuous(ramp: type[Any], start: float, end: float, steps: int,
                              data: st.DataObject) -> None:
    """No jump is larger than the steepest slope, pi / 2 of the mean one."""
    schedule = ramp(start, end, steps)
    step = data.draw(st.integers(0, steps))
    change = abs(schedule(step + 1) - schedule(step))
    assert change <= 1.6 * abs(end - start) / steps + 1e-9


@given(st.integers(1, 1000), st.integers(1, 4), st.integers(0, 6))
def test_restarts_are_where_the_periods_end(period: int, multiplier: int, count: int) -> None:
    schedule = Cosine(1.0, 0.0, period, multiplier)
    restart = sum(period * multiplier ** i for i in range(count))
    assert schedule(restart) == 1.0
    length = period * multiplier ** count
    assert schedule(restart + length - 1) == pytest.approx(
        Cosine(1.0, 0.0, length)(length - 1), abs=1e-12)


@given(st.integers(8, 10**5), st.floats(0.2, 0.9), st.data())
def test_one_cycle(steps: int, rise: float, data: st.DataObject) -> None:
    schedule = OneCycle(1.0, steps, start=0.1, end=0.01, rise=rise)
    momentum = schedule.momentum(0.8, 0.9)
    assert (schedule(0), schedule(steps - 1), schedule(10 * steps)) == (0.1, 0.01, 0.01)
    assert (momentum(0), momentum(steps - 1), momentum(10 * steps)) == (0.9, 0.9, 0.9)
    step = data.draw(st.integers(0, steps - 2))
    if step + 1 <= rise * steps - 1:
        assert 0.1 <= schedule(step) <= schedule(step + 1) <= 1.0
        assert 0.9 >= momentum(step) >= momentum(step + 1) >= 0.8
    elif step >= rise * steps - 1:
        assert 1.0 >= schedule(step) >= schedule(step + 1) >= 0.01
        assert 0.8 <= momentum(step) <= momentum(step + 1) <= 0.9


# As values and as data ----------------------------------------------------------------------------

ALL: list[Schedule] = [row[0] for row in GOLDEN] + [row[0] for row in CLOSED] + [
    Linear(0, 1, 3), ReduceOnPlateau(0.1), ReduceOnPlateau(0.1, minimum=0.1, mode="max")]


def test_all_are_here() -> None:
    import fastmom.optim.schedules as module
    assert {type(s) for s in ALL} == {getattr(module, n) for n in module.__all__} - {Schedule}


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_round_trips(schedule: Schedule) -> None:
    data = json.loads(json.dumps(schedule.to_dict(), allow_nan=False))
    for other in (Schedule.from_dict(data), type(schedule).from_dict(data), eval(repr(schedule)),
                  copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert other is not schedule
        assert other == schedule
        assert repr(other) == repr(schedule)
        assert [other(step) for step in range(20)] == [schedule(step) for step in range(20)]
        if not isinstance(schedule, ReduceOnPlateau):
            assert hash(other) == hash(schedule)


def test_equality_is_by_class_and_arguments() -> None:
    assert all((a == b) == (i == j) for i, a in enumerate(ALL) for j, b in enumerate(ALL))
    assert Constant(0.5) != 0.5
    assert Constant(0.5) != Own(0.5)


def test_other_numbers_become_plain_ones() -> None:
    numbers: list[Any] = [np.float32(0), Fraction(1), np.int64(3)]
    schedule = Linear(*numbers)
    assert schedule == Linear(0, 1, 3)
    assert repr(schedule) == "Linear(start=0.0, end=1.0, steps=3)"
    assert json.loads(json.dumps(schedule.to_dict())) == schedule.to_dict()


class Own(Constant):
    """A user's class."""

    def _value(self, step: int) -> float:
        return self.value + step


def test_own_subclass() -> None:
    schedule = Schedule.from_dict(Own(0.5).to_dict())
    assert type(schedule) is Own
    assert schedule(2) == 2.5


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_immutable(schedule: Schedule) -> None:
    before = repr(schedule)
    for name in (*vars(schedule), "other"):
        with pytest.raises(AttributeError, match=f"{name}: a schedule cannot be changed"):
            setattr(schedule, name, 1)
        with pytest.raises(AttributeError, match=f"{name}: a schedule cannot be changed"):
            delattr(schedule, name)
    assert repr(schedule) == before


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_step_argument(schedule: Schedule) -> None:
    other: Any = np.int64(3)
    assert schedule(other) == schedule(3)
    assert type(schedule(3)) is float
    refused: list[tuple[Any, type[Exception]]] = [
        (-1, ValueError), (np.int32(-1), ValueError), (1.0, TypeError), (True, TypeError),
        ("1", TypeError), (None, TypeError)]
    for wrong, error in refused:
        message = re.escape(f"step must be an integer >= 0, not {wrong!r}")
        with pytest.raises(error, match=message):
            schedule(wrong)


# Refusals -----------------------------------------------------------------------------------------

WRONG: list[tuple[str, type[Exception], str]] = [
    ("Constant('1')", TypeError, "value must be a finite number, not '1'"),
    ("Constant(True)", TypeError, "value must be a finite number, not True"),
    ("Constant(nan)", ValueError, "value must be a finite number, not nan"),
    ("Constant(inf)", ValueError, "value must be a finite number, not inf"),
    ("Constant(10**400)", ValueError, "value must be a finite number, not 10000"),
    ("Linear(None, 1, 5)", TypeError, "start must be a finite number, not None"),
    ("Linear(0, 1j, 5)", TypeError, "end must be a finite number, not 1j"),
    ("Linear(0, 1, 0)", ValueError, "steps must be an integer >= 1, not 0"),
    ("Linear(0, 1, 5.0)", TypeError, "steps must be an integer >= 1, not 5.0"),
    ("Linear(0, 1, True)", TypeError, "steps must be an integer >= 1, not True"),
    ("Sutskever(1.1)", ValueError, "maximum must be a number from 0 to 1, not 1.1"),
    ("Sutskever(period=0)", ValueError, "period must be an integer >= 1, not 0"),
    ("Step(-1, 0.5, 2)", ValueError, "start must be a finite number >= 0, not -1"),
    ("Step(1, -0.5, 2)", ValueError, "factor must be a finite number >= 0, not -0.5"),
    ("Step(1, 0.5, 0)", ValueError, "every must be an integer >= 1, not 0"),
    ("Exponential(-1, 1)", ValueError, "start must be a finite number >= 0, not -1"),
    ("Exponential(1, -1)", ValueError, "factor must be a finite number >= 0, not -1"),
    ("Exponential(1, 1, 0)", ValueError, "steps must be an integer >= 1, not 0"),
    ("Cosine('a', 0, 5)", TypeError, "start must be a finite number"),
    ("Cosine(0, nan, 5)", ValueError, "end must be a finite number"),
    ("Cosine(0, 1, -5)", ValueError, "steps must be an integer >= 1, not -5"),
    ("Cosine(0, 1, 5, 0)", ValueError, "period_multiplier must be an integer >= 1, not 0"),
    ("Cosine(0, 1, 5, 1.5)", TypeError, "period_multiplier must be an integer"),
    ("OneCycle(inf, 9)", ValueError, "peak must be a finite number, not inf"),
    ("OneCycle(1, 1)", ValueError, "steps must be an integer >= 2, not 1"),
    ("OneCycle(1, 9, start='0')", TypeError, "start must be"),
    ("OneCycle(1, 9, end=nan)", ValueError, "end must be"),
    ("OneCycle(1, 10, rise=0.1)", ValueError, "rise must be > 1 / steps = 0.1 and < 1, not"),
    ("OneCycle(1, 10, rise=1)", ValueError, "rise must be > 1 / steps = 0.1 and < 1, not 1"),
    ("OneCycle(1, 9).momentum(low='x')", TypeError, "low must be"),
    ("OneCycle(1, 9).momentum(high=nan)", ValueError, "high must be"),
    ("Cyclic('0', 1, 2)", TypeError, "start must be a finite number, not '0'"),
    ("Cyclic(0, inf, 2)", ValueError, "peak must be a finite number, not inf"),
    ("Cyclic(0, 1, 0)", ValueError, "up must be an integer >= 1, not 0"),
    ("Cyclic(0, 1, 2, 0)", ValueError, "down must be an integer >= 1, not 0"),
    ("Cyclic(0, 1, 2, factor=1.5)", ValueError, "factor must be a number from 0 to 1, not 1.5"),
    ("Cyclic(0, 1, 2, step_factor=-1)", ValueError, "step_factor must be a number from 0 to 1"),
    ("Polynomial(nan, 1, 2)", ValueError, "start must be a finite number, not nan"),
    ("Polynomial(0, None, 2)", TypeError, "end must be a finite number, not None"),
    ("Polynomial(0, 1, 0)", ValueError, "steps must be an integer >= 1, not 0"),
    ("Polynomial(0, 1, 2, 0)", ValueError, "power must be a finite number > 0, not 0"),
    ("InverseTime(-1, 1)", ValueError, "start must be a finite number >= 0, not -1"),
    ("InverseTime(1, -1)", ValueError, "rate must be a finite number >= 0, not -1"),
    ("InverseTime(1, 1, 0)", ValueError, "steps must be an integer >= 1, not 0"),
    ("InverseTime(1, 1, 2, 1)", TypeError, "stairs must be True or False, not 1"),
    ("Piecewise(0.5)", TypeError, "pieces must be a list of (step, "),
    ("Piecewise([])", ValueError, "pieces must begin at 0 and at ever later steps, not at []"),
    ("Piecewise([(1, 0.5)])", ValueError, "pieces must begin at 0"),
    ("Piecewise([(0, 1), (5, 2), (5, 3)])", ValueError, "later steps, not at [0, 5, 5]"),
    ("Piecewise([(0, 1), (5, 2), (4, 3)])", ValueError, "later steps, not at [0, 5, 4]"),
    ("Piecewise([(0, 1), (5,)])", TypeError, "pieces[1] must be (step, number or schedule)"),
    ("Piecewise([0.5])", TypeError, "pieces[0] must be (step, number or schedule), not 0.5"),
    ("Piecewise([(0.0, 1)])", TypeError, "pieces[0][0] must be an integer >= 0, not 0.0"),
    ("Piecewise([(0, 'a')])", TypeError, "pieces[0][1], if not a schedule, must be a finite"),
    ("Piecewise([(0, abs)])", TypeError, "pieces[0][1], if not a schedule, must be"),
    ("ReduceOnPlateau(-1)", ValueError, "start must be a finite number >= 0, not -1"),
    ("ReduceOnPlateau(1, 1)", ValueError, "factor must be a number from 0 to below 1, not 1"),
    ("ReduceOnPlateau(1, -0.1)", ValueError, "factor must be a number from 0 to below 1"),
    ("ReduceOnPlateau(1, 'x')", TypeError, "factor must be"),
    ("ReduceOnPlateau(1, patience=-1)", ValueError, "patience must be an integer >= 0"),
    ("ReduceOnPlateau(1, threshold=-1)", ValueError, "threshold must be a finite number >= 0"),
    ("ReduceOnPlateau(1, mode='down')", ValueError, "mode must be one of 'min', 'max', not"),
    ("ReduceOnPlateau(1, cooldown=0.5)", TypeError, "cooldown must be an integer >= 0"),
    ("ReduceOnPlateau(1, minimum=2)", ValueError, "minimum must be a number from 0 to 1"),
    ("ReduceOnPlateau(1, state={'value': 1})", ValueError, "state must have best, cooling, "),
    ("ReduceOnPlateau(1).observe('x')", TypeError, "metric must be a number, not 'x'"),
    ("ReduceOnPlateau(1).observe(True)", TypeError, "metric must be a number, not True"),
    ("Schedule.from_dict(3)", TypeError, "data must be a dict from to_dict, not 3"),
    ("Schedule.from_dict({'value': 1})", ValueError, "data['schedule'] must be one of "),
    ("Schedule.from_dict({'schedule': 'Cubic'})", ValueError, "'Linear', "),
    ("Schedule.from_dict({'schedule': ['Cosine']})", ValueError, "not ['Cosine']"),
    ("Cosine.from_dict(Constant(1).to_dict())", ValueError, "must be one of 'Cosine', not 'C"),
    ("Schedule.from_dict({'schedule': 'Constant'})", TypeError, "'value'"),
    ("Schedule.from_dict({'schedule': 'Constant', 'value': 1, 'x': 2})", TypeError, "'x'"),
    ("Schedule.from_dict({'schedule': 'Constant', 'value': '1'})", TypeError, "value must be"),
]


@pytest.mark.parametrize(("expression", "error", "message"), WRONG,
                         ids=[row[0] for row in WRONG])
def test_wrong_arguments(expression: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        eval(expression, {**globals(), "nan": math.nan, "inf": math.inf})


@pytest.mark.parametrize(("name", "value"), [
    ("value", -1.0), ("value", None), ("best", "1"), ("best", math.nan),
    ("without_improvement", -1), ("without_improvement", 0.5), ("cooling", -1), ("cooling", None)])
def test_wrong_state_changes_nothing(name: str, value: Any) -> None:
    schedule = ReduceOnPlateau(1.0)
    schedule.observe(0.5)
    before = schedule.state_dict()
    good = {"value": 0.1, "best": 0.2, "without_improvement": 3, "cooling": 4}
    with pytest.raises((TypeError, ValueError), match=re.escape(f"state['{name}'] must be")):
        schedule.load_state_dict({**good, name: value})
    assert schedule.state_dict() == before
    schedule.load_state_dict(good)
    assert schedule.state_dict() == good


def test_growth_without_limit_is_infinite() -> None:
    """An optimizer then refuses the value by the hyper-parameter's name."""
    assert Exponential(0.1, 10)(10**6) == Step(0.1, 10, 1)(10**6) == math.inf
    assert Exponential(0.0, 10)(10**6) == 0.0
    assert Exponential(0.1, 0.1)(10**6) == 0.0
