"""Training and using a network on digits of MNIST's form, against the same loop in NumPy.

Dense layers with ReLU and dropout, softmax, SGD with Nesterov momentum. Matrix products are one
thread's work in every row, as in ``fastmom train``; what differs is all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastmom as fm
from bench.conftest import ALL, ONE, assert_finite, rows
from bench.peers.numpy_network import Network, Training

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

    def network(self, model: fm.nn.Sequential) -> Network:
        """Return a copy of the model in plain NumPy."""
        sizes = (784, *self.hidden, 10)
        made = Network(list(pairwise(sizes)),
                       Training(self.batch, LR, MOMENTUM, dropout=self.dropout))
        for p, of_model in zip(made.params, model.params, strict=True):
            p[...] = of_model
        return made


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
            network, rows = case.network(model), x.reshape(len(x), -1)
            measure(lambda: network.train(rows, y))
            params, learned = network.params, network.evaluate(x, y)[1]
        else:
            measure(lambda: model.fit(x, y, batch_size=case.batch, verbose=0))
            params, learned = model.params, model.evaluate(x, y, verbose=0)[1]
    assert_finite(params)
    assert learned > 0.5


@tables(USE)
def test_use(case: Case, who: str, measure: Callable[..., None], data: tuple[Any, Any]) -> None:
    model = case.model()
    network = case.network(model)
    subject: Any = network if who == NUMPY else model
    arguments = data[:1] if case.what == "predict" else data
    quiet = {"verbose": 0} if case.what == "evaluate" and who != NUMPY else {}
    with threadpool_limits(1, user_api="blas"):
        run = getattr(subject, case.what)
        expected = getattr(network, case.what)(*arguments)
        np.testing.assert_allclose(run(*arguments, **quiet), expected, rtol=1e-3, atol=1e-5)
        measure(lambda: run(*arguments, **quiet))
