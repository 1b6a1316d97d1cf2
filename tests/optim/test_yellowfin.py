"""YellowFin: its theory on quadratics, the authors' rule, what is not measured, and its state."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import checkpoint
from fastmom.optim.reference import Reference
from fastmom.optim.yellowfin import Measurements, best

F: Any = np.float32


@pytest.mark.parametrize("condition", [4.0, 100.0, 1000.0])
def test_momentum_follows_the_condition_number(condition: float) -> None:
    """On least squares whose residuals have variance 1, so that the squared norm of a row's
    gradient is its curvature, as the method assumes; small steps stay where that holds."""
    curvature = np.array([condition, *9 * [1.0]])
    rng, p = np.random.default_rng(0), np.zeros(10)
    optimizer = fm.YellowFin([p], lr=0.001, beta=0.995)
    for i in rng.integers(10, size=3000):
        g = np.zeros(10)
        g[i] = curvature[i] * p[i] + np.sqrt(curvature[i]) * rng.choice([-1, 1])
        optimizer.step([g])
    critical = ((np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)) ** 2
    distance = np.mean(np.sqrt(curvature)) / np.mean(curvature)
    against_noise = best(distance, 1.0, np.mean(curvature)) ** 2
    assert optimizer.tuned.momentum == pytest.approx(max(critical, against_noise), abs=0.05)
    assert critical < optimizer.tuned.momentum < critical + 0.2
    assert optimizer.tuned.h_max / optimizer.tuned.h_min == pytest.approx(condition, rel=0.4)


def test_variance_is_that_of_the_noise() -> None:
    """Also where the mean gradient is far larger, and moves."""
    rng, p = np.random.default_rng(0), np.full(1000, 10.0)
    optimizer = fm.YellowFin([p], lr=0.0, beta=0.99)
    for _ in range(1000):
        optimizer.step([p + rng.standard_normal(1000)])
        p *= 0.999
    assert optimizer.tuned.variance == pytest.approx(1000, rel=0.2)
    assert np.sum(p ** 2) > 10_000


@pytest.mark.parametrize(("slope", "falls"), [(np.copy, True), (np.ones_like, False)])
def test_learning_rate_falls_where_only_noise_is_left(slope: Any, falls: bool) -> None:
    """In a valley and not on a plane; each measured number is that of the reference."""
    rng, p = np.random.default_rng(0), np.full(50, 3.0)
    optimizer = fm.YellowFin([p], beta=0.98)
    reference = Reference(optimizer, np.longdouble)
    for _ in range(1500):
        g = slope(p) + rng.standard_normal(50) / 10
        optimizer.step([g])
        reference.step([g])
    own, other = (Measurements(o.state[0]["measured"].astype(float))
                  for o in (optimizer, reference))
    np.testing.assert_allclose(own.numbers(), other.numbers(), rtol=1e-9)
    assert own.fall < 0.1 if falls else own.fall == 1


def test_best_momentum_solves_the_cubic() -> None:
    for distance, h, variance in [(1, 1, 1), (0.1, 3, 20), (10, 2, 1e-3), (1e-4, 1e-3, 1)]:
        x = best(distance, h, variance)
        grid = np.linspace(0, 1, 100_001)
        cost = grid ** 2 * distance ** 2 + (1 - grid) ** 4 * variance / h ** 2
        assert x == pytest.approx(grid[np.argmin(cost)], abs=2e-5)
    assert best(1e300, 1e300, 1e-300) == 0
    assert best(1e-300, 1e-300, 1e300) == pytest.approx(1)


def test_an_exploding_gradient_is_clipped_and_hardly_counts() -> None:
    rng = np.random.default_rng(0)
    params = [np.zeros(50), np.zeros(50)]
    one, other = (fm.YellowFin([p], adapt_clip=clips)
                  for p, clips in zip(params, (True, False), strict=True))
    before = one.tuned
    for step in range(300):
        g = rng.standard_normal(50) * (1e8 if step == 250 else 1)
        before = one.tuned if step == 250 else before
        one.step([g])
        other.step([g])
    assert one.tuned.h_max < 2 * before.h_max < other.tuned.h_max / 5
    assert one.tuned.variance < 2 * before.variance < other.tuned.variance / 1e9
    assert np.linalg.norm(params[0]) < 5


@pytest.mark.parametrize("policy", ["skip", "raise", "ignore"])
def test_a_gradient_that_is_not_finite_is_not_measured(policy: Any) -> None:
    p = np.ones(5)
    optimizer = fm.YellowFin([p], nonfinite=policy)
    for _ in range(3):
        optimizer.step([p.copy()])
    before = optimizer.state[0]["measured"].copy()
    bad = np.array([1.0, np.inf, 1.0, 1.0, 1.0])
    if policy == "raise":
        with pytest.raises(FloatingPointError, match="inf"):
            optimizer.step([bad])
    else:
        assert optimizer.step([bad]) == (policy == "ignore")
    np.testing.assert_array_equal(optimizer.state[0]["measured"], before)
    assert np.isfinite(p).all() == (policy != "ignore")
    with pytest.raises(TypeError, match="dtype float32"):
        optimizer.step([np.ones(5, np.float32)])
    np.testing.assert_array_equal(optimizer.state[0]["measured"], before)


def test_gradients_of_any_size() -> None:
    for dtype, scale in [(np.float64, 1e160), (np.float64, 1e-160), (F, 1e30), (F, 0.0)]:
        p = np.ones(20, dtype)
        optimizer = fm.YellowFin([p], adapt_clip=False)
        for step in range(50):
            assert optimizer.step([np.full(20, scale * (1 + step % 3), dtype)])
        assert np.isfinite(optimizer.state[0]["measured"]).all()
        assert np.isfinite(p).all()


def steps(optimizer: fm.Optimizer, begin: int, end: int) -> None:
    for step in range(begin, end):
        rng = np.random.default_rng(step)
        optimizer.step([rng.standard_normal(n).astype(F) for n in (40, 5000)])


def test_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """From a copy, a pickle, a state dict and a checkpoint; and tells the same."""
    def made() -> tuple[list[Any], fm.YellowFin]:
        params = [np.ones(40, F), np.ones(5000, F)]
        return params, fm.YellowFin(params, lr=0.5)
    params, one = made()
    assert np.isnan(one.tuned.momentum)
    steps(one, 0, 30)
    loaded, other = made()
    file = tmp_path / "state.npz"
    checkpoint.save(file, params=params, optimizer=one)
    checkpoint.load(file, params=loaded, optimizer=other)
    copies = [other, copy.deepcopy(one), pickle.loads(pickle.dumps(one))]
    assert [o.tuned for o in copies] == 3 * [one.tuned]
    steps(one, 30, 60)
    for own in copies:
        steps(own, 30, 60)
        for p, q in zip(own.param_groups[0]["params"], params, strict=True):
            assert p.tobytes() == q.tobytes()
    assert len(one.state[1]) == 1           # the numbers of all are with the first


def test_groups_share_what_is_measured() -> None:
    """One of half the factor moves half as far; later groups take part."""
    a, b, c = (np.ones(30) for _ in range(3))
    optimizer = fm.YellowFin([{"params": [a]}, {"params": [b], "lr": 0.5}])
    for _ in range(20):
        optimizer.step([np.full(30, 0.1), np.full(30, 0.1)])
    np.testing.assert_allclose(1 - a, 2 * (1 - b))
    h_min = optimizer.tuned.h_min
    optimizer.add_param_group({"params": [c]})
    for _ in range(20):
        optimizer.step([np.full(30, 0.1)] * 3)
    assert optimizer.tuned.h_min > h_min * 1.01
    assert (c < 1).all()


def test_by_name() -> None:
    model = fm.nn.Sequential([fm.nn.Dense(1, input_shape=(3,))])
    model.compile(optimizer="yellowfin", lr=2.0, loss="mse")
    x = np.random.default_rng(0).standard_normal((640, 3)).astype(F)
    losses = model.fit(x, x @ np.ones((3, 1), F), epochs=20, verbose=0).history["loss"]
    assert isinstance(model.optimizer, fm.YellowFin)
    assert losses[-1] < losses[0] / 100
