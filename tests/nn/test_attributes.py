"""What is assigned to a model or a layer takes effect, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmom import nn


def network(**compiling: Any) -> nn.Sequential:
    model = nn.Sequential([
        nn.Flatten(input_shape=(4, 5)), nn.Dense(8, activation="relu"), nn.BatchNorm(),
        nn.Dropout(0.2), nn.Dense(6), nn.Activation("tanh"), nn.Dense(3, activation="softmax")])
    model.compile("sgd", **{"lr": 0.1, "momentum": 0.9, **compiling})
    return model


def changed(before: list[Any], after: list[Any]) -> list[bool]:
    return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


# Weights ------------------------------------------------------------------------------------------

def test_assigned_weights_are_copied_in_place(problem: Any, tmp_path: Any) -> None:
    (x, y), model, other = problem(20), network(), network()
    new = np.full((20, 8), 0.25, np.float32)
    own = model.layers[1].kernel        # type: ignore[attr-defined]
    model.layers[1].kernel = new        # type: ignore[attr-defined]
    assert model.layers[1].kernel is own is model.params[0]     # type: ignore[attr-defined]
    other.layers[1].set_weights([new, other.layers[1].get_weights()[1]])
    np.testing.assert_array_equal(own, new)
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    for each in (model, other):
        each.fit(x, y, epochs=2, verbose=0)
    assert not any(changed(model.weights, other.weights))
    assert (new == 0.25).all()
    model.save(tmp_path / "a.npz")
    loaded = nn.Sequential.load(tmp_path / "a.npz")
    assert not any(changed(model.weights, loaded.weights))
    model.layers[1].kernel *= 2         # type: ignore[attr-defined]
    assert model.layers[1].kernel is own      # type: ignore[attr-defined]


def test_a_layers_weights_are_copies() -> None:
    layer = network().layers[2]
    for taken, own in zip(layer.get_weights(), layer.weights, strict=True):
        assert not np.shares_memory(taken, own)
    assert [w.shape for w in layer.get_weights()] == [(8,)] * 4


KERNEL = np.zeros((20, 8), np.float32)
REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "shape": (lambda m: setattr(m.layers[1], "kernel", KERNEL.T), ValueError,
              "kernel has shape (8, 20), expected (20, 8)"),
    "dtype": (lambda m: setattr(m.layers[1], "kernel", KERNEL.astype(float)), TypeError,
              "kernel has dtype float64, expected float32"),
    "list": (lambda m: setattr(m.layers[1], "bias", [0.0] * 8), TypeError,
             "bias must be a NumPy array, not list"),
    "state": (lambda m: setattr(m.layers[2], "moving_mean", np.ones(3)), TypeError, "moving_mean"),
    "params": (lambda m: setattr(m.layers[1], "params", []), AttributeError, "params of Dense is"),
    "one of params": (lambda m: m.layers[1].params.__setitem__(0, KERNEL), AttributeError,
                      "'tuple' object"),
    "set_weights": (lambda m: m.layers[1].set_weights([KERNEL]), ValueError,
                    "weights must be a list of 2 arrays, not 1"),
    "rate": (lambda m: setattr(m.layers[3], "rate", 5), ValueError, "rate must be a number from 0"),
    "momentum": (lambda m: setattr(m.layers[2], "momentum", -1), ValueError, "momentum must be"),
    "eps": (lambda m: setattr(m.layers[2], "eps", 0), ValueError, "eps must be"),
    "units": (lambda m: setattr(m.layers[1], "units", 9), AttributeError, "units of Dense is fix"),
    "activation": (lambda m: setattr(m.layers[5], "activation", "relu"), AttributeError,
                   "activation of Activation is fixed"),
    "input_shape": (lambda m: setattr(m.layers[0], "input_shape", (3,)), AttributeError,
                    "input_shape of Flatten is fixed"),
    "trainable": (lambda m: setattr(m.layers[1], "trainable", "no"), TypeError,
                  "trainable must be True or False, not 'no'"),
    "misspelt": (lambda m: setattr(m.layers[1], "trainabel", False), TypeError,
                 "Dense has no argument 'trainabel'; did you mean 'trainable'?"),
    "unknown": (lambda m: setattr(m.layers[3], "foo", 3), TypeError,
                "Dropout has no argument 'foo'; allowed: key, rate, step, trainable"),
    "pop": (lambda m: m.layers.pop(), AttributeError, "'tuple' object has no attribute 'pop'"),
    "layers": (lambda m: setattr(m, "layers", []), AttributeError,
               "layers of Sequential cannot be assigned; what can: epoch, stop_training"),
    "optimizer": (lambda m: setattr(m, "optimizer", "adam"), AttributeError, "optimizer of Seq"),
    "loss": (lambda m: setattr(m, "loss", "mse"), AttributeError, "loss of Sequential cannot be"),
    "seed": (lambda m: setattr(m, "seed", 3), AttributeError, "seed of Sequential cannot be"),
    "stop_traning": (lambda m: setattr(m, "stop_traning", True), TypeError,
                     "Sequential has no argument 'stop_traning'; did you mean 'stop_training'?"),
    "epoch": (lambda m: setattr(m, "epoch", -1), ValueError, "epoch must be an integer >= 0"),
    "stop": (lambda m: setattr(m, "stop_training", "no"), TypeError,
             "stop_training must be True or False, not 'no'"),
    "foo": (lambda m: setattr(m, "foo", 3), TypeError, "Sequential has no argument 'foo'; allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_changes_nothing(case: str, problem: Any, state: Any) -> None:
    assign, error, message = REFUSED[case]
    model, untouched = network(), network()
    with pytest.raises(error, match=re.escape(message)):
        assign(model)
    for each in (model, untouched):
        each.fit(*problem(20), verbose=0)
    assert not any(changed(state(model), state(untouched)))


@pytest.mark.parametrize(("place", "name", "value"), [
    (3, "rate", 0.5), (2, "momentum", 0.5), (2, "eps", 0.5)])
def test_settings_take_effect_at_once(place: int, name: str, value: float, problem: Any) -> None:
    (x, y), model, untouched = problem(20), network(), network()
    setattr(model.layers[place], name, value)
    for each in (model, untouched):
        each.fit(x, y, verbose=0)
    assert any(changed(model.weights, untouched.weights))


def test_attributes_of_ones_own() -> None:
    class Mine(nn.Sequential):
        note = ""
    model = Mine()
    model.note, model.other = "a", 3    # type: ignore[attr-defined]
    assert (model.note, model.other) == ("a", 3)    # type: ignore[attr-defined]


# trainable ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("frozen", [[1], [2], [4], [6], [1, 2], [1, 4, 6], [2, 4], []])
@pytest.mark.parametrize("compiled_again", [True, False])
def test_frozen_layers_keep_their_weights(frozen: list[int], compiled_again: bool,
                                          problem: Any) -> None:
    model, x = network(), problem(20)
    for i in frozen:
        model.layers[i].trainable = False
    if compiled_again:
        model.compile("sgd", lr=0.1, momentum=0.9, weight_decay=0.01)
    before = [layer.get_weights() for layer in model.layers]
    model.fit(*x, epochs=2, verbose=0)
    for i, (layer, old) in enumerate(zip(model.layers, before, strict=True)):
        assert changed(old, layer.get_weights()) == [i not in frozen] * len(old)
        layer.trainable = True
    model.fit(*x, epochs=1, verbose=0)      # and go on when they thaw
    for layer, old in zip(model.layers, before, strict=True):
        assert all(changed(old, layer.get_weights()))


def test_nothing_to_train(problem: Any) -> None:
    model = network()
    for layer in model.layers:
        layer.trainable = False
    before = model.get_weights()
    assert len(model.fit(*problem(20), epochs=2, verbose=0).history["loss"]) == 2
    assert not any(changed(before, model.weights))


def test_the_others_get_their_whole_gradients(problem: Any) -> None:
    (x, y), model, frozen = problem(20), network(momentum=0.0), network(momentum=0.0)
    for each in (model, frozen):
        each.layers[3].rate = 0.0       # type: ignore[attr-defined]
    frozen.layers[4].trainable = frozen.layers[1].trainable = False
    for each in (model, frozen):
        each.train_on_batch(x, y)
    for i in (2, 6):
        for a, b in zip(model.layers[i].weights, frozen.layers[i].weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_frozen_batch_norm_is_that_of_inference(problem: Any) -> None:
    """Its output in training is that of its averages, and gradients go through it."""
    x, y = problem(20, np.float64)
    model = nn.Sequential([nn.Flatten(input_shape=(4, 5)), nn.Dense(8), nn.BatchNorm(),
                           nn.Dense(3, activation="softmax")], dtype="float64")
    model.compile("sgd", lr=0.1)
    model.fit(x, y, epochs=3, verbose=0)
    model.layers[2].trainable = False
    model.compile("sgd", lr=0.0)
    loss = model.evaluate(x, y, verbose=0)
    assert model.train_on_batch(x, y) == pytest.approx(loss, rel=1e-12)
    kernel, (i, j), h = model.params[0], (3, 4), 1e-6
    gradient = model.grads[0][i, j]
    ends = []
    for sign in (1, -1):
        kernel[i, j] += sign * h
        ends.append(model.evaluate(x, y, verbose=0))
        kernel[i, j] -= sign * h
    assert gradient == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)


def test_thawed_in_a_callback(problem: Any) -> None:
    model = network()
    model.layers[1].trainable = False
    before = model.layers[1].get_weights()
    moved: list[Any] = []

    def thaw(epoch: int, logs: Any) -> None:
        moved.append(any(changed(before, model.layers[1].get_weights())))
        model.layers[1].trainable = epoch >= 1
    model.fit(*problem(20), epochs=4, verbose=0, callbacks=[nn.LambdaCallback(on_epoch_end=thaw)])
    assert moved == [False, False, True, True]


def test_the_summary_counts_what_is_trained() -> None:
    model, lines = network(), list[str]()
    model.layers[1].trainable = False
    model.summary(lines.append)
    assert lines[-1].startswith("275 weights, 91 of them trained"), lines[-1]


def test_trainable_is_stored(tmp_path: Any) -> None:
    model = network()
    model.layers[4].trainable = False
    model.save(tmp_path / "a.npz")
    loaded = nn.Sequential.load(tmp_path / "a.npz")
    assert [layer.trainable for layer in loaded.layers] == [i != 4 for i in range(7)]


# What they say of themselves ----------------------------------------------------------------------

@pytest.mark.parametrize(("layer", "text"), [
    (lambda: nn.Dense(3), "Dense(3)"),
    (lambda: nn.Dense(3, activation="relu", input_shape=(2,)),
     "Dense(3, activation='relu', input_shape=(2,))"),
    (lambda: nn.Dense(3, "linear", kernel_initializer="he_normal", bias_initializer=nn.Constant(1)),
     "Dense(3, kernel_initializer='he_normal', bias_initializer=Constant(1.0))"),
    (lambda: nn.Activation(nn.LeakyReLU(0.1)), "Activation(LeakyReLU(0.1))"),
    (lambda: nn.Dropout(0.5), "Dropout(0.5)"), (lambda: nn.Flatten(), "Flatten()"),
    (lambda: nn.BatchNorm(momentum=0.9), "BatchNorm(momentum=0.9)"),
    (lambda: nn.Rescaling(2, 1), "Rescaling(2.0, offset=1.0)"),
    (lambda: nn.Input((2, 3)), "Input((2, 3))"),
    (lambda: nn.Huber(2.0), "Huber(delta=2.0)"),
    (lambda: nn.BinaryCrossentropy(from_logits=True), "BinaryCrossentropy(from_logits=True)"),
    (lambda: nn.Sequential([nn.Dense(3)]), "<Sequential([Dense(3)]): not built, not compiled>"),
])
def test_repr(layer: Callable[[], Any], text: str) -> None:
    assert repr(layer()) == text


def test_repr_of_a_compiled_model() -> None:
    model = nn.Sequential([nn.Dense(3, activation="softmax", input_shape=(2,))])
    model.compile("sgd", lr=0.1, momentum=0.5)
    assert repr(model).startswith("<Sequential([Dense(3, activation='softmax', input_shape=(2,))]):"
                                  " 9 weights, SparseCategoricalCrossentropy(), SGD(")
