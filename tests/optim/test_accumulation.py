"""One step from several gradients equals one step from their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmom as fm


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_mean(steps: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    shapes = [(5,), (100, 50), (3,)]
    params = [rng.standard_normal(s).astype(dtype) for s in shapes]
    expected = [p.copy() for p in params]
    batches = fm.GradientAccumulation(fm.SGD(params, lr=0.1, momentum=0.9, clip_norm=1.0), steps)
    direct = fm.SGD(expected, lr=0.1, momentum=0.9, clip_norm=1.0)
    for _ in range(4):
        grads = [[rng.standard_normal(s).astype(dtype) for s in shapes[:2]] + [None]
                 for _ in range(steps)]
        taken = [batches.step(g) for g in grads]
        assert taken == [False] * (steps - 1) + [True]
        means = [np.mean([g[i] for g in grads], axis=0, dtype=np.float64).astype(dtype)
                 for i in range(2)]
        direct.step([*means, None])
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_allclose(p, e, rtol=0, atol=20 * np.finfo(dtype).eps)
    assert batches.optimizer.iterations == 4


def test_some_gradients_may_be_missing() -> None:
    p, q = np.zeros(2), np.zeros(2)
    batches = fm.GradientAccumulation(fm.SGD([p, q], lr=1.0), 2)
    batches.step([np.ones(2), None])
    batches.step([None, None])
    assert p.tolist() == [-0.5, -0.5]       # the mean over both calls
    assert q.tolist() == [0, 0]


def test_rejected_gradients_add_nothing() -> None:
    p = np.zeros(2)
    batches = fm.GradientAccumulation(fm.SGD([p], lr=1.0, nonfinite="raise"), 2)
    batches.step([np.ones(2)])
    with pytest.raises(ValueError, match=r"grads\[0\] has shape"):
        batches.step([np.ones(3)])
    assert batches.pending == 1
    batches.step([np.ones(2)])
    assert p.tolist() == [-1, -1]
    batches.step([np.full(2, np.nan)])
    with pytest.raises(FloatingPointError):
        batches.step([np.ones(2)])
    assert batches.pending == 0
    batches.step([np.ones(2)])
    batches.step([np.ones(2)])
    assert p.tolist() == [-2, -2]


@pytest.mark.parametrize(("optimizer", "steps", "error", "message"), [
    (None, 2, TypeError, "optimizer must be"),
    (fm.SGD(), 2, ValueError, "optimizer has no parameters"),
    (fm.SGD([np.ones(1)]), 0, ValueError, "steps must be"),
    (fm.SGD([np.ones(1)]), 2.0, TypeError, "steps must be"),
    (fm.SGD([np.ones(1)]), True, TypeError, "steps must be"),
])
def test_wrong_arguments(optimizer: Any, steps: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fm.GradientAccumulation(optimizer, steps)


def test_repr() -> None:
    batches = fm.GradientAccumulation(fm.SGD([np.zeros(2)], lr=0.5), 4)
    assert repr(batches) == "GradientAccumulation(SGD(lr=0.5, momentum=0.0), steps=4)"
