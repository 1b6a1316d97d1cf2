"""Training and using a network on digits of MNIST's form, against the same loop in NumPy.

Dense layers with ReLU and dropout, softmax, SGD with Nesterov momentum. Matrix products are one
thread's work in every row, as in ``fastmom train``; what differs is all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastmom as fm
from bench.conftest import ALL, ONE, assert_finite, rows
from bench.peers.on_numpy import reference_step
from fastmom.optim.reference import Reference

NUMPY = "NumPy"
LR, MOMENTUM = 0.01, 0.9


class Case(NamedTuple):
    what: str
    samples: int
    hidden: tuple[int, ...]
    batch: int
    dropout: float = 0.2

    def __str__(self) -> str:
        units = "-".join(map(str, (784, *self.hidden, 10)))
        batch = f", batch {self.batch}" if self.what == "train" else ""
        return f"{self.what} {units}, {self.samples:,} samples{batch}"

    def model(self) -> fm.nn.Sequential:
        layers: list[Any] = [fm.nn.Rescaling(1 / 255, input_shape=(28, 28)), fm.nn.Flatten()]
        for units in self.hidden:
            layers += [fm.nn.Dense(units, activation="relu"), fm.nn.Dropout(self.dropout)]
        model = fm.nn.Sequential([*layers, fm.nn.Dense(10, activation="softmax")])
        model.compile(fm.SGD(lr=LR, momentum=MOMENTUM, nesterov=True), metrics=["accuracy"])
        return model


ARTICLE: dict[str, Any] = {"hidden": (128,), "batch": 32}
LARGER: dict[str, Any] = {"hidden": (512, 512), "batch": 128}
TRAINING = [(Case("train", 10_000, **ARTICLE), False), (Case("train", 2_000, **LARGER), False),
            (Case("train", 60_000, **ARTICLE), True), (Case("train", 20_000, **LARGER), True)]
USE = [(Case(what, samples, **network), full) for network in (ARTICLE, LARGER)
       for samples, full in ((32, False), (10_000, False), (60_000, True))
       for what in ("predict", "evaluate")]


def tables(cases: list[tuple[Case, bool]]) -> pytest.MarkDecorator:
    teams = [ONE, ALL] if fm.get_num_threads() > 1 else [ONE]
    return rows(*((case, [*teams, NUMPY], full) for case, full in cases))


@pytest.fixture
def data(case: Case, digits: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return as many samples as the case has; 10,000 of them differ."""
    x, y = (np.resize(array, (case.samples, *array.shape[1:])) for array in digits)
    return x, y


@tables(TRAINING)
def test_train(case: Case, who: str, measure: Callable[..., None], data: tuple[Any, Any]) -> None:
    """Time an epoch."""
    x, y = data
    model = case.model()
    with threadpool_limits(1, user_api="blas"):
        if who == NUMPY:
            network = Network(model, case.dropout)
            measure(lambda: network.train(x, y, case.batch))
            params, learned = network.params, network.evaluate(x, y)[1]
        else:
            measure(lambda: model.fit(x, y, batch_size=case.batch, verbose=0))
            params, learned = model.params, model.evaluate(x, y, verbose=0)[1]
    assert_finite(params)
    assert learned > 0.5


@tables(USE)
def test_use(case: Case, who: str, measure: Callable[..., None], data: tuple[Any, Any]) -> None:
    model = case.model()
    subject: Any = Network(model, 0.0) if who == NUMPY else model
    arguments = data[:1] if case.what == "predict" else data
    quiet = {"verbose": 0} if case.what == "evaluate" and who != NUMPY else {}
    with threadpool_limits(1, user_api="blas"):
        run = getattr(subject, case.what)
        expected = getattr(Network(model, 0.0), case.what)(*arguments)
        np.testing.assert_allclose(run(*arguments, **quiet), expected, rtol=1e-3, atol=1e-5)
        measure(lambda: run(*arguments, **quiet))


class Network:
    """A copy of the model, in plain NumPy."""

    def __init__(self, model: fm.nn.Sequential, dropout: float) -> None:
        optimizer = fm.SGD([p.copy() for p in model.params], lr=LR, momentum=MOMENTUM,
                           nesterov=True)
        reference = Reference(optimizer, np.float32)
        self.params, self.grads = reference.params, [np.empty(0)] * len(reference.params)
        self.step = reference_step(reference, self.grads)
        self.layers = list(zip(self.params[::2], self.params[1::2], strict=True))
        self.kept, self.rng = np.float32(1 - dropout), np.random.default_rng(0)

    def train(self, x: Any, y: Any, batch: int) -> None:
        order = self.rng.permutation(len(x))
        for taken in np.split(order, range(batch, len(x), batch)):
            self.grads[:] = self.gradients(x[taken], y[taken])
            self.step()

    def gradients(self, x: Any, y: Any) -> list[Any]:
        inputs, masks = [scaled(x)], []
        for w, b in self.layers[:-1]:
            h = np.maximum(inputs[-1] @ w + b, 0)
            masks.append((h > 0) * (self.rng.random(h.shape, np.float32) < self.kept) / self.kept)
            inputs.append(h * masks[-1])
        d = softmax(inputs[-1], *self.layers[-1])
        d[np.arange(len(y)), y] -= 1
        d /= len(y)
        found: list[Any] = []
        for (w, _), h in zip(self.layers[::-1], inputs[::-1], strict=True):
            found[:0] = [h.T @ d, d.sum(axis=0)]
            if masks:
                d = (d @ w.T) * masks.pop()
        return found

    def predict(self, x: Any) -> Any:
        h = scaled(x)
        for w, b in self.layers[:-1]:
            h = np.maximum(h @ w + b, 0)
        return softmax(h, *self.layers[-1])

    def evaluate(self, x: Any, y: Any) -> list[float]:
        probabilities = self.predict(x)
        of_truth = np.maximum(probabilities[np.arange(len(y)), y], 1e-7)
        return [-np.log(of_truth).mean(), (probabilities.argmax(axis=1) == y).mean()]


def scaled(x: Any) -> Any:
    return x.reshape(len(x), -1) * np.float32(1 / 255)


def softmax(h: Any, w: Any, b: Any) -> Any:
    z = h @ w + b
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
