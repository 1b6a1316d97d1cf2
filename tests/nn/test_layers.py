"""Each layer on its own: what its arguments do, and which it refuses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmom import nn

FLOAT32 = np.dtype(np.float32)


def built(layer: nn.Layer, shape: tuple[int, ...], batch: int, dtype: Any = FLOAT32) -> Any:
    """The layer, ready for use outside a model."""
    layer.build(shape, np.dtype(dtype), np.random.default_rng(0))
    layer.allocate(batch, np.dtype(dtype), needs_dx=True)
    return layer


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: nn.Dense(0), ValueError, "units must be an integer >= 1, not 0"),
    (lambda: nn.Dense(-3), ValueError, "units must be an integer >= 1, not -3"),
    (lambda: nn.Dense(2.0), TypeError, "units must be an integer >= 1, not 2.0"),
    (lambda: nn.Dense(True), TypeError, "units must be an integer >= 1, not True"),
    (lambda: nn.Dense(2, activation="swish"), ValueError,
     "'gelu' or None or an Activation, not 'swish'"),
    (lambda: nn.Dense(2, activation=max), ValueError, "activation must be one of"),
    (lambda: nn.Dense(2, input_shape=5), TypeError, "input_shape must be a sequence of integers"),
    (lambda: nn.Flatten(input_shape=()), TypeError, "input_shape must be a sequence of integers"),
    (lambda: nn.Flatten(input_shape=(28, 0)), ValueError, "input_shape must be an integer >= 1"),
    (lambda: nn.Flatten(input_shape=(28, None)), TypeError, "input_shape must be an integer >= 1"),
    (lambda: nn.Dropout(1), ValueError, "rate must be a number from 0 to below 1, not 1"),
    (lambda: nn.Dropout(-0.1), ValueError, "rate must be a number from 0 to below 1, not -0.1"),
    (lambda: nn.Dropout(math.nan), ValueError, "rate must be a number from 0 to below 1, not nan"),
    (lambda: nn.Dropout("0.2"), TypeError, "rate must be a number from 0 to below 1, not '0.2'"),
    (lambda: nn.Dropout(False), TypeError, "rate must be a number from 0 to below 1, not False"),
    (lambda: built(nn.Dense(2), (28, 28), 1), ValueError, "put a Flatten before it"),
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_wrong_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()


@pytest.mark.parametrize(("activation", "expected"), [
    (None, [[-1.0, 0.0, 2.0]]),
    ("linear", [[-1.0, 0.0, 2.0]]),
    ("relu", [[0.0, 0.0, 2.0]]),
    ("softmax", np.exp([[-1.0, 0.0, 2.0]]) / np.exp([-1.0, 0.0, 2.0]).sum()),
])
def test_dense_is_activation_of_product_and_bias(activation: str | None, expected: Any) -> None:
    layer = built(nn.Dense(3, activation=activation), (2,), 4, np.float64)
    layer.kernel[...] = [[1, 2, 3], [4, 5, 6]]
    layer.bias[...] = [-6, -7, -7]
    np.testing.assert_allclose(layer.forward(np.ones((1, 2)), training=False), expected, rtol=1e-15)


@pytest.mark.parametrize(("fan_in", "units"), [(784, 128), (128, 10), (3, 2000)])
def test_dense_starts_glorot_uniform(fan_in: int, units: int) -> None:
    kernel, bias = built(nn.Dense(units), (fan_in,), 1).params
    bound = math.sqrt(6 / (fan_in + units))
    n, variance = kernel.size, bound ** 2 / 3
    assert kernel.shape == (fan_in, units)
    assert not bias.any()
    assert 0.99 * bound < np.abs(kernel).max() <= np.float32(bound)
    assert abs(kernel.mean()) < 5 * math.sqrt(variance / n)
    # the variance of a uniform variable's square is 4/5 of its squared variance
    assert abs(kernel.var() - variance) < 5 * variance * math.sqrt(0.8 / n)


def test_flatten_is_a_view_both_ways() -> None:
    layer, x = built(nn.Flatten(), (2, 3), 4), np.arange(24.0).reshape(4, 2, 3)
    y = layer.forward(x, training=True)
    assert y.shape == (4, 6)
    assert np.shares_memory(x, y)
    np.testing.assert_array_equal(layer.backward(y), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_dropout_statistics(rate: float, dtype: Any) -> None:
    n = 500
    layer, x = built(nn.Dropout(rate), (n,), n, dtype), np.ones((n, n), dtype)
    first = layer.forward(x, training=True).copy()
    second = layer.forward(x, training=True).copy()
    assert set(np.unique(first)) == {0, dtype(1 / (1 - rate))}
    sigma = math.sqrt(rate * (1 - rate) / n)        # of the dropped share of one row or column
    for y in (first, second):
        dropped = y == 0
        assert abs(dropped.mean() - rate) < 5 * sigma / math.sqrt(n)
        assert np.abs(dropped.mean(axis=0) - rate).max() < 6 * sigma
        assert np.abs(dropped.mean(axis=1) - rate).max() < 6 * sigma
    both = ((first == 0) & (second == 0)).mean()    # masks of two passes are independent
    assert abs(both - rate ** 2) < 5 * rate / n
    np.testing.assert_array_equal(layer.backward(np.ones_like(x)), second)


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.5, False)])
def test_dropout_that_passes_through(rate: float, training: bool) -> None:
    layer, x = built(nn.Dropout(rate), (3,), 4), np.ones((4, 3), np.float32)
    assert layer.forward(x, training=training) is x
    assert layer.backward(x) is x
    assert (x == 1).all()
    assert layer.step == 0


def test_dropout_masks_depend_on_the_seed_and_the_layer(make: Any) -> None:
    x = np.ones((1, 100), np.float32)
    masks = []
    for seed in (0, 0, 1):
        model = make([nn.Dropout(0.5, input_shape=(100,)), nn.Dropout(0.5),
                      nn.Dense(3, activation="softmax")], seed=seed)
        model.train_on_batch(x, [0])
        masks.append([layer.kept.tobytes() for layer in model.layers[:2]])
    assert masks[0] == masks[1]
    assert len({*masks[0], *masks[2]}) == 4


def test_dropout_forgets_the_mask_of_the_pass_before() -> None:
    layer, ones = built(nn.Dropout(0.5), (50,), 4), np.ones((4, 50), np.float32)
    assert not layer.forward(ones, training=True).all()
    layer.forward(ones, training=False)
    assert layer.backward(ones.copy()).all()
