"""When training is ended, and with which weights."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from training import Model, train

from fastmom import nn

NAN, INF = float("nan"), float("inf")


def losses(*values: float, name: str = "val_loss") -> list[dict[str, Any]]:
    return [{"loss": 0.0, name: value} for value in values]


# values, arguments, epochs trained, best epoch, stopped epoch (0: not)
COURSES: list[tuple[list[float], dict[str, Any], int, int | None, int]] = [
    ([3, 2, 1], {}, 3, 2, 0),
    ([3, 2, 2, 1], {}, 3, 1, 2),                        # equal does not improve
    ([3, 2, 2, 1], {"patience": 1}, 3, 1, 2),           # as in Keras, 1 is 0
    ([3, 2, 2, 1], {"patience": 2}, 4, 3, 0),
    ([1, 2, 3, 4, 5], {"patience": 3}, 4, 0, 3),
    ([3, 4, 2, 4, 4, 1], {"patience": 2}, 5, 2, 4),     # patience starts anew
    ([3, 2.5, 2.1, 2.0], {"min_delta": 0.5}, 2, 0, 1),  # 0.5 is not more than 0.5
    ([3, 2.5, 2.1, 2.0], {"min_delta": 0.5, "patience": 2}, 4, 2, 0),
    ([NAN, NAN, NAN], {}, 2, None, 1),
    ([NAN, 2, NAN, 1], {"patience": 2}, 4, 3, 0),
    ([3, NAN, 1], {}, 2, 0, 1),
    ([3, -INF, 1], {}, 2, 0, 1),
    ([1, 2], {"mode": "max"}, 2, 1, 0),
    ([2, 1], {"mode": "max"}, 2, 0, 1),
    ([1, 2, 3, 2, 3], {"start_from_epoch": 2}, 5, 3, 4),
    ([9, 8, 7, 6], {"baseline": 5, "patience": 2}, 4, 3, 0),        # none is without improvement
    ([9, 8, 8, 6], {"baseline": 5, "patience": 2}, 3, 1, 2),
    ([9, 4, 4, 4], {"baseline": 5, "patience": 2}, 4, 1, 3),        # below: patience starts anew
]


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize(("values", "arguments", "epochs", "best", "stopped"), COURSES)
def test_courses(values: list[float], arguments: dict[str, Any], epochs: int, best: int | None,
                 stopped: int, restore: bool) -> None:
    stopping = nn.EarlyStopping(**arguments, restore_best_weights=restore)
    for _ in range(2):      # it can be used again
        model = Model()
        assert len(train([stopping], losses(*values), model).epoch) == epochs
        assert (stopping.best_epoch, stopping.stopped_epoch) == (best, stopped)
        assert stopping.best == (None if best is None else values[best])
        assert model.w[0] == (best + 1 if restore and best is not None else epochs)


@pytest.mark.parametrize(("name", "mode"), [
    ("loss", "min"), ("val_loss", "min"), ("mse", "min"), ("val_mean_absolute_error", "min"),
    ("sparse_categorical_crossentropy", "min"), ("acc", "max"), ("val_accuracy", "max"),
    ("auc", "max"), ("val_precision", "max")])
def test_the_name_tells_the_mode(name: str, mode: str) -> None:
    stopping = nn.EarlyStopping(name, patience=9)
    train([stopping], losses(1, 2, 0, name=name))
    assert stopping.best_epoch == {"min": 2, "max": 1}[mode]


@pytest.mark.parametrize("name", ["lr", "distance", "accuracy_loss"])
def test_a_name_that_does_not_tell_the_mode(name: str) -> None:
    for callback in (nn.EarlyStopping, lambda monitor: nn.ModelCheckpoint("m.npz", monitor, True)):
        with pytest.raises(ValueError, match=f"mode='auto' cannot tell from monitor='{name}'"):
            callback(monitor=name)


def test_the_old_name_of_accuracy() -> None:
    stopping = nn.EarlyStopping("val_acc", patience=9)
    train([stopping], losses(1, 2, 0, name="val_accuracy"))
    assert stopping.best == 2


def test_a_metric_that_is_missing() -> None:
    message = "monitor='val_loss' is not among the epoch's metrics: loss, acc"
    with pytest.raises(ValueError, match=message):
        train([nn.EarlyStopping(start_from_epoch=5)], losses(1, name="acc"))


def test_an_interrupted_training_ends_with_the_best_weights_too() -> None:
    model, stopping = Model(), nn.EarlyStopping(patience=5)
    with pytest.raises(KeyboardInterrupt):
        train([stopping], [*losses(3, 1, 2), KeyboardInterrupt()], model)   # type: ignore[list-item]
    assert model.w[0] == 2


def test_weights_of_a_real_model(make: Any, problem: Any) -> None:
    (x, y), model, seen = problem(30), make(lr=0.5, momentum=0.9), []
    stopping = nn.EarlyStopping("loss", patience=2, mode="max")     # rising losses: none
    note = nn.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(model.get_weights()))
    history = model.fit(x, y, epochs=20, callbacks=[stopping, note])
    assert len(seen) == stopping.stopped_epoch + 1 < 20
    assert stopping.best == max(history.history["loss"])
    for mine, best, last in zip(model.params, seen[stopping.best_epoch or 0], seen[-1],
                                strict=True):
        np.testing.assert_array_equal(mine, best)
        assert (mine != last).any()


def test_going_on_from_a_state() -> None:
    values = losses(3, 2, 4, 4, 4, 1)
    whole = nn.EarlyStopping(patience=3)
    train([whole], values)
    assert (whole.stopped_epoch, whole.best_epoch) == (4, 1)
    for cut in range(1, 5):
        first, second, model = nn.EarlyStopping(patience=3), nn.EarlyStopping(patience=3), Model()
        train([first], values[:cut])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        train([second], values[cut:], model, first=cut)
        assert second.state_dict() == whole.state_dict()
        # the best weights of before are not part of the state: the last ones stay
        assert model.w[0] == (1 if cut == 1 else 5 - cut)
        train([second], values)         # the next training starts anew
        assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(("change", "message"), [
    ({"best": "low"}, "state['best'] must be a finite number, not 'low'"),
    ({"best_epoch": -1}, "state['best_epoch'] must be an integer >= 0, not -1"),
    ({"wait": None}, "state['wait'] must be an integer >= 0, not None"),
    ({"more": 1}, "state must have best, best_epoch, wait, stopped_epoch, not {"),
])
def test_a_wrong_state_changes_nothing(change: dict[str, Any], message: str) -> None:
    stopping = nn.EarlyStopping()
    train([stopping], losses(3, 2, 4))
    before = stopping.state_dict()
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        stopping.load_state_dict({**before, **change})
    assert stopping.state_dict() == before


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"monitor": None}, TypeError, "monitor must be the name of a metric, not None"),
    ({"mode": "low"}, ValueError, "mode must be 'auto', 'min' or 'max', not 'low'"),
    ({"min_delta": -1}, ValueError, "min_delta must be a finite number >= 0, not -1"),
    ({"patience": 1.5}, TypeError, "patience must be an integer >= 0, not 1.5"),
    ({"patience": -1}, ValueError, "patience must be an integer >= 0, not -1"),
    ({"baseline": NAN}, ValueError, "baseline must be a finite number, not nan"),
    ({"restore_best_weights": 1}, TypeError, "restore_best_weights must be True or False, not 1"),
    ({"start_from_epoch": -1}, ValueError, "start_from_epoch must be an integer >= 0, not -1"),
])
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nn.EarlyStopping(**arguments)


# TerminateOnNaN -----------------------------------------------------------------------------------

class Losses(Model):
    """A model with given losses of its steps, one step per epoch."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values, self.batch_losses = values, list[float]()


def run(stop: nn.TerminateOnNaN, values: list[float]) -> int:
    """Train with these losses; return the number of steps."""
    model = Losses(values)
    feed = nn.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: model.batch_losses.append(values[int(model.w[0])]))
    train([feed, stop], losses(*values, name="loss"), model)
    return int(model.w[0])


# losses of the steps, limit, and the step from 0 at which the training has diverged
DIVERGING: list[tuple[list[float], float, int | None]] = [
    ([2, 1, 3], 1e6, None),
    ([2, NAN, 3], 1e6, 1),
    ([NAN, 3], 1e6, 0),
    ([INF, 3], INF, 0),
    ([2, 2e6, 3], 1e6, None),               # just the limit
    ([2, 2.1e6, 3], 1e6, 1),
    ([2, 1e30, 3], INF, None),
    ([2, 1e30, INF], INF, 2),
    ([2, 21, 3], 10, 1),
    ([1e12, 1e17, 1e19], 1e6, 2),           # of large targets: relative to the first loss
    ([0, 0, 1e12, 1e19], 1e6, 3),           # and not to one of 0, as of samples without weight
    ([-1, -50, -1e9], 1e6, None),           # a loss of one's own may be negative
]


@pytest.mark.parametrize(("values", "limit", "step"), DIVERGING, ids=str)
def test_a_loss_that_blows_up(values: list[float], limit: float, step: int | None,
                              capsys: pytest.CaptureFixture[str]) -> None:
    stop = nn.TerminateOnNaN(limit)
    for _ in range(2):      # it can be used again
        assert run(stop, values) == (len(values) if step is None else step + 1)
        assert stop.diverged == (None if step is None else (step, 0))
        assert capsys.readouterr().out == ("" if step is None else
            f"diverged at epoch {step + 1}, step 1: lower momentum or lr\n")


def test_a_training_that_diverges_ends_at_that_step(make: Any, problem: Any,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    (x, _), stop, ended = problem(64), nn.TerminateOnNaN(), list[int]()
    model = make([nn.Flatten(input_shape=x.shape[1:]), nn.Dense(3)], lr=1e10,
                 loss="mse", metrics=[])
    note = nn.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    target = np.ones((64, 3), np.float32)
    history = model.fit(x, target, batch_size=8, epochs=5, callbacks=[stop, note])
    assert history.epoch == ended == []     # nothing is saved of the broken epoch
    assert len(model.batch_losses) == model.optimizer.iterations == 2
    out = capsys.readouterr().out
    assert out == "diverged at epoch 1, step 2: lower momentum or lr\n"


def test_without_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    stop = nn.TerminateOnNaN(verbose=0)
    assert run(stop, [1, NAN, 1]) == 2
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match=r"verbose must be 0 \(silent\) or 1 \(one line\), not 2"):
        nn.TerminateOnNaN(verbose=2)


@pytest.mark.parametrize(("limit", "error"), [(1.0, ValueError), (NAN, ValueError),
                                              (-INF, ValueError), ("1", TypeError)])
def test_wrong_limits(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="limit must be a finite number > 1, not "):
        nn.TerminateOnNaN(limit)
