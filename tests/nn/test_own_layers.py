"""Layers that users write: a class is all it takes, also to save and load models."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmom import nn
from fastmom.checkpoint import CheckpointError
from fastmom.nn.registered import LAYERS


class Stretch(nn.Layer):
    """Declares its weights."""

    arguments = ("start", "note")

    def __init__(self, start: float, note: Any = None, input_shape: Any = None) -> None:
        super().__init__(input_shape)
        self.start, self.note = start, note

    def describe_weights(self, input_shape: tuple[int, ...]) -> dict[str, nn.Weight]:
        return {"factor": nn.Weight(input_shape, nn.Constant(self.start)),
                "seen": nn.Weight(input_shape, trained=False)}

    def forward(self, x: Any, training: bool) -> Any:
        self.x = x
        if training:
            self.seen += x.sum(axis=0)      # type: ignore[attr-defined]
        return x * self.factor              # type: ignore[attr-defined]

    def backward(self, dy: Any) -> Any:
        self.grads[0][...] = (dy * self.x).sum(axis=0)
        return dy * self.factor             # type: ignore[attr-defined]


class Mixing(nn.Layer, name="tests.Mixing"):
    """Builds its weights by itself, has buffers, another shape, and no argument input_shape."""

    arguments = ("width",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def build(self, input_shape: Any, dtype: Any, rng: Any) -> Any:
        self.matrix = rng.standard_normal((input_shape[0], self.width)).astype(dtype)
        self.gradient = np.zeros_like(self.matrix)
        self.params, self.grads = [self.matrix], [self.gradient]
        return (self.width,)

    def allocate(self, batch: int, dtype: Any, needs_dx: bool) -> None:
        self.y = np.empty((batch, self.width), dtype)

    def forward(self, x: Any, training: bool) -> Any:
        self.x = x
        return np.matmul(x, self.matrix, out=self.y[:len(x)])

    def backward(self, dy: Any) -> Any:
        np.matmul(self.x.T, dy, out=self.gradient)
        return dy @ self.matrix.T


class Wider(nn.Dense):
    """Of one of the library's."""


def network() -> nn.Sequential:
    model = nn.Sequential([nn.Flatten(), Stretch(0.5, {"a": [1]}), Mixing(6), Wider(5, "relu"),
                           nn.Dropout(0.2), nn.Dense(3, activation="softmax")], seed=4)
    model.compile("sgd", lr=0.1, momentum=0.9)
    return model


def goes_on_like(other: nn.Sequential, model: nn.Sequential, x: Any, y: Any) -> None:
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    histories = [each.fit(x, y, epochs=2, verbose=0, validation_data=(x, y)).history
                 for each in (model, other)]
    assert histories[0] == histories[1]
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_trains(problem: Any) -> None:
    (x, y), model = problem(60), network()
    losses = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert model.layers[1].seen.any()       # type: ignore[attr-defined]


def test_models_with_it_are_saved_and_loaded(problem: Any, tmp_path: Path) -> None:
    (x, y), model = problem(20), network()
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "a.npz")
    other = nn.Sequential.load(tmp_path / "a.npz")
    assert [type(layer) for layer in other.layers] == [type(layer) for layer in model.layers]
    assert other.layers[1].note == {"a": [1]}       # type: ignore[attr-defined]
    goes_on_like(other, model, x, y)


def test_models_with_it_are_pickled(problem: Any) -> None:
    (x, y), model = problem(20), network()
    model.fit(x, y, epochs=2, verbose=0)
    goes_on_like(pickle.loads(pickle.dumps(model)), model, x, y)


def test_its_weights_have_names(problem: Any, tmp_path: Path) -> None:
    (x, _), model, other = problem(20), network(), network()
    for each in (model, other):
        each.predict(x)
    model.set_weights([w + 1 for w in model.weights])
    model.save_weights(tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as file:
        text = file["checkpoint"].tobytes().decode()
    for name in ("1.Stretch.factor", "1.Stretch.seen", "2.tests.Mixing.matrix", "3.Wider.kernel"):
        assert f'"{name}"' in text
    other.load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    model.layers[2].matrix = np.zeros_like(model.params[1])     # type: ignore[attr-defined]
    assert not model.params[1].any()


def test_a_layer_that_is_not_there(problem: Any, tmp_path: Path) -> None:
    (x, _), model = problem(20), network()
    model.predict(x)
    model.save(tmp_path / "a.npz")
    own = LAYERS.pop("Stretch")
    try:
        with pytest.raises(CheckpointError, match="its layer 'Stretch' is not known here"):
            nn.Sequential.load(tmp_path / "a.npz")
    finally:
        LAYERS["Stretch"] = own


def test_a_name_of_the_library() -> None:
    class Dropout(nn.Layer):
        def forward(self, x: Any, training: bool) -> Any:
            return x
    assert LAYERS["Dropout"] is nn.Dropout
    with pytest.raises(TypeError, match="Dropout cannot be stored: 'Dropout' is the name of anoth"):
        Dropout().describe()
    with pytest.raises(ValueError, match="name='Dense' is a layer of fastmom; give Other another"):
        class Other(nn.Layer, name="Dense"):
            pass


def test_an_argument_that_is_not_listed(tmp_path: Path) -> None:
    class Unlisted(nn.Layer):
        def __init__(self, power: int) -> None:
            super().__init__((2,))
            self.power = power
    model = nn.Sequential([Unlisted(2)])
    with pytest.raises(TypeError, match=re.escape("layers[0]: Unlisted cannot be stored: its argume"
                                                  "nt 'power' is not in Unlisted.arguments")):
        model.save(tmp_path / "a.npz")
    assert not [*tmp_path.iterdir()]


def test_defined_again_the_newest_counts() -> None:
    def define() -> type[nn.Layer]:
        class Notebook(nn.Layer):
            pass
        return Notebook
    first, second = define(), define()
    assert LAYERS["Notebook"] is second
    with pytest.raises(TypeError, match="Notebook cannot be stored"):
        first().describe()
    del LAYERS["Notebook"]


def test_its_settings_are_taken_up_by_inference(problem: Any) -> None:
    class Power(nn.Layer):
        power = 1.0

        def forward(self, x: Any, training: bool) -> Any:
            return self.power * x
    model = nn.Sequential([Power(input_shape=(2,))])
    x = np.ones((1, 2), np.float32)
    assert (model.predict(x) == 1).all()
    model.layers[0].power = 3.0     # type: ignore[attr-defined]
    assert (model.predict(x) == 3).all()
