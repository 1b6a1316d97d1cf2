"""The arguments of `fit`, `train_on_batch` and `evaluate`, against what they stand for."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn


def same(a: list[Any], b: list[Any]) -> bool:
    return all(p.dtype == q.dtype and np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def linear(make: Any, **compiling: Any) -> Any:
    """A model of a single layer, for explicit computation."""
    return make([nn.Flatten(input_shape=(4, 5)), nn.Dense(3, activation="softmax")],
                dtype="float64", **compiling)


# Weights of samples -------------------------------------------------------------------------------

def weighted_step(model: Any, x: Any, y: Any, w: Any, lr: float) -> tuple[float, list[Any]]:
    """The weighted loss over these samples and the parameters after a step, in plain NumPy."""
    flat, (kernel, bias), rows = x.reshape(len(x), -1), model.params, np.arange(len(x))
    p = np.exp(flat @ kernel + bias)
    p /= p.sum(axis=1, keepdims=True)
    dz = w[:, np.newaxis] * (p - np.eye(3)[y]) / len(x)
    return (w * -np.log(p[rows, y])).sum() / len(x), [kernel - lr * flat.T @ dz,
                                                      bias - lr * dz.sum(axis=0)]


@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
@pytest.mark.parametrize(("by_sample", "by_class"), [
    (True, None), (False, {0: 0.5, 2: 3}), (True, {1: 0, 2: 0.25}), (False, None)])
def test_weights_of_samples_and_classes(make: Any, problem: Any, by_sample: bool,
                                        by_class: dict[int, float] | None, how: str) -> None:
    (x, y), model = problem(20, np.float64), linear(make, lr=0.5)
    w = np.random.default_rng(1).random(20) * 3 if by_sample else np.ones(20)
    w[3] = 0
    given = w.copy() if by_sample else None
    if not by_sample:
        w[3] = 1
    for label, factor in (by_class or {}).items():
        w[y == label] *= factor
    loss, params = weighted_step(model, x, y, w, 0.5)
    accuracy = (model.predict(x).argmax(axis=1) == y).mean()
    if how == "fit":
        history = model.fit(x, y, sample_weight=given, class_weight=by_class, batch_size=20).history
        got = [history["loss"][0], history["accuracy"][0]]
    else:
        got = model.train_on_batch(x, y, given, by_class)
    assert got == [pytest.approx(loss, rel=1e-13), accuracy]    # metrics are not weighted
    for a, b in zip(model.params, params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_class_weights_of_shares_of_classes(make: Any, problem: Any) -> None:
    (x, y), a, b = problem(20), make(), make(loss="categorical_crossentropy")
    a.fit(x, y, class_weight={1: 3.0, 0: 0.5}, epochs=2)
    b.fit(x, np.eye(3)[y], class_weight={np.int64(1): 3, 0: 0.5}, epochs=2)
    for p, q in zip(a.params, b.params, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-6)


def test_weights_follow_their_samples(make: Any, problem: Any) -> None:
    """Shuffled and cut into batches, samples of weight 0 do nothing."""
    (x, y), models = problem(40), [make(), make()]
    w = np.tile([0.0, 1.0], 20)
    other = x.copy()
    other[::2] += 5
    for model, inputs in zip(models, (x, other), strict=True):
        model.layers[2].rate = 0.0
        model.fit(inputs, y, sample_weight=w, batch_size=7, epochs=3)
    for p, q in zip(models[0].params, models[1].params, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-7)


def test_evaluate_and_validation_take_weights(make: Any, problem: Any) -> None:
    (x, y), model = problem(1500, np.float64), linear(make, lr=0.0)
    w = np.random.default_rng(1).random(1500)
    loss, _ = weighted_step(model, x, y, w, 0)
    got = model.evaluate(x, y, sample_weight=w)
    assert got[0] == pytest.approx(loss, rel=1e-13)
    assert got[1] == model.evaluate(x, y)[1]
    history = model.fit(x[:9], y[:9], validation_data=(x, y, w)).history
    assert [history["val_loss"], history["val_accuracy"]] == [[got[0]], [got[1]]]


# Held-out samples ---------------------------------------------------------------------------------

@pytest.mark.parametrize(("share", "kept"), [(0.25, 30), (0.2, 32), (0.01, 39), (0.975, 1)])
def test_validation_split_holds_out_the_last(make: Any, problem: Any, share: float,
                                             kept: int) -> None:
    (x, y), a, b = problem(40), make(), make()
    w = np.random.default_rng(1).random(40)
    split = a.fit(x, y, validation_split=share, sample_weight=w, epochs=3)
    data = b.fit(x[:kept], y[:kept], sample_weight=w[:kept], epochs=3,
                 validation_data=(x[kept:], y[kept:], w[kept:]))
    assert split.history == data.history
    assert same(a.weights, b.weights)


# Epochs -------------------------------------------------------------------------------------------

def test_initial_epoch_goes_on(make: Any, problem: Any) -> None:
    (x, y), whole, parts = problem(40), make(momentum=0.9), make(momentum=0.9)
    expected = whole.fit(x, y, epochs=5)
    first, second = parts.fit(x, y, epochs=2), parts.fit(x, y, epochs=5, initial_epoch=2)
    assert (first.epoch, second.epoch) == ([0, 1], [2, 3, 4])
    assert expected.history["loss"] == first.history["loss"] + second.history["loss"]
    assert same(whole.weights, parts.weights)
    assert whole.epoch == parts.epoch == 5


def test_stop_training_ends_after_the_epoch(make: Any, problem: Any) -> None:
    model = make()
    stop = nn.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 2))
    history = model.fit(*problem(40), epochs=9, callbacks=[stop], verbose=0)
    assert history.epoch == [0, 1, 2]
    assert len(history.seconds) == 3
    assert model.epoch == 3


def test_without_shuffling_samples_come_in_order(make: Any, problem: Any) -> None:
    (x, y), a, b = problem(40), make(), make()
    a.fit(x, y, epochs=2, shuffle=False, batch_size=16)
    for _ in range(2):
        for i in range(0, 40, 16):
            b.train_on_batch(x[i:i + 16], y[i:i + 16])
    assert same(a.weights, b.weights)


# What is printed and returned ---------------------------------------------------------------------

@pytest.mark.parametrize("verbose", ["auto", 0, 1, 2])
@pytest.mark.parametrize("tqdm", [True, False])
def test_what_fit_prints(make: Any, problem: Any, verbose: Any, tqdm: bool, capsys: Any,
                         monkeypatch: pytest.MonkeyPatch) -> None:
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    (x, y), model = problem(20), make()
    h = model.fit(x, y, epochs=2, verbose=verbose, validation_split=0.5)
    out, err = capsys.readouterr()
    assert err == ""
    assert out == "" if verbose == 0 else out == "".join(
        f"epoch {i + 1}/2  loss {h.history['loss'][i]:.4f}  accuracy {h.history['accuracy'][i]:.4f}"
        f"  val loss {h.history['val_loss'][i]:.4f}  val accuracy {h.history['val_acc'][i]:.4f}  "
        f"{h.seconds[i]:.2f} s\n" for i in range(2))


@pytest.mark.parametrize(("metrics", "names"), [
    (None, ["loss"]), (["acc"], ["loss", "acc"]),
    (["acc", "sparse_categorical_accuracy"], ["loss", "acc", "sparse_categorical_accuracy"])])
def test_forms_of_results(make: Any, problem: Any, metrics: Any, names: list[str]) -> None:
    (x, y), model = problem(20), make(metrics=metrics, lr=0.0)
    model.layers[2].rate = 0.0      # so that training sees what evaluation sees
    for use in (model.evaluate, model.train_on_batch):
        values, figures = use(x, y), use(x, y, return_dict=True)
        assert list(figures) == names
        assert all(type(value) is float for value in figures.values())
        assert values == (figures["loss"] if len(names) == 1 else [*figures.values()])
    assert model.evaluate(x, y) == pytest.approx(model.train_on_batch(x, y), rel=1e-6)


def test_a_function_as_metric(make: Any, problem: Any) -> None:
    def largest(outputs: Any, y: Any) -> Any:
        return outputs.max(axis=1).sum()
    (x, y), model = problem(30), make(metrics=[largest])
    expected = pytest.approx(model.predict(x).max(axis=1).mean(), rel=1e-6)
    assert model.evaluate(x, y, return_dict=True)["largest"] == expected


# Samples of any kind ------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "bool", "float16", "float64", ">f4"])
@pytest.mark.parametrize("scaled", [True, False])
def test_samples_are_converted(make: Any, problem: Any, dtype: str, scaled: bool) -> None:
    layers = [[nn.Rescaling(1 / 50, 0.1, input_shape=(4, 5))] * scaled + [
        nn.Flatten(input_shape=(4, 5)), nn.Dense(3, activation="softmax")] for _ in range(2)]
    (x, y), a, b = problem(40), make(layers[0]), make(layers[1])
    x = np.clip(np.abs(50 * x), 0, 100).astype(dtype)
    before = x.copy()
    assert (a.fit(x, y, epochs=2, validation_data=(x, y)).history
            == b.fit(x.astype("float32"), y, epochs=2,
                     validation_data=(x.astype("float32"), y)).history)
    assert same(a.weights, b.weights)
    assert same([a.predict(x)], [b.predict(x.astype("float32"))])
    np.testing.assert_array_equal(x, before)


def test_rescaling_is_the_same_in_any_place(make: Any, problem: Any) -> None:
    def layers(place: int) -> list[nn.Layer]:
        stack: list[Any] = [nn.Flatten, lambda **kw: nn.Dropout(0.0, **kw)]
        stack.insert(place, lambda **kw: nn.Rescaling(0.3, -0.2, **kw))
        return [stack[0](input_shape=(4, 5)), *(each() for each in stack[1:]),
                nn.Dense(3, activation="softmax")]
    (x, y), models = problem(40), [make(layers(place)) for place in range(3)]
    for model in models:
        model.fit(x, y)
    for model in models[1:]:
        np.testing.assert_allclose(model.predict(x), models[0].predict(x), rtol=1e-5)


# What is refused ----------------------------------------------------------------------------------

W = np.ones(20)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"validation_split": 1.5}, ValueError, "validation_split must be a number from 0 to 1"),
    ({"validation_split": "0.1"}, TypeError, "validation_split must be a number"),
    ({"validation_split": 1.0}, ValueError, "leaves 0 to train on and 20 to evaluate"),
    ({"validation_split": 0.97}, ValueError, "leaves 0 to train on and 20 to evaluate"),
    ({"validation_split": 1e-18}, ValueError, "leaves 20 to train on and 0 to evaluate"),
    ({"validation_split": 0.5, "validation_data": (np.ones((2, 4, 5)), [0, 1])}, ValueError,
     "validation_split and validation_data: give one of them"),
    ({"validation_data": (np.ones((2, 4, 5)), [0, 1], [1])}, ValueError,
     "validation_data: sample_weight must be 2 numbers, one per sample"),
    ({"sample_weight": W[:5]}, ValueError, "sample_weight must be 20 numbers, one per sample"),
    ({"sample_weight": -W}, ValueError, "sample_weight must be finite and >= 0"),
    ({"sample_weight": np.nan * W}, ValueError, "sample_weight must be finite and >= 0"),
    ({"sample_weight": W > 0}, ValueError, "sample_weight must be 20 numbers"),
    ({"class_weight": [1, 2]}, TypeError, "class_weight must be a dict {class: weight}, not"),
    ({"class_weight": {"0": 1}}, TypeError, "class_weight must have integers as classes, not '0'"),
    ({"class_weight": {7: 1}}, ValueError, "class_weight has class 7, expected 0 to 2"),
    ({"class_weight": {0: -1}}, ValueError, "class_weight[0] must be a finite number >= 0, not -1"),
    ({"class_weight": {0: "a"}}, TypeError, "class_weight[0] must be a finite number >= 0"),
    ({"initial_epoch": 1}, ValueError, "initial_epoch must be below epochs=1, not 1"),
    ({"initial_epoch": -1}, ValueError, "initial_epoch must be an integer >= 0, not -1"),
])
def test_wrong_arguments(make: Any, problem: Any, state: Any, arguments: dict[str, Any],
                         error: type[Exception], message: str) -> None:
    model = make(momentum=0.9)
    before, order = state(model), model._order.bit_generator.state
    with pytest.raises(error, match=re.escape(message)):
        model.fit(*problem(20), **arguments)
    assert same(before, state(model))
    assert model._order.bit_generator.state == order
    assert model.epoch == model.optimizer.iterations == 0


def test_class_weights_need_classes(make: Any) -> None:
    model = make([nn.Dense(1, input_shape=(2,))], loss="mse", metrics=[])
    with pytest.raises(ValueError, match="class_weight needs a loss of classes"):
        model.fit(np.ones((4, 2)), np.ones(4), class_weight={1: 2})
    assert isinstance(model.optimizer, fm.SGD)
