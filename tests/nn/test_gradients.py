"""Backpropagation equals central finite differences of the loss, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmom import nn
from fastmom.nn.activations import ReLU

H = 1e-5            # truncation (h^2) and rounding (eps / h) are both some 1e-11 of the loss
TOLERANCE = 1e-6    # of a tensor's largest gradient
ENTRIES = 40        # checked per tensor, and as many random directions through all of it


class SameDraws:
    """In place of a dropout layer's generator: the same mask in every forward pass."""

    def random(self, *, out: Any, dtype: Any) -> None:
        np.random.default_rng(3).random(out=out, dtype=dtype)


def dense(units: int, activation: str | None = None, **kwargs: Any) -> nn.Layer:
    return nn.Dense(units, activation=activation, **kwargs)


# name: (layers, shape of a sample, classes, samples)
NETWORKS: dict[str, tuple[Callable[[], list[nn.Layer]], tuple[int, ...], int, int]] = {
    "article": (lambda: [nn.Flatten(input_shape=(28, 28)), dense(128, "relu"), nn.Dropout(0.2),
                         dense(10, "softmax")], (28, 28), 10, 8),
    "no hidden layer": (lambda: [dense(3, "softmax", input_shape=(5,))], (5,), 3, 8),
    "one sample": (lambda: [dense(6, "relu", input_shape=(5,)), dense(3, "softmax")], (5,), 3, 1),
    "linear": (lambda: [dense(6, input_shape=(5,)), dense(4, "linear"), dense(3, "softmax")],
               (5,), 3, 8),
    "softmax inside": (lambda: [dense(6, "softmax", input_shape=(5,)), dense(3, "softmax")],
                       (5,), 3, 8),
    "deep": (lambda: [dense(9, "relu", input_shape=(5,)), nn.Dropout(0.5), dense(8, "relu"),
                      nn.Dropout(0.1), dense(7, "relu"), dense(3, "softmax")], (5,), 3, 8),
    "dropout first and twice": (lambda: [nn.Dropout(0.3, input_shape=(5,)), nn.Dropout(0.3),
                                         dense(3, "softmax")], (5,), 3, 8),
    "dropout of nothing": (lambda: [dense(6, "relu", input_shape=(5,)), nn.Dropout(0),
                                    dense(3, "softmax")], (5,), 3, 8),
    "flatten inside": (lambda: [dense(6, "relu", input_shape=(5,)), nn.Flatten(),
                                dense(3, "softmax")], (5,), 3, 8),
    "two classes": (lambda: [dense(2, "softmax", input_shape=(5,))], (5,), 2, 8),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, make: Any, problem: Any) -> tuple[Any, Any, Any]:
    """A model whose steps change nothing (lr 0), with samples and labels."""
    layers, shape, classes, samples = NETWORKS[request.param]
    model = make(layers(), dtype="float64", lr=0.0)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, nn.Dropout):
            layer.rng = SameDraws()     # type: ignore[assignment]
        if isinstance(layer, nn.Dense):
            layer.bias += 0.1 * rng.standard_normal(layer.units)
    return model, *problem(samples, np.float64, 2, shape, classes)


def active(model: nn.Sequential) -> list[Any]:
    """Which units were on the upper side of ReLU's kink in the last pass."""
    return [layer.y > 0 for layer in model.layers
            if isinstance(layer, nn.Dense) and isinstance(layer.activation, ReLU)]


def difference(model: nn.Sequential, x: Any, y: Any, p: Any, direction: Any) -> float:
    """The loss's derivative by `p` along a direction that crosses no kink."""
    before, losses, sides = p.copy(), [], []
    for sign in (1, -1):
        p += sign * H * direction
        losses.append(model.train_on_batch(x, y)["loss"])
        sides.append(active(model))
        p[...] = before
    for above, below in zip(*sides, strict=True):
        np.testing.assert_array_equal(above, below, "a kink: draw other samples for this network")
    return (losses[0] - losses[1]) / (2 * H)


def directions(gradient: Any) -> Any:
    """Unit vectors: axes (the largest gradients and others), and random ones."""
    rng = np.random.default_rng(5)
    largest = np.argsort(np.abs(gradient), axis=None)[-ENTRIES // 2:]
    for i in {*largest.tolist(), *rng.integers(0, gradient.size, ENTRIES // 2).tolist()}:
        axis = np.zeros(gradient.size)
        axis[i] = 1
        yield axis.reshape(gradient.shape)
    for _ in range(ENTRIES):
        vector = rng.standard_normal(gradient.shape)
        yield vector / np.linalg.norm(vector)


def test_gradients(network: tuple[Any, Any, Any]) -> None:
    model, x, y = network
    model.train_on_batch(x, y)
    gradients = [g.copy() for g in model.grads]
    for p, gradient in zip(model.params, gradients, strict=True):
        scale = np.abs(gradient).max()
        assert scale > 0
        for direction in directions(gradient):
            expected = difference(model, x, y, p, direction)
            assert abs(np.vdot(gradient, direction) - expected) <= TOLERANCE * scale


def test_a_smaller_batch_uses_the_first_rows(make: Any, problem: Any) -> None:
    x, y = problem(32, np.float64)
    fresh, used = (make(dtype="float64", lr=0.0) for _ in range(2))
    used.train_on_batch(*problem(32, np.float64, seed=9))
    used.predict(x)
    for model in (fresh, used):
        model.layers[2].rng = SameDraws()
        model.train_on_batch(x[:5], y[:5])
    for a, b in zip(fresh.grads, used.grads, strict=True):
        np.testing.assert_array_equal(a, b)
