"""Batch normalization: its formula, gradients, moving averages, and torch's."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from fastmom.nn.normalization import BatchNorm

SHAPES = [(6, 3), (4, 2, 3), (3, 2, 2, 5), (6, 1)]


def built(shape: tuple[int, ...], dtype: Any = np.float64, more: int = 0, needs_dx: bool = True,
          **arguments: Any) -> BatchNorm:
    """A layer for inputs of this shape, with other parameters than the initial ones."""
    layer, dtype, rng = BatchNorm(**arguments), np.dtype(dtype), np.random.default_rng(7)
    assert layer.build(shape[1:], dtype, rng) == shape[1:]
    layer.allocate(shape[0] + more, dtype, needs_dx=needs_dx)
    for p in layer.params:
        p += 0.3 * rng.standard_normal(p.shape)
    return layer


def data(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> Any:
    return (2 + 3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def axes(x: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_training_output(shape: tuple[int, ...], dtype: Any) -> None:
    layer, x = built(shape, dtype, eps=1e-2), data(shape, dtype)
    before = x.copy()
    y = layer.forward(x, training=True)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(axes(x))) / np.sqrt(wide.var(axes(x)) + 1e-2)
    expected = expected * layer.gamma + layer.beta
    assert (y.dtype, y.shape) == (dtype, shape)
    np.testing.assert_allclose(y, expected, rtol=0, atol=30 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_moving_averages_and_evaluation(shape: tuple[int, ...], momentum: float) -> None:
    layer = built(shape, momentum=momentum)
    mean, variance = np.zeros(shape[-1]), np.ones(shape[-1])
    for seed in range(3):
        x = data(shape, seed=seed)
        layer.forward(x, training=True)
        mean = momentum * mean + (1 - momentum) * x.mean(axes(x))
        variance = momentum * variance + (1 - momentum) * x.var(axes(x))
    np.testing.assert_allclose(layer.state, [mean, variance], rtol=1e-12)
    assert layer.state[0] is layer.moving_mean
    assert layer.state[1] is layer.moving_variance
    x = data(shape, seed=9)[:2]
    expected = (x - mean) / np.sqrt(variance + 1e-3) * layer.gamma + layer.beta
    np.testing.assert_allclose(layer.forward(x, training=False), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.state, [mean, variance], rtol=1e-12)   # as they were


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape: tuple[int, ...]) -> None:
    layer, x = built(shape, more=2), data(shape)
    dy, h = np.random.default_rng(1).standard_normal(shape), 1e-5
    y = layer.forward(x, training=True)
    outputs = y.copy()
    dx = layer.backward(dy.copy())
    assert dx is not None
    np.testing.assert_array_equal(y, outputs)
    gradients = [dx.copy(), *(g.copy() for g in layer.grads)]
    for array, gradient in zip([x, *layer.params], gradients, strict=True):
        for i in np.ndindex(array.shape):
            ends, kept = [], array[i]
            for sign in (1, -1):
                array[i] = kept + sign * h
                ends.append(np.vdot(layer.forward(x, training=True), dy))
            array[i] = kept
            assert gradient[i] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8)


def test_no_gradient_of_the_input_where_nobody_needs_it() -> None:
    layers = [built((6, 3), needs_dx=needs) for needs in (True, False)]
    x, dy = data((6, 3)), data((6, 3), seed=1)
    for layer in layers:
        layer.forward(x, training=True)
    assert layers[0].backward(dy.copy()) is not None
    assert layers[1].backward(dy) is None
    np.testing.assert_array_equal(layers[0].grads, layers[1].grads)


def test_a_smaller_batch_uses_the_first_rows_of_buffers_made_once() -> None:
    layer, fresh = built((8, 3)), built((3, 3))
    layer.forward(data((8, 3)), training=True)
    y, x = layer.forward(data((3, 3), seed=1), training=True), data((3, 3), seed=1)
    assert np.shares_memory(y, layer.y)
    np.testing.assert_array_equal(y, fresh.forward(x, training=True))
    dy = data((3, 3), seed=2)
    np.testing.assert_array_equal(layer.backward(dy.copy()), fresh.backward(dy))  # type: ignore[arg-type]


@pytest.mark.parametrize("x", [np.full((4, 2), 3.0), np.array([[5.0, -5.0]])])
def test_features_that_are_constant_in_a_batch_become_beta(x: Any) -> None:
    layer = built(x.shape)
    np.testing.assert_array_equal(layer.forward(x, training=True), np.tile(layer.beta, (len(x), 1)))
    assert np.isfinite(layer.backward(np.ones_like(x))).all()   # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(6, 3), (40, 7)])
def test_equals_torch(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    layer = built(shape, momentum=0.8, eps=1e-4)
    peer = torch.nn.BatchNorm1d(shape[1], eps=1e-4, momentum=0.2, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(layer.params, (peer.weight, peer.bias), strict=True):
            theirs.copy_(torch.from_numpy(ours))
    n, variance = shape[0], np.ones(shape[1])
    for seed in range(3):
        x, dy = data(shape, seed=seed), data(shape, seed=seed + 5)
        given = torch.from_numpy(x).requires_grad_()
        peer.zero_grad()
        expected = peer(given)
        expected.backward(torch.from_numpy(dy))
        y = layer.forward(x, training=True)
        np.testing.assert_allclose(y, expected.detach().numpy(), atol=1e-13)
        np.testing.assert_allclose(layer.backward(dy), given.grad.numpy(), atol=1e-13)  # type: ignore[arg-type]
        for gradient, theirs in zip(layer.grads, (peer.weight, peer.bias), strict=True):
            np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-12)
        variance = 0.8 * variance + 0.2 * x.var(axis=0) * n / (n - 1)   # torch's is unbiased
    np.testing.assert_allclose(layer.moving_mean, peer.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(variance, peer.running_var.numpy(), rtol=1e-12)
    layer.moving_variance[...] = variance
    x = data(shape, seed=11)
    np.testing.assert_allclose(layer.forward(x, training=False),
                               peer.eval()(torch.from_numpy(x)).detach().numpy(), atol=1e-13)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"momentum": 1.1}, ValueError, "momentum must be a number from 0 to 1, not 1.1"),
    ({"momentum": -0.1}, ValueError, "momentum must be a number from 0 to 1, not -0.1"),
    ({"momentum": None}, TypeError, "momentum must be a number from 0 to 1, not None"),
    ({"momentum": abs}, TypeError, "momentum must be a number from 0 to 1"),
    ({"eps": 0}, ValueError, "eps must be a finite number > 0, not 0"),
    ({"eps": math.inf}, ValueError, "eps must be a finite number > 0, not inf"),
    ({"eps": True}, TypeError, "eps must be a finite number > 0, not True"),
    ({"input_shape": (3, 0)}, ValueError, "input_shape must be an integer >= 1"),
])
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        BatchNorm(**arguments)
