"""The learning rate after epochs without improvement."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from training import Model, train

import fastmom as fm
from fastmom import nn
from fastmom.optim.schedules import Constant

NAN, INF = float("nan"), float("inf")


def losses(*values: float) -> list[dict[str, Any]]:
    return [{"loss": 0.0, "val_loss": value} for value in values]


# values, arguments, lr in each epoch from 1.0, and lr at the end: as Keras 3.15 has them, except
# those of NaN and infinity
COURSES: list[tuple[list[float], dict[str, Any], list[float], float]] = [
    ([3, 2, 1], {"patience": 1}, [1, 1, 1], 1),
    ([3, 3, 3], {"patience": 1}, [1, 1, 0.5], 0.25),
    ([3, 3, 3], {"patience": 0}, [1, 1, 0.5], 0.25),
    ([3, 3, 3, 3, 3], {"patience": 2}, [1, 1, 1, 0.5, 0.5], 0.25),
    ([3, 4, 2, 4, 4, 4], {"patience": 2}, [1, 1, 1, 1, 1, 0.5], 0.5),
    ([3, 3, 3, 3, 3], {"patience": 1, "cooldown": 2}, [1, 1, 0.5, 0.5, 0.25], 0.25),
    ([3, 3, 3, 3], {"patience": 1, "min_lr": 0.3}, [1, 1, 0.5, 0.3], 0.3),
    ([3, 2.5, 2.0], {"patience": 1, "min_delta": 0.5}, [1, 1, 0.5], 0.5),
    ([1, 2, 3], {"patience": 1, "mode": "max"}, [1, 1, 1], 1),
    ([3, 2, 1], {"patience": 1, "mode": "max"}, [1, 1, 0.5], 0.25),
    ([NAN, NAN, 1], {"patience": 2}, [1, 1, 0.5], 0.5),
    ([3, -INF, 1], {"patience": 1}, [1, 1, 0.5], 0.5),
    ([3, 3, 3], {"patience": 1, "factor": 0}, [1, 1, 0], 0),
    ([3, 3, 3], {"patience": 1, "min_lr": 2.0}, [1, 1, 1], 1),      # it is below already
]


@pytest.mark.parametrize(("values", "arguments", "rates", "end"), COURSES, ids=str)
def test_courses(values: list[float], arguments: dict[str, Any], rates: list[float],
                 end: float) -> None:
    reduce = nn.ReduceLROnPlateau(**{"factor": 0.5, **arguments})
    for _ in range(2):      # it can be used again
        model = Model(lr=1.0)
        assert train([reduce], losses(*values), model).history["lr"] == rates
        assert model.optimizer.lr == end


def test_all_groups_and_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    model = Model()
    a, b = np.zeros(1), np.zeros(1)
    model.optimizer = fm.SGD([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.25}])
    reduce = nn.ReduceLROnPlateau(factor=0.5, patience=1, verbose=1)
    history = train([reduce], losses(1, 1, 1), model).history
    assert (history["lr_0"], history["lr_1"]) == ([0.5, 0.5, 0.25], [0.25, 0.25, 0.125])
    assert capsys.readouterr().out == ("epoch 2: lr reduced to 0.25, 0.125\n"
                                       "epoch 3: lr reduced to 0.125, 0.0625\n")


def test_it_takes_effect_in_a_training(make: Any, problem: Any) -> None:
    (x, y), model = problem(20), make(lr=0.1)
    reduce = nn.ReduceLROnPlateau("loss", factor=0, patience=1, min_delta=1e9)
    history = model.fit(x, y, epochs=4, callbacks=[reduce, nn.EarlyStopping("lr", mode="max",
                                                                            patience=9)])
    assert history.history["lr"] == [0.1, 0.1, 0.0, 0.0]


def test_going_on_from_a_state() -> None:
    values = losses(3, 2, 4, 4, 4, 1, 4, 4)
    for cut in range(1, len(values)):
        whole, parts = Model(lr=1.0), Model(lr=1.0)
        arguments: dict[str, Any] = {"factor": 0.5, "patience": 2, "cooldown": 1}
        first, second = nn.ReduceLROnPlateau(**arguments), nn.ReduceLROnPlateau(**arguments)
        rates = train([nn.ReduceLROnPlateau(**arguments)], values, whole).history["lr"]
        begin = train([first], values[:cut], parts).history["lr"]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert begin + train([second], values[cut:], parts, first=cut).history["lr"] == rates
        assert parts.optimizer.lr == whole.optimizer.lr


def test_a_schedule_of_the_optimizers_own_is_not_replaced() -> None:
    with pytest.raises(ValueError, match=r"lr has a schedule of its own already: Constant\(value"):
        train([nn.ReduceLROnPlateau()], losses(1), Model(lr=Constant(0.1)))


@pytest.mark.parametrize(("state", "message"), [
    ({"best": "low", "wait": 0, "cooling": 0}, "state['best'] must be a finite number, not 'low'"),
    ({"best": 1, "wait": -1, "cooling": 0}, "state['wait'] must be an integer >= 0, not -1"),
    ({"best": 1, "wait": 1}, "state must have best, wait, cooling, not {"),
])
def test_a_wrong_state_changes_nothing(state: Any, message: str) -> None:
    reduce = nn.ReduceLROnPlateau()
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        reduce.load_state_dict(state)
    assert reduce.state_dict() == {"best": None, "wait": 0, "cooling": 0}


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"monitor": 1}, TypeError, "monitor must be the name of a metric, not 1"),
    ({"mode": "low"}, ValueError, "mode must be 'auto', 'min' or 'max', not 'low'"),
    ({"factor": 1}, ValueError, "factor must be a number from 0 to below 1, not 1"),
    ({"patience": -1}, ValueError, "patience must be an integer >= 0, not -1"),
    ({"verbose": True}, ValueError, "verbose must be 0 (silent) or 1 (one line), not True"),
    ({"min_delta": -1}, ValueError, "min_delta must be a finite number >= 0, not -1"),
    ({"cooldown": 0.5}, TypeError, "cooldown must be an integer >= 0, not 0.5"),
    ({"min_lr": -1}, ValueError, "min_lr must be a finite number >= 0, not -1"),
])
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        nn.ReduceLROnPlateau(**arguments)
