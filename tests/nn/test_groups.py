"""A network whose optimizer has its parameters in groups."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn


def network() -> nn.Sequential:
    """Return a network in which biases do not decay, trained for a while."""
    model = nn.Sequential([nn.Dense(8, activation="tanh", input_shape=(3,)), nn.Dense(2)], seed=1)
    groups = [{"params": [array], "weight_decay": 0.1 if array.ndim == 2 else 0.0}
              for array in model.params]
    model.compile(fm.SGD(groups, lr=0.1, momentum=0.9, clip_norm=5.0), loss="mse")
    train(model)
    return model


def train(model: Any) -> None:
    rng = np.random.default_rng(2)
    model.fit(rng.standard_normal((50, 3)), rng.standard_normal((50, 2)), epochs=2, verbose=0)


def test_groups_take_effect() -> None:
    model = network()
    assert [g["weight_decay"] for g in model.optimizer.param_groups] == [0.1, 0.0, 0.1, 0.0]
    for group in model.optimizer.param_groups:
        group["lr"] = 0.0
    before = model.get_weights()
    model.optimizer.param_groups[1]["lr"] = 0.1
    train(model)
    changed = [bool((a != b).any()) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, True, False, False]


def through_a_file(model: nn.Sequential, directory: Path) -> Any:
    model.save(directory / "model.npz")
    return nn.Sequential.load(directory / "model.npz")


@pytest.mark.parametrize("way", [
    lambda model, _: copy.deepcopy(model), lambda model, _: pickle.loads(pickle.dumps(model)),
    through_a_file], ids=["copy", "pickle", "file"])
def test_copies_train_on(way: Callable[[nn.Sequential, Path], Any], tmp_path: Path) -> None:
    model = network()
    other = way(model, tmp_path)
    assert repr(other.optimizer) == repr(model.optimizer)
    train(model)
    train(other)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_compile_again_keeps_the_optimizer() -> None:
    model = network()
    optimizer = model.optimizer
    model.compile(optimizer, loss="mae")
    assert model.optimizer is optimizer
    assert optimizer.iterations == 4


def test_other_arrays_are_refused() -> None:
    model = network()
    for arrays in (model.params[:-1], model.params[::-1], [p.copy() for p in model.params]):
        with pytest.raises(RuntimeError, match="bound to its parameters already"):
            model.compile(fm.SGD(arrays), loss="mse")
