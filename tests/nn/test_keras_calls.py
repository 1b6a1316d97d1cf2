"""Programs written for Keras run, or are told what to write."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn
from fastmom.nn.losses import LOSSES

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 40)


def network(loss: Any = None, head: Any = "softmax", units: int = 3, **compiling: Any) -> Any:
    model = nn.Sequential([nn.Dense(8, activation="relu", input_shape=(6,)),
                           nn.Dense(units, activation=head)])
    model.compile("sgd", loss, **{"lr": 0.1, "momentum": 0.9, **compiling})
    return model


def trained(*data: Any, **arguments: Any) -> list[Any]:
    model = network()
    model.fit(*data, **{"epochs": 2, "verbose": 0, **arguments})
    return list(model.get_weights())


def same(a: list[Any], b: list[Any]) -> bool:
    return all(np.array_equal(v, w) for v, w in zip(a, b, strict=True))


# Calls --------------------------------------------------------------------------------------------

def test_fit_by_position() -> None:
    by_name = network()
    by_name.fit(X, Y, batch_size=16, epochs=3, verbose=0, validation_split=0.25, shuffle=False)
    by_place = network()
    history = by_place.fit(X, Y, 16, 3, 0, None, 0.25, None, False)
    assert same(by_name.weights, by_place.weights)
    assert history.epoch == [0, 1, 2]


def test_a_batch_size_of_none_is_32() -> None:
    assert same(trained(X, Y, batch_size=None), trained(X, Y, batch_size=32))
    assert not same(trained(X, Y, batch_size=None), trained(X, Y, batch_size=40))


@pytest.mark.parametrize("verbose", [True, False, np.True_])
def test_verbose_as_truth(verbose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    model.fit(X, Y, epochs=2, verbose=verbose)
    model.evaluate(X, Y, verbose=verbose)
    model.predict(X, verbose=verbose)
    out = capsys.readouterr().out
    assert out.count("\n") == 4 * bool(verbose)
    assert out.endswith("predicted 40 samples\n" * bool(verbose))


@pytest.mark.parametrize("verbose", [3, None, "2"])
def test_wrong_verbose_of_predict(verbose: Any) -> None:
    with pytest.raises(ValueError, match="verbose must be"):
        network().predict(X, verbose=verbose)


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_batches_of_inference(size: int) -> None:
    model = network(metrics=["accuracy"])
    np.testing.assert_allclose(model.predict(X, batch_size=size, verbose=0), model.predict(X),
                               rtol=1e-5)
    np.testing.assert_allclose(model.evaluate(X, Y, batch_size=size, verbose=0),
                               model.evaluate(X, Y, verbose=0), rtol=1e-5)
    assert same([model.predict(X, size)],
                [np.concatenate([model.predict(X[i:i + size]) for i in range(0, 40, size)])])


@pytest.mark.parametrize("use", ["predict", "evaluate"])
@pytest.mark.parametrize("size", [0, 1.5, "8"])
def test_wrong_batches_of_inference(use: str, size: Any) -> None:
    data = (X,) if use == "predict" else (X, Y)
    with pytest.raises((TypeError, ValueError), match="batch_size must be an integer >= 1"):
        getattr(network(), use)(*data, batch_size=size)


def test_one_metric_by_name() -> None:
    model, listed = network(metrics="accuracy"), network(metrics=["accuracy"])
    assert model.metrics == listed.metrics == ["accuracy"]
    assert model.evaluate(X, Y, verbose=0) == listed.evaluate(X, Y, verbose=0)


# Data ---------------------------------------------------------------------------------------------

class Frame:
    """As much of a pandas DataFrame or Series as is used."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def to_numpy(self) -> Any:
        return self.values

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("to_numpy is there")


class Tensor:
    """As much of a tensor as is used."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values


@pytest.mark.parametrize("convert", [np.ndarray.tolist, Frame, Tensor],
                         ids=["list", "frame", "tensor"])
def test_data_that_is_no_array(convert: Any) -> None:
    expected = trained(X, Y, sample_weight=np.arange(40.0), validation_data=(X, Y))
    x, y, w = convert(X), convert(Y), convert(np.arange(40.0))
    assert same(trained(x, y, sample_weight=w, validation_data=(x, y)), expected)
    model = network()
    assert same([model.predict(x)], [model.predict(X)])
    assert model.evaluate(x, y, verbose=0) == model.evaluate(X, Y, verbose=0)


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    assert same(trained(frame, pandas.Series(Y)), trained(X, Y))
    frame["a"] = frame["a"].astype(object)
    frame.loc[0, "a"] = "text"
    with pytest.raises(TypeError, match="x must be an array of real numbers, not object"):
        network().predict(frame)


def test_pandas_is_not_imported() -> None:
    import subprocess
    code = ("import sys, numpy as np; from fastmom import nn; "
            "m = nn.Sequential([nn.Dense(2, 'softmax')]); m.compile(); "
            "m.fit([[1.0], [2.0]], [0, 1], verbose=0); print('pandas' in sys.modules)")
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True,
                         check=True)
    assert out.stdout == "False\n"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("column", [True, False])
def test_whole_numbers_as_labels(dtype: str, column: bool) -> None:
    y = Y.astype(dtype)
    assert same(trained(X, y[:, np.newaxis] if column else y), trained(X, Y))


@pytest.mark.parametrize(("y", "message"), [
    (Y + 0.5, "y must be one integer label per sample, not float64"),
    (np.full(40, np.inf), "y must be one integer label per sample, not float64"),
    (Y * 1e30, "y must be one integer label per sample, not float64"),
    (Y - 1.0, "y has label -1, expected 0 to 2"),
    (np.ones((40, 3)), "y must be one integer label per sample, not float64 of shape (40, 3)"),
])
def test_labels_that_are_none(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        network().fit(X, y)


def test_to_categorical() -> None:
    rows = nn.to_categorical(Y)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.eye(3)[Y])
    column = Y.astype(float)[:, np.newaxis]
    np.testing.assert_array_equal(nn.to_categorical(column, 5), np.eye(5)[Y])
    assert nn.to_categorical([], 2).shape == (0, 2)
    for y, classes, message in ((Y + 0.5, None, "y must be one integer label per sample"),
                                (Y, 2, "y has label 2, expected 0 to 1"),
                                (Y - 1, None, "y has label -1, expected 0 to"),
                                (Y, 0, "num_classes must be an integer >= 1, not 0"),
                                ("ab", None, "y must be one integer label per sample")):
        with pytest.raises(ValueError, match=message):
            nn.to_categorical(y, classes)


# Names --------------------------------------------------------------------------------------------

def test_an_input_is_an_input_shape() -> None:
    model = nn.Sequential([nn.Input((6,)), nn.Dense(8, activation="relu"), nn.Dense(3, "softmax")])
    assert (model.input_shape, model.output_shape, len(model.layers)) == ((6,), (3,), 2)
    assert same(model.weights, network().weights)
    grown = nn.Sequential()
    for layer in (nn.Input([6]), nn.Dense(8, activation="relu"), nn.Dense(3, "softmax")):
        grown.add(layer)
    assert same(grown.weights, model.weights)


@pytest.mark.parametrize(("layers", "error", "message"), [
    (lambda: [nn.Dense(2), nn.Input((3,))], ValueError, "layers[1] is an Input; only the first"),
    (lambda: [nn.Input((3,)), nn.Input((3,))], ValueError, "is an Input; only the first entry"),
    (lambda: [nn.Input((3,)), nn.Dense(2, input_shape=(4,))], ValueError,
     "layers[0] has input_shape (4,), but the Input says (3,)"),
    (lambda: [nn.Input(3)], TypeError, "shape must be a sequence of integers >= 1, not 3"),
    (lambda: [nn.Input((0,))], ValueError, "shape must be an integer >= 1, not 0"),
])
def test_wrong_inputs(layers: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        nn.Sequential(layers())


def test_batch_normalization_is_batch_norm() -> None:
    assert nn.BatchNormalization is nn.BatchNorm


@pytest.mark.parametrize(("name", "message"), [
    ("SGD", "optimizers are fastmom.SGD and the like"), ("Adam", "optimizers are fastmom.Adam"),
    ("RMSProp", "optimizers are fastmom.RMSprop"), ("optimizers", "optimizers are fastmom.SGD"),
    ("Linear", "here it is Dense(units)"), ("load_model", "here it is Sequential.load(path)"),
    ("ReLU", "here it is Activation('relu')"),
    ("CrossEntropyLoss", "here it is SparseCategoricalCrossentropy(from_logits=True)"),
    ("Conv2D", "there is none; fastmom.nn has dense networks"), ("Dens", "did you mean 'Dense'?"),
    ("utils", "its content, as far as there is any, is in fastmom.nn itself"), ("xyzzy", "'xyzzy'"),
])
def test_names_that_are_elsewhere(name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=f"'fastmom.nn' has no attribute '{name}'") as raised:
        getattr(nn, name)
    assert message in str(raised.value)
    assert not hasattr(nn, name)


# Label smoothing ----------------------------------------------------------------------------------

@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("name", [name for name, kind in LOSSES.items() if kind().fused])
def test_label_smoothing_mixes_the_targets(name: str, logits: bool) -> None:
    """Loss and weights are those of targets that are mixed beforehand; metrics see the labels."""
    kind, binary = LOSSES[name], name == "binary_crossentropy"
    y = np.eye(3)[Y]
    mixed = 0.7 * y + (0.3 / 2 if binary else 0.3 / 3)
    head = None if logits else kind().fused
    given = Y if kind().targets == "labels" else y
    smooth = network(kind(from_logits=logits, label_smoothing=0.3), head, metrics="accuracy")
    dense = LOSSES["binary_crossentropy" if binary else "categorical_crossentropy"]
    plain = network(dense(from_logits=logits), head)
    w = np.arange(40.0) / 20
    a = smooth.fit(X, given, epochs=3, verbose=0, sample_weight=w).history["loss"]
    b = plain.fit(X, mixed, epochs=3, verbose=0, sample_weight=w).history["loss"]
    np.testing.assert_allclose(a, b, rtol=1e-5)
    for v, u in zip(smooth.weights, plain.weights, strict=True):
        np.testing.assert_allclose(v, u, rtol=1e-3, atol=1e-5)
    accuracy = smooth.evaluate(X, given, verbose=0)[1]
    p = smooth.predict(X)
    expected = ((p > (0 if logits else 0.5)) == y).mean() if binary else (p.argmax(1) == Y).mean()
    assert accuracy == pytest.approx(expected)


def test_against_keras_formula() -> None:
    """-sum(((1 - s) y + s / k) log p), as Keras computes it."""
    model = network(nn.CategoricalCrossentropy(label_smoothing=0.1))
    p, y = model.predict(X).astype(float), 0.9 * np.eye(3)[Y] + 0.1 / 3
    assert model.evaluate(X, np.eye(3)[Y], verbose=0) == pytest.approx(
        -(y * np.log(p)).sum(axis=1).mean(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [1.0, -0.1, "0.1", None, True])
def test_wrong_label_smoothing(smoothing: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="label_smoothing must be a number"):
        nn.BinaryCrossentropy(label_smoothing=smoothing)


def test_label_smoothing_is_stored(tmp_path: Any) -> None:
    model = network(nn.SparseCategoricalCrossentropy(label_smoothing=0.2))
    model.save(tmp_path / "a.npz")
    loaded = nn.Sequential.load(tmp_path / "a.npz")
    assert repr(loaded.loss) == "SparseCategoricalCrossentropy(label_smoothing=0.2)"
    assert isinstance(loaded.optimizer, fm.SGD)
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


def test_accuracy_of_several_binary_outputs_counts_each() -> None:
    """Where Keras compares the largest output with the largest target."""
    model = network("binary_crossentropy", "sigmoid", metrics="accuracy")
    y = RNG.integers(0, 2, (40, 3))
    expected = ((model.predict(X) > 0.5) == y).mean()
    assert model.evaluate(X, y, verbose=0)[1] == pytest.approx(expected)
