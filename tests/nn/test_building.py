"""Putting models together: when weights are made, which there are, and how they are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn


def same(a: list[Any], b: list[Any]) -> bool:
    return all(p.dtype == q.dtype and np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def later() -> nn.Sequential:
    """The layers of `conftest.small_layers`, without a shape."""
    model = nn.Sequential([nn.Flatten(), nn.Dense(8, activation="relu"), nn.Dropout(0.2),
                           nn.Dense(3, activation="softmax")])
    model.compile("sgd", momentum=0.9, metrics=["accuracy"])
    return model


USES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "build": lambda model, x, y: model.build([4, 5]),
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "evaluate": lambda model, x, y: model.evaluate(x, y),
    "predict": lambda model, x, y: model.predict(x),
}


@pytest.mark.parametrize("use", USES)
def test_built_by_the_first_data(use: str, make: Any, problem: Any) -> None:
    (x, y), model, known = problem(40), later(), make(momentum=0.9)
    for access in (lambda: model.params, lambda: model.weights, lambda: model.output_shape,
                   model.get_weights, model.summary, lambda: model.set_weights([])):
        with pytest.raises(RuntimeError, match=r"no weights yet: give the first layer an input_sh"):
            access()
    for each in (model, known):
        USES[use](each, x, y)
        each.fit(x, y, epochs=2, verbose=0)
    assert model.input_shape == (4, 5)
    assert same(model.weights, known.weights)
    model.build((4, 5))     # once more is no harm
    assert same(model.weights, known.weights)


def test_an_optimizer_trains_one_model(problem: Any) -> None:
    first, second, optimizer = later(), later(), fm.SGD(lr=0.1)
    for model in (first, second):
        model.compile(optimizer)    # nobody has weights so far
    x, y = problem(40)
    first.fit(x, y)
    before = first.get_weights()
    for _ in range(2):      # and not the second time either
        with pytest.raises(RuntimeError, match="bound to its parameters already"):
            second.fit(x, y)
    assert same(first.weights, before)
    second.compile("sgd")
    second.fit(x, y)
    assert same(first.weights, before)


# Adding layers ------------------------------------------------------------------------------------

@pytest.mark.parametrize("shaped", [True, False])
def test_layers_one_by_one(shaped: bool, make: Any, problem: Any) -> None:
    whole, grown = make(momentum=0.9), nn.Sequential()
    shape: Any = {"input_shape": (4, 5)} if shaped else {}
    for layer in (nn.Flatten(**shape), nn.Dense(8, activation="relu"), nn.Dropout(0.2),
                  nn.Dense(3, activation="softmax")):
        grown.add(layer)
        if shaped:
            assert grown.output_shape == layer.output_shape
    grown.compile("sgd", momentum=0.9, metrics=["accuracy"])
    for model in (whole, grown):
        model.fit(*problem(40), epochs=2, verbose=0)
    assert same(whole.weights, grown.weights)


def test_a_layer_after_training(make: Any, problem: Any) -> None:
    (x, y), model = problem(40), make()
    model.fit(x, y)
    before, outputs = model.get_weights(), model.predict(x)
    model.add(nn.Dense(2, kernel_initializer="ones"))
    with pytest.raises(RuntimeError, match="compile the model first"):
        model.fit(x, y)
    assert same(model.weights[:4], before)
    np.testing.assert_allclose(model.predict(x), 1, rtol=1e-6)      # probabilities add to 1
    model.compile("sgd", lr=0.1, loss="mse")
    model.fit(x, np.stack([y, -y], axis=1), epochs=3)
    assert not same(model.weights[:4], before)
    assert not np.array_equal(model.predict(x)[:, :2], outputs[:, :2])


@pytest.mark.parametrize(("layer", "error", "message"), [
    ("relu", TypeError, "layers[4] must be a layer, not str"),
    (nn.Dense(3, input_shape=(5,)), ValueError, "layers[4] has input_shape (5,), but the layer"),
    (None, TypeError, "layers[4] must be a layer, not NoneType"),
])
def test_a_wrong_layer_changes_nothing(make: Any, problem: Any, state: Any, layer: Any,
                                       error: type[Exception], message: str) -> None:
    model = make(momentum=0.9)
    model.fit(*problem(40))
    before, optimizer = state(model), model.optimizer
    with pytest.raises(error, match=re.escape(message)):
        model.add(layer)
    assert len(model.layers) == 4
    assert model.optimizer is optimizer
    assert same(before, state(model))
    model.fit(*problem(40))


def test_what_could_not_be_built_leaves_no_trace(make: Any, problem: Any) -> None:
    def fail(shape: Any, dtype: Any, rng: np.random.Generator) -> Any:
        rng.random(100)
        raise OSError("no such file")
    model, unshaped, known = nn.Sequential(), later(), make(momentum=0.9)
    model.add(nn.Flatten(input_shape=(4, 5)))
    with pytest.raises(OSError, match="no such file"):
        model.add(nn.Dense(3, kernel_initializer=fail))
    for layer in (nn.Dense(8, activation="relu"), nn.Dropout(0.2),
                  nn.Dense(3, activation="softmax")):
        model.add(layer)
    own, unshaped.layers[3].kernel_initializer = unshaped.layers[3].kernel_initializer, fail
    with pytest.raises(OSError, match="no such file"):
        unshaped.build((4, 5))
    unshaped.layers[3].kernel_initializer = own
    unshaped.build((4, 5))
    assert same(model.weights, known.weights)
    assert same(unshaped.weights, known.weights)


# Weights ------------------------------------------------------------------------------------------

def test_weights_are_parameters_and_averages_in_order(make: Any) -> None:
    model = make([nn.Flatten(input_shape=(4, 5)), nn.BatchNorm(), nn.Dense(6), nn.BatchNorm(),
                  nn.Dense(3, activation="softmax")])
    assert [w.shape for w in model.weights] == [
        *[(20,)] * 4, (20, 6), (6,), *[(6,)] * 4, (6, 3), (3,)]
    assert [p.shape for p in model.params] == [
        (20,), (20,), (20, 6), (6,), (6,), (6,), (6, 3), (3,)]
    assert {id(p) for p in model.params} < {id(w) for w in model.weights}
    assert all(g.shape == p.shape for g, p in zip(model.grads, model.params, strict=True))


def test_weights_can_be_taken_and_set(make: Any, problem: Any) -> None:
    (x, y), a, b = problem(40), make(momentum=0.9), make(seed=1)
    taken = a.get_weights()
    assert not any(np.shares_memory(w, own) for w, own in zip(taken, a.weights, strict=True))
    a.fit(x, y)
    assert not same(taken, a.weights)
    arrays = b.weights
    b.set_weights(a.get_weights())
    assert all(new is old for new, old in zip(b.weights, arrays, strict=True))
    np.testing.assert_array_equal(a.predict(x), b.predict(x))
    a.set_weights(tuple(taken))
    assert same(taken, a.weights)


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda w: w[:-1], ValueError, "weights must be a list of 4 arrays, not 3"),
    (lambda w: w[0], ValueError, "weights must be a list of 4 arrays, not ndarray"),
    (lambda w: [*w[:3], w[3][:1]], ValueError, "weights[3] has shape (1,), expected (3,)"),
    (lambda w: [w[0].T, *w[1:]], ValueError, "weights[0] has shape (8, 20), expected (20, 8)"),
    (lambda w: [*w[:3], w[3].astype(float)], TypeError, "weights[3] has dtype float64, expected"),
    (lambda w: [*w[:3], [0, 0, 0]], TypeError, "weights[3] must be a NumPy array, not list"),
])
def test_wrong_weights(make: Any, change: Any, error: type[Exception], message: str) -> None:
    model = make()
    before = model.get_weights()
    with pytest.raises(error, match=re.escape(message)):
        model.set_weights(change([w + 1 for w in before]))
    assert same(before, model.weights)


# Summary ------------------------------------------------------------------------------------------

SUMMARY = """\
layer      output             weights
Rescaling  (samples, 28, 28)        0
Flatten    (samples, 784)           0
Dense      (samples, 128)     100,480
BatchNorm  (samples, 128)         512
Dropout    (samples, 128)           0
Dense      (samples, 10)        1,290
102,282 weights, 102,026 of them trained, 0.41 MB
"""


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential([
        nn.Rescaling(1 / 255, input_shape=(28, 28)), nn.Flatten(), nn.Dense(128), nn.BatchNorm(),
        nn.Dropout(0.2), nn.Dense(10)])
    model.summary()
    assert capsys.readouterr().out == SUMMARY
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "\n".join(lines) + "\n" == SUMMARY
    assert capsys.readouterr().out == ""
    with pytest.raises(TypeError, match="print_fn must be callable, not 3"):
        model.summary(print_fn=3)       # type: ignore[arg-type]
