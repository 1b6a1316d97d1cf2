"""The loss and softmax against float64, and far from zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmom import nn
from fastmom.nn.activations import Softmax
from fastmom.nn.losses import SparseCategoricalCrossentropy

EPS = {dtype: float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}

# logits of one sample, its label, and the loss: log(sum(exp(z))) - z[label]
EXACT = [
    ([0, 0], 0, np.log(2)),
    ([1, 1, 1, 1], 3, np.log(4)),
    ([0, np.log(3)], 1, np.log(4 / 3)),
    ([1e4, 0], 0, 0.0),
    ([1e4, 0], 1, 1e4),
    ([-1e4, -1e4], 0, np.log(2)),
    ([3e38, -3e37], 0, 0.0),
    ([1e30, 1e30, 1e30], 2, np.log(3)),
    ([88.8, 88.8], 1, np.log(2)),       # exp overflows float32
    ([5], 0, 0.0),
]


def reference(logits: Any, y: Any) -> tuple[float, Any]:
    """Mean loss and its gradient, in longdouble."""
    z = logits.astype(np.longdouble)
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    return float(loss), (p / len(y)).astype(np.float64)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("logits", "label", "expected"), EXACT)
def test_exact_values(logits: list[float], label: int, expected: float, dtype: Any) -> None:
    z, y = np.array([logits], dtype), np.array([label])
    loss, correct = SparseCategoricalCrossentropy().forward(z, y)
    assert loss == pytest.approx(expected, rel=2 * EPS[dtype], abs=0)
    assert correct == (np.argmax(logits) == label)
    assert z.sum() == pytest.approx(1, rel=2 * EPS[dtype])    # now the probabilities


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("scale", [1e-3, 1, 30])
def test_against_longdouble(scale: float, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    logits, y = (scale * rng.standard_normal((64, 10))).astype(dtype), rng.integers(0, 10, 64)
    expected, gradient = reference(logits, y)
    eps, loss = EPS[dtype], SparseCategoricalCrossentropy()
    spread = np.ptp(logits, axis=1).max()       # subtracting the largest logit rounds by this
    total, correct = loss.forward(buffer := logits.copy(), y)
    assert correct == np.count_nonzero(logits.argmax(axis=1) == y)
    assert total / 64 == pytest.approx(expected, rel=4 * eps, abs=0)
    got = loss.backward(buffer, y)
    assert got is buffer
    np.testing.assert_allclose(got, gradient, rtol=0, atol=(4 + spread) * eps / 64)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("logits", [case[0] for case in EXACT])
def test_softmax(logits: list[float], dtype: Any) -> None:
    z = np.array([logits, logits[::-1]], dtype)
    expected = np.exp(z.astype(np.longdouble) - z.astype(np.longdouble).max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    Softmax().forward(z)
    np.testing.assert_allclose(z, expected.astype(np.float64), rtol=4 * EPS[dtype])


def test_huge_logits_through_a_model(make: Any, problem: Any) -> None:
    model = make([nn.Dense(3, activation="softmax", input_shape=(2,))], lr=0.0)
    model.params[0][...] = [[1e3, -1e3, 0], [0, 0, 0]]
    x = np.array([[1e3, 0], [-1e3, 0]], np.float32)
    np.testing.assert_array_equal(model.predict(x), [[1, 0, 0], [0, 1, 0]])
    assert model.train_on_batch(x, [0, 1]) == {"loss": 0, "accuracy": 1}
    assert model.train_on_batch(x, [1, 1]) == {"loss": 1e6, "accuracy": 0.5}
    assert all(np.isfinite(g).all() for g in model.grads)
