"""Hyper-parameters by epoch."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from training import Model, train

import fastmom as fm
from fastmom import nn
from fastmom.optim.schedules import Linear, ReduceOnPlateau, Step

EPOCHS = [{"loss": 1.0}] * 4


def with_default(epoch: int, rate: float = 0.5) -> float:
    return rate ** epoch


class Counter:
    def __call__(self, epoch: int) -> float:
        return epoch / 10


def of_both(epoch: int, current: float) -> float:
    return current + epoch


# schedule, values of lr that was 0.1
SCHEDULES: list[tuple[Any, list[float]]] = [
    (Step(0.4, factor=0.5, every=2), [0.4, 0.4, 0.2, 0.2]),
    (Linear(0.0, 0.3, steps=3), [Linear(0.0, 0.3, steps=3)(i) for i in range(4)]),
    (lambda epoch: np.float32(0.25), [0.25] * 4),
    (lambda *args: args[0] / 2, [0.0, 0.5, 1.0, 1.5]),
    (with_default, [1.0, 0.5, 0.25, 0.125]),
    (Counter(), [0.0, 0.1, 0.2, 0.3]),
    (lambda epoch, current: current / 2, [0.05, 0.025, 0.0125, 0.00625]),
    (of_both, [0.1, 1.1, 3.1, 6.1]),
    (abs, [0.0, 1.0, 2.0, 3.0]),
]


@pytest.mark.parametrize(("schedule", "values"), SCHEDULES)
def test_values_of_each_epoch(schedule: Any, values: list[float]) -> None:
    model, seen = Model(lr=0.1), []
    note = nn.LambdaCallback(on_train_batch_begin=lambda b, logs: seen.append(model.optimizer.lr))
    history = train([nn.Scheduler("lr", schedule), note], EPOCHS, model)
    np.testing.assert_allclose(seen, values, rtol=1e-15)
    assert history.history["lr"] == seen
    assert all(type(value) is float for value in seen)


@pytest.mark.parametrize(("callback", "name"), [
    (nn.LearningRateScheduler(Counter()), "lr"), (nn.MomentumScheduler(Counter()), "momentum"),
    (nn.Scheduler("weight_decay", Counter()), "weight_decay"),
    (nn.Scheduler("clip_norm", lambda epoch: epoch / 10 + 1), "clip_norm")])
def test_hyper_parameters_by_name(callback: nn.Callback, name: str) -> None:
    model = Model(lr=0.05, momentum=0.05)
    history = train([callback], EPOCHS, model)
    assert getattr(model.optimizer, name) == history.history[name][-1] != 0.05
    assert len(set(history.history[name])) == 4


def test_it_takes_effect(make: Any, problem: Any) -> None:
    (x, y), model = problem(20), make(lr=0.1, momentum=0.9)
    start = model.get_weights()
    zero = model.fit(x, y, epochs=2, callbacks=[nn.LearningRateScheduler(lambda epoch: 0.0)])
    assert zero.history["lr"] == [0.0, 0.0]
    for a, b in zip(start, model.params, strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(x, y, callbacks=[nn.LearningRateScheduler(lambda epoch: 0.1)])
    assert (start[0] != model.params[0]).any()


def test_all_groups() -> None:
    a, b, model = np.zeros(1), np.zeros(1), Model()
    model.optimizer = fm.SGD([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.25}])
    history = train([nn.Scheduler("lr", lambda epoch, current: current / 2)], EPOCHS[:2], model)
    assert history.history == {"loss": [1.0, 1.0], "lr_0": [0.25, 0.125], "lr_1": [0.125, 0.0625]}
    assert [group["lr"] for group in model.optimizer.param_groups] == [0.125, 0.0625]
    assert train([nn.LearningRateScheduler(Counter())], EPOCHS, model).history["lr"][-1] == 0.3
    assert [group["lr"] for group in model.optimizer.param_groups] == [0.3, 0.3]


LOSSES = [{"loss": loss} for loss in (3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0)]


def test_a_plateau() -> None:
    scheduler = nn.Scheduler("lr", ReduceOnPlateau(0.5, factor=0.5, patience=1), monitor="loss")
    assert train([scheduler], LOSSES).history["lr"] == [0.5] * 4 + [0.25] * 3
    assert train([scheduler], LOSSES[:1]).history["lr"] == [0.125]


def test_a_plateau_goes_on_from_its_state() -> None:
    for cut in range(len(LOSSES)):
        first, second = (nn.Scheduler("lr", ReduceOnPlateau(0.5, factor=0.5, patience=1),
                                      monitor="loss") for _ in range(2))
        begin = train([first], LOSSES[:cut]).history.get("lr", [])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert begin + train([second], LOSSES[cut:]).history["lr"] == [0.5] * 4 + [0.25] * 3


def test_state_of_other_schedules() -> None:
    scheduler = nn.Scheduler("lr", Counter())
    assert scheduler.state_dict() == {}
    with pytest.raises(ValueError, match="state must have no names"):
        scheduler.load_state_dict({"plateau": {}})
    plateau = nn.Scheduler("lr", ReduceOnPlateau(0.5))
    with pytest.raises(ValueError, match="state must have plateau, not"):
        plateau.load_state_dict({})


def test_a_plateau_needs_its_metric() -> None:
    with pytest.raises(ValueError, match="monitor='val_loss' is not among the epoch's metrics: "
                                         "loss, lr"):
        train([nn.Scheduler("lr", ReduceOnPlateau(0.5))], EPOCHS)


def test_a_line_per_epoch_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    train([nn.LearningRateScheduler(Counter())], EPOCHS)
    assert capsys.readouterr().out == ""
    train([nn.LearningRateScheduler(Counter(), verbose=1)], EPOCHS[:2])
    assert capsys.readouterr().out == "epoch 1: lr 0\nepoch 2: lr 0.1\n"


@pytest.mark.parametrize(("name", "message"), [
    ("learning_rate", "Scheduler: SGD has no argument 'learning_rate'; did you mean 'lr'?"),
    ("q", "Scheduler: SGD has no argument 'q'; allowed: clip_norm, "),
    ("nesterov", "Scheduler: SGD has no argument 'nesterov'"),      # no number
])
def test_names_the_optimizer_lacks(name: str, message: str) -> None:
    model = Model()
    with pytest.raises(TypeError, match=re.escape(message)):
        train([nn.Scheduler(name, Counter())], EPOCHS, model)
    assert model.w[0] == 0      # before the first step


def test_a_schedule_by_steps_is_not_replaced() -> None:
    steps = Linear(0.0, 0.1, steps=10)
    with pytest.raises(ValueError, match="lr has a schedule of its own already: Linear"):
        train([nn.LearningRateScheduler(Counter())], EPOCHS, Model(lr=steps))


@pytest.mark.parametrize(("value", "message"), [
    (None, "lr at epoch 0 must be a finite number, not None"),
    (Counter(), "lr at epoch 0 must be a finite number, not <"),
    (float("nan"), "lr at epoch 0 must be a finite number, not nan"),
    (-1, "lr must be a finite number >= 0, not -1"),
])
def test_values_that_are_not_allowed(value: Any, message: str) -> None:
    model = Model(lr=0.1)
    with pytest.raises((TypeError, ValueError), match=message):
        train([nn.LearningRateScheduler(lambda epoch: value)], EPOCHS, model)
    assert (model.optimizer.lr, model.w[0]) == (0.1, 0)


PLATEAU = ReduceOnPlateau(0.5)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (("lr", 0.1), TypeError, "schedule must be a Schedule or callable, not 0.1"),
    ((1, Counter()), TypeError, "name must be that of a hyper-parameter, not 1"),
    (("lr", Counter(), 2), ValueError, "verbose must be 0 (silent) or 1 (one line), not 2"),
    (("lr", lambda: 1), TypeError, "schedule must take (epoch) or (epoch, current), not ()"),
    (("lr", lambda a, b, c: 1), TypeError, "schedule must take (epoch) or (epoch, current), not"),
    (("lr", lambda a, *, b: 1), TypeError, "schedule must take (epoch) or (epoch, current), not"),
    (("lr", Counter(), 0, "loss"), ValueError, "monitor='loss' needs a ReduceOnPlateau, not <"),
    (("lr", PLATEAU, 0, 1), TypeError, "monitor must be the name of a metric or None, not 1"),
    (("lr", PLATEAU, 0, "val_acc"), ValueError,
     "monitor='val_acc' contradicts mode='min' of the ReduceOnPlateau"),
])
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        nn.Scheduler(*arguments)
