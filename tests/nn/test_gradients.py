"""Backpropagation equals central finite differences of the loss, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from fastmom import nn
from fastmom.nn.activations import ACTIVATIONS
from fastmom.nn.losses import LOSSES
from fastmom.nn.registered import LAYERS

H = 1e-5            # truncation (h^2) and rounding (eps / h) are both some 1e-11 of the loss
TOLERANCE = 1e-6    # of a tensor's largest gradient; to cross a kink shows as 0.1 or so
ENTRIES = 4         # checked per tensor, and as many random directions through all of it

# Losses by name, and of logits where they take them
KINDS: dict[str, Callable[[], nn.Loss]] = {
    **{kind().name: kind for kind in LOSSES.values()},
    **{f"{kind().name} of logits": lambda kind=kind: kind(from_logits=True)
       for kind in LOSSES.values() if kind().fused}}

# Every loss with every last activation it allows
ENDS = [(kind, head) for kind, head in product(KINDS, ACTIVATIONS)
        if KINDS[kind]().fused in (None, head)]


def mixed(activation: str, head: str) -> list[nn.Layer]:
    """A network with layers of every kind, at least one with parameters before each."""
    return [nn.Rescaling(0.5, -0.1, input_shape=(2, 3)), nn.BatchNorm(),
            nn.Activation(activation), nn.Flatten(), nn.Dense(7, activation=activation),
            nn.BatchNorm(momentum=0.5, eps=0.1), nn.Dropout(0.3), nn.Rescaling(1.5, 0.2),
            nn.Activation(activation), nn.Dense(4, activation=head)]


def test_every_layer_and_loss_is_tested() -> None:
    own = {kind for kind in LAYERS.values() if kind.__module__.startswith("fastmom.")}
    assert {type(layer) for layer in mixed("relu", "softmax")} == own
    assert {kind().name for kind in LOSSES.values()} == {KINDS[kind]().name for kind, _ in ENDS}
    assert {head for _, head in ENDS} == {*ACTIVATIONS}


def targets(kind: str, n: int, outputs: int, rng: np.random.Generator) -> Any:
    return {"labels": lambda: rng.integers(0, outputs, n),
            "classes": lambda: rng.random((n, outputs)),
            "binary": lambda: rng.random((n, outputs)),
            "values": lambda: rng.standard_normal((n, outputs))}[kind]()


def loss(model: nn.Sequential, *data: Any) -> float:
    """The loss in training; steps change nothing (lr 0), and dropout draws the same again."""
    for layer in model.layers:
        if isinstance(layer, nn.Dropout):
            layer.step = 0
    return float(model.train_on_batch(*data))


def directions(gradient: Any) -> Iterator[Any]:
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


def check(model: nn.Sequential, *data: Any) -> None:
    """Compare the gradients by all parameters with differences of the loss."""
    loss(model, *data)
    gradients = [g.copy() for g in model.grads]
    overall = max(np.abs(g).max() for g in gradients)
    assert overall > 1e-4
    for p, gradient in zip(model.params, gradients, strict=True):
        scale = max(np.abs(gradient).max(), 1e-3 * overall)
        before = p.copy()
        for direction in directions(gradient):
            ends = []
            for sign in (1, -1):
                p += sign * H * direction
                ends.append(loss(model, *data))
                p[...] = before
            expected = (ends[0] - ends[1]) / (2 * H)
            assert abs(np.vdot(gradient, direction) - expected) <= TOLERANCE * scale


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kind", "head"), ENDS)
def test_every_combination(make: Any, kind: str, head: str, activation: str) -> None:
    rng = np.random.default_rng(2)
    model = make(mixed(activation, head), dtype="float64", lr=0.0, loss=KINDS[kind](), metrics=[])
    for p in model.params:      # away from zeros and ones
        p += 0.3 * rng.standard_normal(p.shape)
    x, y = rng.standard_normal((6, 2, 3)), targets(model.loss.targets, 6, 4, rng)
    check(model, x, y)
    check(model, x, y, 2 * rng.random(6))


def dense(units: int, activation: str | None = None, **kwargs: Any) -> nn.Layer:
    return nn.Dense(units, activation=activation, **kwargs)


# name: (layers, shape of a sample, classes, samples)
NETWORKS: dict[str, tuple[Callable[[], list[nn.Layer]], tuple[int, ...], int, int]] = {
    "article": (lambda: [nn.Flatten(input_shape=(28, 28)), dense(128, "relu"), nn.Dropout(0.2),
                         dense(10, "softmax")], (28, 28), 10, 8),
    "no hidden layer": (lambda: [dense(3, "softmax", input_shape=(5,))], (5,), 3, 8),
    "one sample": (lambda: [dense(6, "relu", input_shape=(5,)), dense(3, "softmax")], (5,), 3, 1),
    "deep": (lambda: [dense(9, "relu", input_shape=(5,)), nn.Dropout(0.5), dense(8, "relu"),
                      nn.Dropout(0.1), dense(7, "relu"), dense(3, "softmax")], (5,), 3, 8),
    "dropout first and twice": (lambda: [nn.Dropout(0.3, input_shape=(5,)), nn.Dropout(0.3),
                                         dense(3, "softmax")], (5,), 3, 8),
    "dropout of nothing": (lambda: [dense(6, "relu", input_shape=(5,)), nn.Dropout(0),
                                    dense(3, "softmax")], (5,), 3, 8),
    "two classes": (lambda: [dense(2, "softmax", input_shape=(5,))], (5,), 2, 8),
    "wide": (lambda: [dense(40, "tanh", input_shape=(30,)), nn.Dropout(0.8), dense(50, "gelu"),
                      dense(3, "softmax")], (30,), 3, 8),
}


@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, zeros: float, make: Any, problem: Any) -> None:
    layers, shape, classes, samples = NETWORKS[name]
    model = make(layers(), dtype="float64", lr=0.0, metrics=[])
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, nn.Dense):
            layer.bias += 0.1 * rng.standard_normal(layer.units)
    x, y = problem(samples, np.float64, 2, shape, classes)
    x[rng.random(x.shape) < zeros] = 0
    check(model, x, y)
    if name in ("article", "wide"):     # products skip zeros if there are many
        first = next(layer for layer in model.layers if isinstance(layer, nn.Dense))
        assert (first.batch is first.nonzeros) == (zeros > 0)


def test_a_smaller_batch_uses_the_first_rows(make: Any, problem: Any) -> None:
    x, y = problem(32, np.float64)
    fresh, used = (make(dtype="float64", lr=0.0) for _ in range(2))
    used.train_on_batch(*problem(32, np.float64, seed=9))
    used.predict(x)
    for model in (fresh, used):
        model.layers[2].step = 0
        model.train_on_batch(x[:5], y[:5])
    for a, b in zip(fresh.grads, used.grads, strict=True):
        np.testing.assert_array_equal(a, b)
