"""A model from a file goes on as if it had never stopped."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm
from fastmom import nn
from fastmom.checkpoint import CheckpointError
from fastmom.nn.activations import ACTIVATIONS, LeakyReLU
from fastmom.nn.activations import Activation as Function
from fastmom.nn.initializers import INITIALIZERS, Checked
from fastmom.nn.losses import LOSSES
from fastmom.nn.metrics import METRICS
from fastmom.nn.registered import LAYERS
from fastmom.optim import schedules
from fastmom.optim.plateau import ReduceOnPlateau

SHAPE = (2, 3)

# Networks for samples of SHAPE with 4 outputs, and what else they are of
BODIES: dict[str, Callable[[], list[nn.Layer]]] = {
    "every layer": lambda: [
        nn.Rescaling(0.5, -0.1, input_shape=SHAPE), nn.BatchNorm(momentum=0.8, eps=0.01),
        nn.Activation("tanh"), nn.Flatten(), nn.Dense(40, activation="relu"), nn.Dropout(0.3),
        nn.Dense(8), nn.BatchNorm(), nn.Activation(LeakyReLU(0.07)), nn.Dropout(0.1)],
    "built later": lambda: [nn.Flatten(), nn.Dropout(0.5), nn.Dense(5)],
    **{name: lambda name=name: [nn.Flatten(input_shape=SHAPE), nn.Dense(5, activation=name)]
       for name in ACTIVATIONS},
    **{name: lambda name=name: [
        nn.Flatten(input_shape=SHAPE),
        nn.Dense(5, kernel_initializer=name, bias_initializer=nn.Constant(0.25))]
       for name in INITIALIZERS},
    "own initializer": lambda: [
        nn.Flatten(input_shape=SHAPE),
        nn.Dense(5, kernel_initializer=lambda shape, dtype, rng: rng.random(shape).astype(dtype)),
        nn.Dropout(0.5)],
}

# Losses with the last activation
ENDS: dict[str, tuple[Callable[[], nn.Loss], Any]] = {
    **{name: (kind, kind().fused or "gelu") for name, kind in LOSSES.items()},
    **{f"{name} of logits": (lambda kind=kind: kind(from_logits=True), None)
       for name, kind in LOSSES.items() if kind().fused},
    "huber, delta": (lambda: nn.Huber(0.3), LeakyReLU(0.3)),
}

SCHEDULES: list[fm.optim.schedules.Schedule] = [
    schedules.Constant(0.1), schedules.Linear(0.1, 0.01, 7), schedules.Sutskever(0.9, 2),
    schedules.Step(0.1, 0.5, 2), schedules.Exponential(0.1, 0.9, 2), schedules.Cosine(0.1, 0.01, 5),
    schedules.OneCycle(0.1, 9), ReduceOnPlateau(0.1, patience=1), schedules.Cyclic(0.01, 0.1, 3),
    schedules.Polynomial(0.1, 0.01, 7), schedules.InverseTime(0.1, 0.2),
    schedules.Piecewise([(0, 0.1), (3, schedules.Linear(0.1, 0.01, 4))])]


def test_everything_is_tested() -> None:
    own = {kind for kind in LAYERS.values() if kind.__module__.startswith("fastmom.")}
    assert {type(layer) for layer in BODIES["every layer"]()} == own
    assert {*ACTIVATIONS, *INITIALIZERS} <= {*BODIES}
    assert {*LOSSES} <= {*ENDS}
    assert {kind for kind, _ in OPTIMIZERS} == {*fm.optim.OPTIMIZERS.values()}
    known = {kind for kind in vars(schedules).values()
             if isinstance(kind, type) and issubclass(kind, schedules.Schedule)}
    assert {type(each) for each in SCHEDULES} == known - {schedules.Schedule} | {ReduceOnPlateau}


def made(body: str = "every layer", end: str = "sparse_categorical_crossentropy",
         optimizer: Any = None, dtype: str = "float32", metrics: Any = ("accuracy",)) -> Any:
    kind, head = ENDS[end]
    model = nn.Sequential([*BODIES[body](), nn.Dense(4, activation=head)], seed=5, dtype=dtype)
    model.compile(optimizer or fm.SGD(lr=0.05, momentum=0.9), kind(), list(metrics))
    return model


def samples(model: nn.Sequential, n: int = 20) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, n)
    return (rng.standard_normal((n, *SHAPE)),
            labels if model.loss.targets == "labels" else np.eye(4)[labels])


def contents(model: nn.Sequential) -> list[Any]:
    """All that training changes, as bits."""
    assert model.optimizer
    state = model.optimizer.state_dict()
    return [[w.tobytes() for w in model.weights], model.epoch, model._order.bit_generator.state,
            [[(k, v.tobytes()) for k, v in each.items()] for each in state.pop("state")], state,
            [(layer.key, layer.step) for layer in model.layers if isinstance(layer, nn.Dropout)]]


def check_goes_on(model: nn.Sequential, file: Any) -> None:
    """Train, save, load, train both: the same weights, figures and state at every point."""
    x, y = samples(model)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    model.save(file)
    other = nn.Sequential.load(file)
    assert contents(other) == contents(model)
    assert repr(other.optimizer) == repr(model.optimizer)
    assert other.metrics == model.metrics
    assert [type(layer) for layer in other.layers] == [type(layer) for layer in model.layers]
    for mine, loaded in zip(model.layers, other.layers, strict=True):
        for name in mine.arguments:
            a, b = getattr(mine, name), getattr(loaded, name)
            if isinstance(a, Function):
                assert (type(a), a.slope) == (type(b), b.slope)
            elif isinstance(a, Checked):
                value = getattr(a.function, "value", 0)     # a function has done its work: zeros
                assert (b((1,), np.dtype("float64"), None) == value).all()
            else:
                assert a == b
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    histories = [each.fit(x, y, batch_size=8, epochs=4, initial_epoch=2, verbose=0,
                          validation_data=(x, y)).history for each in (model, other)]
    assert histories[0] == histories[1]
    assert contents(other) == contents(model)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("body", BODIES)
def test_layers(body: str, dtype: str, tmp_path: Any) -> None:
    check_goes_on(made(body, dtype=dtype), tmp_path / f"{body}.npz")


@pytest.mark.parametrize("end", ENDS)
def test_losses_and_metrics(end: str, tmp_path: Any) -> None:
    targets = ENDS[end][0]().targets
    model = made(end=end, metrics=[name for name, kinds in METRICS.items() if targets in kinds])
    check_goes_on(model, tmp_path / "model.npz")
    loaded = nn.Sequential.load(tmp_path / "model.npz").loss
    assert type(loaded) is type(model.loss)
    for name in ("from_logits", "delta", "fused"):
        assert getattr(loaded, name, None) == getattr(model.loss, name, None)


@pytest.mark.parametrize(("kind", "hyper"), OPTIMIZERS, ids=map(label, OPTIMIZERS))
def test_optimizers(kind: Any, hyper: dict[str, Any], tmp_path: Any) -> None:
    check_goes_on(made(optimizer=kind(**hyper)), tmp_path / "model.npz")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", ["lr", "momentum", "clip_norm"])
def test_schedules(schedule: Any, name: str, tmp_path: Any) -> None:
    check_goes_on(made(optimizer=fm.SGD(**{"momentum": 0.9, name: schedule})),
                  tmp_path / "model.npz")


def test_without_optimizer(tmp_path: Any) -> None:
    model = nn.Sequential(BODIES["every layer"](), seed=3)
    model.save(tmp_path / "model.npz")
    other = nn.Sequential.load(tmp_path / "model.npz")
    assert other.optimizer is None
    assert (other.seed, other.dtype, other.epoch) == (3, np.float32, 0)
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RuntimeError, match="compile the model first"):
        other.fit(*samples(made()))


def test_the_best_models_of_a_training(tmp_path: Any) -> None:
    model = made(optimizer=fm.SGD(lr=0.5, momentum=0.9))
    x, y = samples(model)
    losses = model.fit(x, y, epochs=6, verbose=0, validation_data=(x, y), callbacks=[
        nn.ModelCheckpoint(str(tmp_path / "{epoch}.npz"), monitor="val_loss",
                           save_best_only=True)]).history["val_loss"]
    files = [*tmp_path.iterdir()]
    assert {int(file.stem) for file in files} == {
        i + 1 for i, loss in enumerate(losses) if loss < min([*losses[:i], np.inf])}
    for file in files:
        best = nn.Sequential.load(file)
        assert best.epoch == int(file.stem)
        assert best.evaluate(x, y, verbose=0)[0] == losses[best.epoch - 1]


def test_a_class_of_ones_own(tmp_path: Any) -> None:
    class Own(nn.Sequential):
        pass
    made().save(tmp_path / "model.npz")
    assert type(Own.load(tmp_path / "model.npz")) is Own


# What cannot be saved -----------------------------------------------------------------------------

class OwnFunction(Function):
    name = "own"


class OwnLoss(nn.MeanSquaredError):
    name = "own"


class OwnOptimizer(fm.SGD):
    pass


class Disguised(nn.MeanSquaredError):
    name: ClassVar[str] = "mean_squared_error"


def share(outputs: Any, y: Any) -> float:
    return 0.0


def dense(kind: Any = nn.Dense, activation: Any = None) -> nn.Sequential:
    return nn.Sequential([kind(4, activation=activation, input_shape=(2,))])


def compiled(**arguments: Any) -> nn.Sequential:
    model = dense()
    model.compile(**arguments)
    return model


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: dense(activation=OwnFunction()), TypeError, "activation 'own' cannot be stored"),
    (lambda: compiled(loss=OwnLoss()), TypeError, "loss 'own' cannot be stored"),
    (lambda: compiled(loss=Disguised()), TypeError, "loss 'mean_squared_error' cannot be stored"),
    (lambda: compiled(metrics=[share]), TypeError, "metric <function share"),
    (lambda: compiled(optimizer=OwnOptimizer()), TypeError, "optimizer OwnOptimizer cannot be"),
    (lambda: compiled(optimizer=fm.SGD(lr=lambda step: 0.1)), TypeError, "lr=<function"),
    (lambda: compiled(optimizer=fm.SGD(clip_norm=lambda step: 0.1)), TypeError, "clip_norm=<func"),
    (lambda: nn.Sequential([nn.Dense(3)]), RuntimeError, "the model has no weights yet"),
    (lambda: nn.Sequential(), RuntimeError, "the model has no weights yet"),
])
def test_what_cannot_be_stored(make: Any, error: type[Exception], message: str,
                               tmp_path: Any) -> None:
    file = tmp_path / "model.npz"
    file.write_text("older")
    with pytest.raises(error, match=re.escape(message)):
        make().save(file)
    assert file.read_text() == "older"
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("name", ["model", "model.h5"])
def test_the_path_ends_in_npz(name: str, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.npz"):
        made().save(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        nn.Sequential.load(tmp_path / "model.npz")


def test_a_checkpoint_of_something_else(tmp_path: Any) -> None:
    for extra in (None, {"epoch": 3}, [1], "layers"):
        fm.checkpoint.save(tmp_path / "a.npz", params=[np.zeros(3)], extra=extra)
        with pytest.raises(CheckpointError, match="it is a checkpoint without a model"):
            nn.Sequential.load(tmp_path / "a.npz")
