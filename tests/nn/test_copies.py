"""Copies and pickles of models, and weights in files, go on as the model does."""

from __future__ import annotations

import copy
import io
import pickle
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn
from fastmom.checkpoint import CheckpointError
from fastmom.optim.plateau import ReduceOnPlateau
from fastmom.optim.schedules import Linear


def with_joblib(model: nn.Sequential) -> Any:
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES: dict[str, Callable[[nn.Sequential], Any]] = {
    "copy": copy.copy, "deepcopy": copy.deepcopy,
    **{f"pickle {i}": lambda model, i=i: pickle.loads(pickle.dumps(model, i)) for i in (0, 2, 5)},
    "joblib": with_joblib,
}


def double(step: int) -> float:
    return 0.1 / (1 + step)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: fm.SGD(lr=0.1, momentum=0.9), "Adam": lambda: fm.Adam(lr=0.01),
    "schedule": lambda: fm.SGD(lr=Linear(0.1, 0.01, 9), momentum=0.5),
    "function": lambda: fm.SGD(lr=double), "plateau": lambda: fm.SGD(lr=ReduceOnPlateau(0.1)),
    "clipped": lambda: fm.NAdam(clip_norm=1.0),
}


def share(outputs: Any, y: Any) -> float:
    return float(outputs.max(axis=1).sum())


def network(optimizer: Any, shaped: bool = True, dtype: str = "float32") -> nn.Sequential:
    model = nn.Sequential([
        nn.Flatten(input_shape=(4, 5) if shaped else None), nn.BatchNorm(),
        nn.Dense(40, activation=nn.LeakyReLU(0.3), bias_initializer=nn.Constant(0.1)),
        nn.Dropout(0.3), nn.Dense(3, activation="softmax")], seed=3, dtype=dtype)
    model.compile(optimizer, metrics=["accuracy", share],
                  loss=nn.SparseCategoricalCrossentropy(label_smoothing=0.1))
    return model


def check_alike(model: nn.Sequential, other: nn.Sequential, x: Any, y: Any) -> None:
    """Train both; the same bits, and neither notices the other."""
    for a, b in zip(model.weights, other.weights, strict=True):
        assert not np.shares_memory(a, b)
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    histories = [each.fit(x, y, batch_size=7, epochs=4, initial_epoch=2, verbose=0,
                          validation_data=(x, y)).history for each in (model, other)]
    assert histories[0] == histories[1]
    for a, b in zip(model.weights, other.weights, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert model.optimizer
    assert other.optimizer
    assert repr(model.optimizer) == repr(other.optimizer)
    assert model.optimizer.iterations == other.optimizer.iterations


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_trains_on_with_the_same_bits(how: str, optimizer: str, problem: Any) -> None:
    (x, y), model = problem(30), network(OPTIMIZERS[optimizer]())
    model.fit(x, y, epochs=2, verbose=0)
    model.layers[1].trainable = False
    other = COPIES[how](model)
    assert other.epoch == 2
    assert not other.layers[1].trainable
    check_alike(model, other, x, y)


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_model_before_its_first_use(how: str, problem: Any) -> None:
    (x, y), model = problem(30, np.float64), network(fm.Adam(), shaped=False, dtype="float64")
    other = COPIES[how](model)
    for each in (model, other):
        each.fit(x, y, epochs=2, verbose=0)
    check_alike(model, other, x, y)
    plain = COPIES[how](nn.Sequential([nn.Dense(2, input_shape=(3,))]))
    assert plain.optimizer is None
    assert plain.predict(np.ones((1, 3))).shape == (1, 2)
    plain.add(nn.Dense(4))
    assert plain.output_shape == (4,)


def test_a_model_from_a_read_only_file_trains_on(problem: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    (x, y), model = problem(30), network(fm.SGD(momentum=0.9))
    model.fit(x, y, verbose=0)
    joblib.dump(model, tmp_path / "model.pkl")
    other = joblib.load(tmp_path / "model.pkl", mmap_mode="r")
    for each in (model, other):
        each.fit(x, y, verbose=0)
    check_alike(model, other, x, y)


def test_a_copy_carries_no_buffers(problem: Any) -> None:
    model = network(fm.SGD(momentum=0.9))
    empty = len(pickle.dumps(model))
    model.fit(*problem(3000), batch_size=3000, verbose=0)
    assert len(pickle.dumps(model)) < 1.5 * empty


def test_a_history_is_pickled(problem: Any) -> None:
    history = network(fm.SGD()).fit(*problem(30), epochs=2, verbose=0)
    assert pickle.loads(pickle.dumps(history)).history == history.history


def test_load_on_an_object_would_change_nothing(tmp_path: Path) -> None:
    model = network(fm.SGD())
    model.compile("sgd")
    model.save(tmp_path / "a.npz")
    with pytest.raises(AttributeError, match=r"Sequential\.load\(path\) makes a new model"):
        model.load(tmp_path / "a.npz")


# Weights alone ------------------------------------------------------------------------------------

def test_weights_in_a_file(problem: Any, tmp_path: Path) -> None:
    (x, y), model, other = problem(30), network(fm.SGD()), network(fm.SGD())
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "w.npz")
    own = other.weights
    other.load_weights(tmp_path / "w.npz")
    assert all(a is b for a, b in zip(other.weights, own, strict=True))
    np.testing.assert_array_equal(model.predict(x), other.predict(x))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.Sequential([nn.Dense(3, input_shape=(2,)), nn.Dense(3)]), CheckpointError,
     "1.Dense.kernel"),
    (lambda: nn.Sequential([nn.Dense(4, input_shape=(2,))]), CheckpointError,
     "params['0.Dense.kernel'] has shape (2, 3), expected (2, 4)"),
    (lambda: nn.Sequential([nn.Dense(3, input_shape=(2,))], dtype="float64"), CheckpointError,
     "params['0.Dense.kernel'] has dtype float32, expected float64"),
    (lambda: nn.Sequential([nn.Dense(3)]), RuntimeError, "the model has no weights yet"),
])
def test_weights_that_do_not_fit(make: Any, error: type[Exception], message: str,
                                 tmp_path: Path) -> None:
    nn.Sequential([nn.Dense(3, input_shape=(2,))]).save_weights(tmp_path / "w.npz")
    model = make()
    before = [] if model.input_shape is None else model.get_weights()
    with pytest.raises(error, match=re.escape(message)):
        model.load_weights(tmp_path / "w.npz")
    for a, b in zip(before, model.weights if before else [], strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_need_a_name_of_an_npz(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.npz, not '.*w\.weights\.h5'"):
        network(fm.SGD()).save_weights(tmp_path / "w.weights.h5")


# Memory -------------------------------------------------------------------------------------------

def test_loading_takes_the_memory_of_the_model_alone(tmp_path: Path) -> None:
    model = nn.Sequential([nn.Dense(1500, input_shape=(1000,)), nn.Dense(2, "softmax")])
    model.compile(fm.SGD(momentum=0.9))
    model.train_on_batch(np.ones((4, 1000), np.float32), [0, 1, 0, 1])
    model.save(tmp_path / "a.npz")
    size = (tmp_path / "a.npz").stat().st_size
    gradients = sum(p.nbytes for p in model.params)     # which take none before they are written to
    tracemalloc.start()
    try:
        loaded = nn.Sequential.load(tmp_path / "a.npz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - gradients < 1.1 * size + 1_000_000
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)
