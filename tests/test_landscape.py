"""Surfaces, and what momentum does on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.landscape import NAMES, SURFACES, Surface, Trajectory, classics, paths, ravine

EVERY = [*SURFACES.values(), ravine(30.0, 25.0), ravine(1.0, -90.0)]
WELL = SURFACES["double-well"]


@pytest.mark.parametrize("surface", EVERY, ids=lambda s: s.title)
def test_gradients_are_those_of_the_function(surface: Surface) -> None:
    (left, right), (low, high) = surface.bounds
    x, y = np.random.default_rng(0).uniform((left, low), (right, high), (50, 2)).T
    h, f = 1e-6, surface.function
    expected = [(f(x + h, y) - f(x - h, y)) / (2 * h), (f(x, y + h) - f(x, y - h)) / (2 * h)]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(surface.gradient(x, y), expected, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("surface", EVERY, ids=lambda s: s.title)
def test_minima_are_minima_and_within_the_bounds(surface: Surface) -> None:
    for minimum in surface.minima:
        assert math.hypot(*surface.gradient(*minimum)) <= 1e-12
        around = [(minimum[0] + 1e-3 * math.cos(a), minimum[1] + 1e-3 * math.sin(a))
                  for a in np.linspace(0, 2 * math.pi, 12)]
        assert min(surface.function(*p) for p in around) > surface.function(*minimum)
    values = [surface.function(*minimum) for minimum in surface.minima]
    assert values == sorted(values)
    assert abs(values[0]) <= 1e-12
    for point in (surface.start, *surface.minima):
        assert all(a < c < b for c, (a, b) in zip(point, surface.bounds, strict=True))


def test_turning_the_ravine_turns_the_paths() -> None:
    turn = math.radians(25)
    matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    for straight, turned in zip(paths(ravine()).values(), paths(ravine(angle=25)).values(),
                                strict=True):
        np.testing.assert_allclose(turned.points, straight.points @ matrix, atol=1e-9)


def test_paths_are_those_of_the_formula() -> None:
    found = paths(WELL, 3, lr=0.1)
    p, v, expected = np.array(WELL.start), np.zeros(2), [WELL.start]
    for _ in range(3):
        v = 0.9 * v + np.array(WELL.gradient(*p))
        p = p - 0.1 * v
        expected.append(tuple(p))
    np.testing.assert_allclose(found["momentum"].points, expected, rtol=1e-14)
    np.testing.assert_allclose(found["momentum"].values, [WELL.function(*p) for p in expected])
    assert [path.label for path in found.values()] == ["SGD", "momentum 0.9", "Nesterov 0.9"]
    assert [path.lr for path in found.values()] == [0.1] * 3


# What momentum is for -----------------------------------------------------------------------------

@pytest.mark.parametrize("lr", [0.02, 0.03, 0.05, 0.08, 0.1])
def test_momentum_leaves_the_worse_minimum_and_sgd_does_not(lr: float) -> None:
    found = paths(WELL, 500, lr=lr)
    assert {name: path.minimum for name, path in found.items()} == {
        "SGD": 1, "momentum": 0, "Nesterov": 0}
    assert found["SGD"].values[-1] > 0.2
    assert max(found[name].values[-1] for name in NAMES[1:]) < 1e-8


def steps_to(path: Trajectory, part: float) -> float:
    """The steps after which the value stays below this part of the first one."""
    above = np.flatnonzero(path.values > part * path.values[0])
    return math.inf if above[-1] == path.steps else above[-1] + 1


def test_momentum_is_faster_in_the_ravine_than_sgd_with_any_learning_rate() -> None:
    surface = SURFACES["ravine"]
    rates = [*np.linspace(0.001, 0.03, 59), surface.lr["SGD"]]
    sgd = [steps_to(paths(surface, 600, {"SGD": fm.SGD}, lr=lr)["SGD"], 1e-4) for lr in rates]
    assert sgd[-1] <= 1.1 * min(sgd) < math.inf
    found = paths(surface, 600)
    assert max(steps_to(found[name], 1e-4) for name in NAMES[1:]) <= min(sgd) / 2


def test_sgd_zigzags_in_the_ravine() -> None:
    across = paths(SURFACES["ravine"])["SGD"].points[:, 1]
    assert np.all(across[1:] * across[:-1] < 0)


@pytest.mark.parametrize("name", ["rosenbrock", "beale"])
def test_momentum_is_faster_with_the_same_learning_rate(name: str) -> None:
    found = paths(SURFACES[name])
    assert len(set(SURFACES[name].lr.values())) == 1
    assert found["SGD"].minimum is None
    for other in NAMES[1:]:
        assert found[other].minimum == 0
        assert found[other].values[-1] < 1e-3 * found["SGD"].values[-1]


# Divergence, other methods, arguments -------------------------------------------------------------

@pytest.mark.parametrize("surface", EVERY, ids=lambda s: s.title)
@pytest.mark.parametrize("lr", [5, 1e300])
def test_a_path_that_diverges_is_cut_before_it_leaves(surface: Surface, lr: float) -> None:
    for path in paths(surface, 5000, lr=lr).values():
        assert path.diverged
        assert path.minimum is None
        assert path.steps == len(path.points) - 1 < 5000
        assert np.isfinite(path.values).all()
        low, high = np.array(surface.bounds).T
        assert np.all(abs(path.points - (low + high) / 2) <= 5 * (high - low))


def test_a_value_that_is_not_finite_ends_the_path() -> None:
    hole = Surface("hole", "hole", lambda x, y: np.log(x), lambda x, y: (1 / x, 0 * y),
                   start=(1.0, 0.0), bounds=((0.0, 2.0), (-1.0, 1.0)), minima=((0.0, 0.0),),
                   lr={"SGD": 0.3}, steps=9)
    path = paths(hole, methods={"SGD": fm.SGD})["SGD"]
    assert path.diverged
    assert path.points[:, 0].min() > 0


def test_any_optimizer_can_take_part() -> None:
    found = paths(WELL, 20, classics(0.5) | {"Adam": fm.Adam, "quasi": partial(fm.QHM, nu=0.5)},
                  lr=0.01)
    assert [path.label for path in found.values()] == [
        "SGD", "momentum 0.5", "Nesterov 0.5", "Adam", "quasi 0.999"]
    np.testing.assert_allclose(abs(found["Adam"].points[1] - WELL.start), 0.01, rtol=1e-6)


@pytest.mark.parametrize(("shown", "text"), [
    (WELL, "<Surface 'double-well': from (1.8, -1) to (-1.1, -0.55) and (1, 0.5), 150 steps>"),
    (paths(WELL, 150)["momentum"], "<Trajectory of momentum 0.9 on 'double-well', lr 0.05: "
                                   "150 steps to f = 2.92e-07, the minimum (-1.1, -0.55)>"),
    (paths(WELL, 1, lr=0.1)["SGD"], "<Trajectory of SGD on 'double-well', lr 0.1: 1 step to "
                                    "f = 1.43, no minimum>"),
    (paths(WELL, lr=5)["SGD"], "<Trajectory of SGD on 'double-well', lr 5: 0 steps to f = 3.26, "
                               "diverged>")], ids=lambda case: type(case).__name__)
def test_repr(shown: Any, text: str) -> None:
    assert repr(shown) == text


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: paths(WELL, 0), ValueError, "steps must be an integer >= 1 or None, not 0"),
    (lambda: paths(WELL, 1.5), TypeError, "steps must be an integer >= 1 or None, not 1.5"),
    (lambda: paths(WELL, True), TypeError, "steps must be"),
    (lambda: paths(WELL, lr=-1), ValueError, "lr must be a finite number >= 0, not -1"),
    (lambda: paths(WELL, methods={"Adam": fm.Adam}), ValueError, "lr must be given: double-well "
     "has one for SGD, momentum, Nesterov, not for 'Adam'"),
    (lambda: paths(WELL, methods=classics(1.5)), ValueError, "momentum must be a number from 0"),
    (lambda: ravine(0.5), ValueError, "condition must be a finite number >= 1"),
    (lambda: ravine(2, math.nan), ValueError, "angle a finite one, not 2 and nan"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[row[2][:40] for row in WRONG])
def test_wrong_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
