"""Copies and pickles go on as the original does, with parameters of their own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm
from fastmom.optim.schedules import Linear, Piecewise, ReduceOnPlateau

SHAPES = [(5,), (3, 4), (2, 2, 2)]


def through_joblib(value: Any) -> Any:
    joblib = pytest.importorskip("joblib")
    file = BytesIO()
    joblib.dump(value, file)
    return joblib.load(file)


WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy, "joblib": through_joblib,
    **{f"pickle {n}": lambda value, n=n: pickle.loads(pickle.dumps(value, n)) for n in (2, 5)}}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def arrays(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def go_on(stepper: Any, begin: int, end: int) -> None:
    for step in range(begin, end):
        grads: list[Any] = arrays(step)
        if step % 3 == 0:
            grads[1] = None
        stepper.step(grads)


def params_of(optimizer: fm.Optimizer) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def bits(optimizer: fm.Optimizer) -> Any:
    """All that steps depend on, and the parameters."""
    state = optimizer.state_dict()
    return ([p.tobytes() for p in params_of(optimizer)],
            [{n: b.tobytes() for n, b in own.items()} for own in state.pop("state")], repr(state))


@ways
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_optimizers(case: Any, way: Callable[[Any], Any]) -> None:
    cls, hyper = case
    one = cls(arrays(0), **{"lr": 0.02, "nonfinite": "skip", **hyper})
    go_on(one, 0, 5)
    other = way(one)
    assert type(other) is cls
    assert bits(other) == bits(one)
    before = bits(one)
    go_on(other, 5, 9)
    assert bits(one) == before          # they share nothing
    go_on(one, 5, 9)
    assert bits(other) == bits(one)


@ways
def test_groups_schedules_and_later_groups(way: Callable[[Any], Any]) -> None:
    params, plateau = arrays(0), ReduceOnPlateau(0.1)
    one = fm.Adagrad([{"params": params[:1], "lr": plateau},
                      {"params": params[1:], "maximize": True, "lr": Linear(0.1, 0.2, 8)}],
                     eps=0.5, initial_accumulator=0.25, clip_norm=1.0)
    go_on(one, 0, 3)
    other = way(one)
    assert other.param_groups[0]["lr"] == plateau
    assert other.param_groups[0]["lr"] is not plateau
    for optimizer in (one, other):
        optimizer.add_param_group({"params": [np.ones(2)]})
        assert optimizer.param_groups[2]["eps"] == 0.5
        optimizer.step([*arrays(3), np.ones(2)])
    assert bits(other) == bits(one)


@ways
def test_unbound(way: Callable[[Any], Any]) -> None:
    one = fm.SGD(lr=Linear(0.1, 0.5, 10), momentum=0.9, clip_norm=2.0)
    other = way(one)
    assert repr(other) == repr(one)
    other.bind(arrays(0))
    go_on(other, 0, 2)


def test_aliases_stay_aliases() -> None:
    """Copied together with its parameters, an optimizer steps the copies."""
    params = arrays(0)
    copied, optimizer = copy.deepcopy((params, fm.SGD(params, lr=1.0)))
    optimizer.step([np.ones_like(p) for p in params])
    for p, q in zip(params, copied, strict=True):
        np.testing.assert_array_equal(q, p - 1)


@pytest.mark.parametrize(("fused", "way"), [
    *((True, way) for way in WAYS.values()),
    *((False, way) for name, way in WAYS.items() if name != "joblib")])    # it separates aliases
def test_averages(fused: bool, way: Callable[[Any], Any]) -> None:
    params = arrays(0)
    optimizer = fm.SGD(params, momentum=0.9)
    ema = fm.EMA(params, decay=0.75, optimizer=optimizer if fused else None)
    steps = [(optimizer, ema)]
    go_on(optimizer, 0, 3)
    steps.append(way((optimizer, ema)))
    for own, average in steps:
        go_on(own, 3, 6)
        if not fused:
            average.update()
    assert [a.tobytes() for a in steps[1][1].averages] == [a.tobytes() for a in ema.averages]
    assert steps[1][1].averages[0] is not ema.averages[0]
    assert bits(steps[1][0]) == bits(optimizer)
    with steps[1][1].swapped():
        assert steps[1][1].params[0].tobytes() == ema.averages[0].tobytes()


@ways
def test_an_averaged_optimizer_alone(way: Callable[[Any], Any]) -> None:
    params = arrays(0)
    optimizer = fm.Adam(params)
    ema = fm.EMA(params, optimizer=optimizer)
    go_on(optimizer, 0, 3)
    other = way(optimizer)
    assert bits(other) == bits(optimizer)
    for own in (optimizer, other):
        go_on(own, 3, 5)
    assert bits(other) == bits(optimizer)
    with ema.swapped(), pytest.raises(RuntimeError, match="save, copy or load outside"):
        way(optimizer)


@ways
def test_accumulation(way: Callable[[Any], Any]) -> None:
    one = fm.GradientAccumulation(fm.SGD(arrays(0), momentum=0.9), steps=3)
    go_on(one, 0, 4)
    other = way(one)
    for own in (one, other):
        go_on(own, 4, 9)
    assert other.pending == one.pending
    assert bits(other.optimizer) == bits(one.optimizer)


@ways
def test_schedules(way: Callable[[Any], Any]) -> None:
    plateau = ReduceOnPlateau(0.5, factor=0.5, patience=0)
    plateau.observe(1.0)
    for schedule in (Linear(0.1, 0.2, 5), plateau, Piecewise([(0, 0.1), (3, plateau)])):
        assert way(schedule) == schedule
        assert repr(way(schedule)) == repr(schedule)


def test_a_copied_plateau_has_its_own_state() -> None:
    plateau = ReduceOnPlateau(0.5, factor=0.5, patience=0)
    plateau.observe(1.0)
    for other in (copy.copy(plateau), copy.deepcopy(plateau)):
        assert other == plateau
        assert other.observe(1.0)
        assert other(0) == 0.25
        assert plateau(0) == 0.5


def test_copied_smoothing_goes_on_by_itself() -> None:
    one = fm.ExponentialSmoothing(0.5)
    one.update(4.0)
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        other.update(100.0)
        assert one.value == 4.0
        assert one.count == 1


@pytest.mark.parametrize("make", [
    lambda p: fm.SGD([p]), lambda p: fm.Muon([p]), lambda p: fm.EMA([p]),
    lambda p: fm.GradientAccumulation(fm.SGD([p]), 2)], ids=["SGD", "Muon", "EMA", "accumulation"])
def test_shallow_copies_are_refused(make: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"would share its arrays .*; use copy\.deepcopy"):
        copy.copy(make(np.ones(3)))


def test_a_shallow_copy_without_parameters() -> None:
    one = fm.SGD(lr=0.5)
    other = copy.copy(one)
    other.lr = 0.25
    assert (one.lr, other.lr) == (0.5, 0.25)
