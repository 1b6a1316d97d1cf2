"""The history of a training: its names, its copies and its text."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from training import train

import fastmom as fm
from fastmom import nn
from fastmom.nn.callbacks import Metrics


def fitted(**hyper: Any) -> nn.History:
    model = nn.Sequential([nn.Dense(4, activation="relu", input_shape=(2,)), nn.Dropout(0.5),
                           nn.Dense(2, activation="softmax")])
    model.compile(fm.SGD(lr=0.5, **hyper), metrics=["accuracy"])
    return model.fit(np.eye(2), np.arange(2), epochs=3, verbose=0)


@pytest.mark.parametrize(("real", "alias"), [
    ("acc", "accuracy"), ("accuracy", "acc"), ("val_acc", "val_accuracy"),
    ("val_accuracy", "val_acc")])
def test_old_names_of_accuracy(real: str, alias: str) -> None:
    history = train([], [{"loss": 1.0, real: 0.5}, {"loss": 0.9, real: 0.75}]).history
    for kept in (history, copy.copy(history), pickle.loads(pickle.dumps(history))):
        assert alias in kept
        assert kept[alias] == kept.get(alias) == kept[real] == kept.get(real, []) == [0.5, 0.75]
    assert sorted(history) == sorted(["loss", real]) == sorted(history.keys())
    both = Metrics({real: 1, alias: 2})
    assert (both[real], both[alias], both.get(real), both.get(alias)) == (1, 2, 1, 2)


@pytest.mark.parametrize("name", ["val_acc", "Loss", 0, None])
def test_unknown_names_say_what_there_is(name: Any) -> None:
    history = train([], [{"loss": 1.0, "acc": 0.5}]).history
    with pytest.raises(KeyError, match="is not among 'loss', 'acc'"):
        history[name]
    assert name not in history
    assert history.get(name) is None
    assert history.get(name, 7) == 7
    with pytest.raises(KeyError, match="no metrics"):
        Metrics()[name]


def test_a_history_of_a_second_training_starts_anew() -> None:
    own = nn.History()
    train([own], [{"loss": 1.0}] * 3)
    train([own], [{"loss": 2.0}])
    assert (own.epoch, own.history) == ([0], {"loss": [2.0]})


def through_joblib(history: nn.History) -> Any:
    joblib = pytest.importorskip("joblib")
    file = BytesIO()
    joblib.dump(history, file)
    return joblib.load(file)


@pytest.mark.parametrize("copied", [
    copy.copy, copy.deepcopy, lambda history: pickle.loads(pickle.dumps(history)), through_joblib],
    ids=["copy", "deepcopy", "pickle", "joblib"])
def test_copies_hold_the_numbers_and_no_model(copied: Callable[[nn.History], Any]) -> None:
    history = fitted(momentum=0.5)
    found = copied(history)
    assert type(found) is nn.History
    assert type(found.history) is Metrics
    for name in ("epoch", "seconds", "history", "optimizer", "dropout", "params"):
        assert getattr(found, name) == getattr(history, name)
    assert repr(found) == repr(history)
    assert found.model is None
    assert isinstance(history.model, nn.Sequential)
    assert copied(nn.History()).epoch == []


def test_what_was_trained_stands_in_it() -> None:
    history = fitted(momentum=0.5)
    assert history.optimizer == repr(history.model.optimizer)
    assert "momentum=0.5" in history.optimizer
    assert history.dropout
    assert not train([], [{"loss": 1.0}]).dropout


@pytest.mark.parametrize(("epochs", "text"), [
    ([], "<History of 0 epochs>"),
    ([{"loss": 2.0}], "<History of 1 epoch: loss 2>"),
    ([{"loss": 2.0}, {"loss": np.float32(0.123456), "val_acc": float("nan"), "note": "x"}],
     "<History of 2 epochs: loss 0.1235, val_acc nan, note x>")])
def test_repr(epochs: list[dict[str, Any]], text: str) -> None:
    assert repr(train([], epochs)) == text
