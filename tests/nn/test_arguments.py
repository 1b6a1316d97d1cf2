"""Every argument of the network takes effect, or is refused by name and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn
from fastmom.nn.losses import LOSSES

BASE: dict[str, Any] = {"units": 8, "activation": "relu", "rate": 0.2, "seed": 0,
                        "dtype": "float32", "optimizer": "sgd", "hyper": {}, "batch_size": 8,
                        "epochs": 2, "shuffle": True}

# One change each that must change the trained weights
CHANGES: list[dict[str, Any]] = [
    {"units": 9}, {"activation": "linear"}, {"activation": "softmax"}, {"rate": 0.3}, {"seed": 1},
    {"dtype": "float64"}, {"hyper": {"lr": 0.02}}, {"hyper": {"momentum": 0.9}},
    {"hyper": {"clip_norm": 0.01}}, {"batch_size": 7}, {"epochs": 3}, {"shuffle": False},
]

# And other words for the same
SAME: list[dict[str, Any]] = [
    {}, {"optimizer": "SGD"}, {"optimizer": fm.SGD}, {"hyper": {"lr": 0.01}},
    {"batch_size": np.int64(8)}, {"epochs": np.int32(2)}, {"seed": np.uint8(0)},
]


def train(make: Any, problem: Any, **changes: Any) -> list[Any]:
    """The weights after training the base's network with these changes."""
    o = BASE | changes
    optimizer = o["optimizer"] if isinstance(o["optimizer"], str) else o["optimizer"]()
    model = make([nn.Flatten(input_shape=(4, 5)), nn.Dense(o["units"], activation=o["activation"]),
                  nn.Dropout(o["rate"]), nn.Dense(3, activation="softmax")],
                 optimizer=optimizer, seed=o["seed"], dtype=o["dtype"], **o["hyper"])
    x, y = problem(20)
    model.fit(x, y, verbose=0, batch_size=o["batch_size"], epochs=o["epochs"],
              shuffle=o["shuffle"])
    return [np.copy(p) for p in model.params]


def test_a_batch_is_at_most_all_samples(make: Any, problem: Any) -> None:
    assert same(train(make, problem, batch_size=10 ** 12), train(make, problem, batch_size=20))


def same(a: list[Any], b: list[Any]) -> bool:
    return all(p.dtype == q.dtype and np.array_equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_takes_effect(make: Any, problem: Any, change: dict[str, Any]) -> None:
    assert not same(train(make, problem, **change), train(make, problem))


@pytest.mark.parametrize("change", SAME, ids=str)
def test_means_the_same(make: Any, problem: Any, change: dict[str, Any]) -> None:
    assert same(train(make, problem, **change), train(make, problem))


@pytest.mark.parametrize("metrics", [None, [], ["accuracy"], ("acc",), ["acc", "accuracy"]])
def test_metrics_are_what_was_asked_for(make: Any, problem: Any, metrics: Any) -> None:
    (x, y), model, names = problem(20), make(metrics=metrics), [*(metrics or [])]
    logs = model.fit(x, y, validation_data=(x, y)).history
    assert set(logs) == {"loss", "val_loss", *names, *(f"val_{name}" for name in names)}
    for use in (model.evaluate, model.train_on_batch):
        assert list(use(x, y, return_dict=True)) == ["loss", *names]


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_the_one_named(make: Any, name: str) -> None:
    head = LOSSES[name]().fused
    model = make([nn.Dense(3, activation=head, input_shape=(2,))], loss=name)
    assert type(model.loss) is LOSSES[name]


def test_validation_data_is_evaluated_after_each_epoch_and_not_learned(
        make: Any, problem: Any) -> None:
    x, y = problem(20)
    held_out = problem(30, seed=1)
    with_it, without, stepwise = (make() for _ in range(3))
    logs = with_it.fit(x, y, epochs=3, validation_data=held_out).history
    without.fit(x, y, epochs=3)
    assert same(with_it.params, without.params)
    for epoch in range(3):
        stepwise.fit(x, y)
        figures = stepwise.evaluate(*held_out, return_dict=True)
        assert figures == {name: logs[f"val_{name}"][epoch] for name in ("loss", "accuracy")}


def test_evaluate_prints_unless_told_not_to(make: Any, problem: Any,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    (x, y), model = problem(20), make()
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert capsys.readouterr().out == ""
    for verbose in ("auto", 1, 2):
        assert model.evaluate(x, y, verbose=verbose) == [loss, accuracy]
        assert capsys.readouterr().out == f"loss {loss:.4f}  accuracy {accuracy:.4f}\n"


@pytest.mark.parametrize("convert", [np.uint8, np.int32, np.uint64, list])
def test_labels_of_any_integer_type(make: Any, problem: Any, convert: Any) -> None:
    (x, y), a, b = problem(20), make(), make()
    assert a.fit(x, y).history == b.fit(x, convert(y)).history
    assert same(a.params, b.params)


# What is refused ----------------------------------------------------------------------------------

DENSE = nn.Dense(3, activation="softmax", input_shape=(2,))
NN, RNG = nn.Sequential, np.random.default_rng(0)
WRONG_MODELS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: NN(DENSE), TypeError, "layers must be a list of layers, not Dense"),
    (lambda: NN([DENSE, "relu"]), TypeError, "layers[1] must be a layer, not str"),
    (lambda: NN([nn.Dense(3), DENSE]), ValueError,
     "layers[1] has input_shape (2,), but only the first layer can say what the samples are"),
    (lambda: NN([]).build((2,)), ValueError, "the model has no layers: add some"),
    (lambda: NN([nn.Dense(3)]).build((28, 28)), ValueError, "put a Flatten before it"),
    (lambda: NN([nn.Dense(3)]).build((0,)), ValueError, "input_shape must be an integer >= 1"),
    (lambda: NN([nn.Dense(3, input_shape=(4,))]).build((5,)), ValueError,
     "the model is built for samples of shape (4,), not (5,)"),
    (lambda: NN([DENSE, DENSE]), ValueError, "layers[1] is in use already; make a new Dense"),
    (lambda: NN([DENSE, nn.Dense(3, input_shape=(4,))]), ValueError,
     "layers[1] has input_shape (4,), but the layer before it gives (3,)"),
    (lambda: NN([nn.Dense(3, input_shape=(28, 28))]), ValueError, "put a Flatten before it"),
    (lambda: NN([DENSE], seed=-1), ValueError, "seed must be an integer >= 0, not -1"),
    (lambda: NN([DENSE], seed=1.5), TypeError, "seed must be an integer >= 0, not 1.5"),
    (lambda: NN([DENSE], seed=True), TypeError, "seed must be an integer >= 0, not True"),
    (lambda: NN([DENSE], dtype="float16"), ValueError,
     "dtype must be 'float32' or 'float64', not 'float16'"),
]


@pytest.mark.parametrize(("make_it", "error", "message"), WRONG_MODELS)
def test_wrong_models(make_it: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make_it()
    assert not DENSE.in_use     # a model that was not made owns nothing


def test_a_layer_belongs_to_one_model(make: Any, problem: Any, state: Any) -> None:
    model = make()
    before = state(model)
    with pytest.raises(ValueError, match=r"layers\[1\] is in use already"):
        nn.Sequential([nn.Dense(4, input_shape=(4,)), model.layers[1]])
    assert same(before, state(model))


WRONG_COMPILING: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"optimizer": "sdg"}, ValueError, "optimizer must be one of "),
    ({"optimizer": fm.SGD}, TypeError, "optimizer must be a name or an Optimizer, not <class"),
    ({"optimizer": None}, TypeError, "optimizer must be a name or an Optimizer, not None"),
    ({"optimizer": "sgd", "learning_rate": 0.1}, TypeError, "did you mean 'lr'?"),
    ({"optimizer": "sgd", "momentum": 1.5}, ValueError, "momentum must be a number from 0 to 1"),
    ({"optimizer": fm.SGD(), "momentum": 0.9}, TypeError,
     "compile with an Optimizer object has no argument 'momentum'"),
    ({"optimizer": "sgd", "loss": "hinge"}, ValueError,
     "loss must be one of 'sparse_categorical_crossentropy', "),
    ({"optimizer": "sgd", "loss": "binary_crossentropy"}, ValueError,
     "loss 'binary_crossentropy' needs a last layer with activation='sigmoid', not 'softmax'"),
    ({"optimizer": "sgd", "loss": ["mse"]}, ValueError, "loss must be one of"),
    ({"optimizer": "sgd", "metrics": {"accuracy"}}, TypeError,
     "metrics must be a name, a list or None, not {'accuracy'}"),
    ({"optimizer": "sgd", "metrics": ["recall"]}, ValueError,
     "metrics must be one of 'accuracy', "),
    ({"optimizer": "sgd", "metrics": ["mse"]}, ValueError,
     "metric 'mse' does not fit the targets of loss 'sparse_categorical_crossentropy'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG_COMPILING)
def test_wrong_compiling(make: Any, problem: Any, state: Any, arguments: dict[str, Any],
                         error: type[Exception], message: str) -> None:
    model = make(momentum=0.9)
    model.fit(*problem(20))
    optimizer, before = model.optimizer, state(model)
    with pytest.raises(error, match=re.escape(message)):
        model.compile(**arguments)
    assert model.optimizer is optimizer
    assert model.metrics == ["accuracy"]
    assert same(before, state(model))


def test_compiling_with_an_optimizer_in_use(make: Any, problem: Any, state: Any) -> None:
    model, other = make(), make(momentum=0.9)
    for optimizer in (other.optimizer, fm.SGD([np.zeros(3)])):
        with pytest.raises(RuntimeError, match="bound to its parameters already"):
            model.compile(optimizer, metrics=[])
    assert model.optimizer.momentum == 0
    assert model.metrics == ["accuracy"]


def test_classes_need_a_softmax_at_the_end() -> None:
    model = nn.Sequential([nn.Dense(3, activation="relu", input_shape=(2,))])
    with pytest.raises(ValueError, match="needs a last layer with activation='softmax'"):
        model.compile(loss="sparse_categorical_crossentropy")
    assert model.optimizer is None
    with pytest.raises(RuntimeError, match="the model has no layers"):
        nn.Sequential().compile()


X, Y = RNG.standard_normal((6, 4, 5)).astype(np.float32), RNG.integers(0, 3, 6)
NAN = np.where(np.arange(20).reshape(4, 5) == 7, np.nan, X).astype(np.float32)
INF = np.where(np.arange(20).reshape(4, 5) == 7, -np.inf, X).astype(np.float32)

# Samples and labels, for every method that takes them
WRONG_DATA: list[tuple[Any, Any, type[Exception], str]] = [
    ([[1, 2], [3]], Y, ValueError, "x must be an array, but has no shape"),
    (None, Y, TypeError, "x must be an array of real numbers, not object"),
    (np.ma.array(X), Y, TypeError, "x must not be a masked array"),
    (X.astype(complex), Y, TypeError, "x must be an array of real numbers, not complex128"),
    (X.astype(str), Y, TypeError, "x must be an array of real numbers, not <U32"),
    (np.full(X.shape, 1e300), Y, ValueError, "x has a value too large for the model's float32"),
    (X.ravel(), Y, ValueError, "x must have shape (samples, ...), not (120,)"),
    (X[:, :3], Y, ValueError, "x must have shape (samples, 4, 5), not (6, 3, 5)"),
    (X[0], Y, ValueError, "x must have shape (samples, 4, 5), not (4, 5)"),
    (NAN, Y, ValueError, "x has a NaN or an infinity"),
    (INF, Y, ValueError, "x has a NaN or an infinity"),
    (X, Y[:5], ValueError, "x has 6 samples and y has 5"),
    (X[:0], Y[:0], ValueError, "x has 0 samples and y has 0"),
    (X, Y + 0.5, ValueError, "y must be one integer label per sample, not float64"),
    (X, np.where(Y > 1, np.nan, Y), ValueError, "y must be one integer label per sample, not flo"),
    (X, Y > 0, ValueError, "y must be one integer label per sample, not bool"),
    (X, np.eye(3, dtype=int)[Y], ValueError, "y must be one integer label per sample, not int64"),
    (X, Y + 1, ValueError, "y has label 3, expected 0 to 2"),
    (X, Y - 3, ValueError, "y has label -3, expected 0 to 2"),
    (X, None, ValueError, "y must be one integer label per sample, not object"),
]
USES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "fit": lambda model, x, y: model.fit(x, y),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "evaluate": lambda model, x, y: model.evaluate(x, y),
    "validation_data": lambda model, x, y: model.fit(X, Y, validation_data=(x, y)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(("x", "y", "error", "message"), WRONG_DATA, ids=[m[3] for m in WRONG_DATA])
def test_wrong_data(make: Any, state: Any, use: str, x: Any, y: Any, error: type[Exception],
                    message: str) -> None:
    model = make(momentum=0.9)
    model.fit(X, Y)
    before, order = state(model), model._order.bit_generator.state
    start = "validation_data: " if use == "validation_data" else ""
    with pytest.raises(error, match=f"^{re.escape(start + message)}"):
        USES[use](model, x, y)
    assert same(before, state(model))
    assert model._order.bit_generator.state == order
    assert model.optimizer.iterations == 1


@pytest.mark.parametrize(("x", "y", "error", "message"),
                         [row for row in WRONG_DATA if row[1] is Y and "samples and" not in row[3]])
def test_wrong_data_to_predict(make: Any, x: Any, y: Any, error: type[Exception],
                               message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make().predict(x)


WRONG_FITTING: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, not 0"),
    ({"epochs": 1.0}, TypeError, "epochs must be an integer >= 1, not 1.0"),
    ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, not 0"),
    ({"batch_size": "32"}, TypeError, "batch_size must be an integer >= 1, not '32'"),
    ({"batch_size": True}, TypeError, "batch_size must be an integer >= 1, not True"),
    ({"shuffle": 1}, TypeError, "shuffle must be True or False, not 1"),
    ({"callbacks": nn.Callback()}, TypeError, "callbacks must be a list of Callback objects"),
    ({"callbacks": [nn.Progress]}, TypeError, "callbacks[0] must be a Callback object, not <class"),
    ({"callbacks": {}}, TypeError, "callbacks must be a list of Callback objects, not {}"),
    ({"validation_data": X}, TypeError,
     "validation_data must be a tuple (x, y) or (x, y, sample_weight), not ndarray"),
    ({"validation_data": (X,)}, TypeError, "validation_data must be a tuple"),
    ({"learning_rate": 0.1}, TypeError, "learning_rate"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG_FITTING)
def test_wrong_fitting(make: Any, state: Any, arguments: dict[str, Any], error: type[Exception],
                       message: str) -> None:
    model = make(momentum=0.9)
    before = state(model)
    with pytest.raises(error, match=re.escape(message)):
        model.fit(X, Y, **arguments)
    assert same(before, state(model))


@pytest.mark.parametrize("use", ["fit", "evaluate"])
@pytest.mark.parametrize("verbose", [3, -1, None, "2", 1.5])
def test_wrong_verbose(make: Any, verbose: Any, use: str) -> None:
    with pytest.raises(ValueError, match="verbose must be 'auto', 0, 1 or 2"):
        getattr(make(), use)(X, Y, verbose=verbose)


@pytest.mark.parametrize("use", ["train_on_batch", "evaluate"])
def test_wrong_return_dict(make: Any, state: Any, use: str) -> None:
    model = make()
    before = state(model)
    with pytest.raises(TypeError, match="return_dict must be True or False, not 1"):
        getattr(model, use)(X, Y, return_dict=1)
    assert same(before, state(model))


@pytest.mark.parametrize("use", USES)
def test_a_model_that_is_not_compiled(use: str) -> None:
    model = nn.Sequential([nn.Flatten(input_shape=(4, 5)), nn.Dense(3, activation="softmax")])
    with pytest.raises(RuntimeError, match="compile the model first"):
        USES[use](model, X, Y)
    assert model.predict(X).shape == (6, 3)
