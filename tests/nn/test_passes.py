"""A pass through the layers has its own path and buffers: training, validation and callbacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmom import nn

SPARSE, DENSE = np.zeros((24, 2, 8), np.float32), np.ones((24, 2, 8), np.float32)
SPARSE[np.arange(24), 0, np.arange(24) % 8] = 1     # far below 30 %
MIXED = np.concatenate([SPARSE, DENSE])             # above
Y = np.arange(24) % 2


def network(units: int = 32) -> nn.Sequential:
    model = nn.Sequential([nn.Flatten(), nn.Dense(units, activation="relu"), nn.Dropout(0.2),
                           nn.Dense(2, activation="softmax")])
    model.compile("sgd", lr=0.1, momentum=0.9, metrics=["accuracy"])
    return model


def same(a: nn.Sequential, b: nn.Sequential) -> bool:
    return all(np.array_equal(v, w) for v, w in zip(a.weights, b.weights, strict=True))


@pytest.mark.parametrize(("x", "other"), [(SPARSE, DENSE), (DENSE, SPARSE)])
def test_validation_of_another_density(x: Any, other: Any) -> None:
    watched, quiet = network(), network()
    logs = watched.fit(x, Y, batch_size=5, epochs=3, validation_data=(other, Y), verbose=0).history
    quiet.fit(x, Y, batch_size=5, epochs=3, verbose=0)
    assert same(watched, quiet)
    assert [logs["val_loss"][-1], logs["val_accuracy"][-1]] == quiet.evaluate(other, Y, verbose=0)


@pytest.mark.parametrize("order", [1, -1])
def test_a_split_of_two_densities(order: int) -> None:
    x, y = MIXED[::order], np.tile(Y, 2)
    split, given = network(), network()
    a = split.fit(x, y, batch_size=5, epochs=3, validation_split=0.5, verbose=0)
    b = given.fit(x[:24], y[:24], batch_size=5, epochs=3, validation_data=(x[24:], y[24:]),
                  verbose=0)
    assert a.history == b.history
    assert same(split, given)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_begin", "on_train_batch_end",
                                  "on_epoch_end"])
@pytest.mark.parametrize("x", [SPARSE, DENSE], ids=["sparse", "dense"])
@pytest.mark.parametrize("other", [SPARSE[::-1], DENSE], ids=["sparse", "dense"])
def test_a_callback_that_uses_the_model_does_not_disturb_training(hook: str, x: Any,
                                                                  other: Any) -> None:
    watched, quiet = network(), network()

    def use(number: int, logs: Any = None) -> None:
        watched.predict(other[:7])
        watched.evaluate(other, Y, verbose=0)
    a = watched.fit(x, Y, batch_size=5, epochs=3, verbose=0,
                    callbacks=[nn.LambdaCallback(**{hook: use})])
    b = quiet.fit(x, Y, batch_size=5, epochs=3, verbose=0)
    assert a.history == b.history
    assert same(watched, quiet)


def test_class_weights_are_not_for_the_validation() -> None:
    model = network()
    model.compile("sgd", lr=0.0)
    y = np.tile(Y, 2)
    history = model.fit(MIXED, y, validation_split=0.5, class_weight={0: 5.0, 1: 0.1}, verbose=0)
    assert history.history["val_loss"] == [model.evaluate(DENSE, Y, verbose=0)]


def test_settings_are_taken_up_by_inference() -> None:
    model = nn.Sequential([nn.Rescaling(1.0, input_shape=(2,)), nn.Dense(2, kernel_initializer="on"
                                                                          "es"), nn.BatchNorm()])
    x = np.ones((3, 2), np.float32)
    before = model.predict(x)
    scaling, _, norm = model.layers
    scaling.scale = 2.0     # type: ignore[attr-defined]
    np.testing.assert_allclose(model.predict(x), 2 * before)
    norm.eps = 3.0          # type: ignore[attr-defined]
    np.testing.assert_allclose(model.predict(x), 2 * before * (1.001 / 4) ** 0.5, rtol=1e-6)
