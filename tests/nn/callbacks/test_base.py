"""The hooks of `fit`, in which order they are called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import Model, train

from fastmom import nn
from fastmom.nn.callbacks import CallbackList, overrides, validate
from fastmom.optim.schedules import ReduceOnPlateau


class Log(nn.Callback):
    """Notes every call; stops the run at a batch if asked to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.stop_at = stop_at

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append(("start", logs))

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append(("over", logs))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("begin", epoch))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("step", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch", batch, logs))
        if batch == self.stop_at:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("end", epoch, logs))


def test_calls_in_order_with_the_metrics_so_far(make: Any, problem: Any) -> None:
    (x, y), logs, model = problem(20), [Log(), Log()], make()
    history = model.fit(x, y, epochs=2, batch_size=8, callbacks=logs, validation_data=(x, y))
    assert logs[0].calls == logs[1].calls
    steps = [("step", 0), ("batch", 0), ("step", 1), ("batch", 1), ("step", 2), ("batch", 2)]
    last, end = logs[0].calls[-3][2], logs[0].calls[-2][2]
    assert [call[:2] for call in logs[0].calls] == [
        ("start", None), ("begin", 0), *steps, ("end", 0), ("begin", 1), *steps, ("end", 1),
        ("over", end)]
    assert set(last) == {"loss", "accuracy"}
    assert end.pop("seconds") == history.seconds[-1] > 0    # that is no metric of the model
    assert last == {name: end[name] for name in last}       # after the last batch: the epoch's
    assert end == {name: values[-1] for name, values in history.history.items()}
    assert history.epoch == [0, 1]
    for callback in (*logs, history):
        assert callback.model is model
        assert (callback.params["epochs"], callback.params["steps"]) == (2, 3)


def test_an_interrupted_run_ends_for_its_callbacks(make: Any, problem: Any) -> None:
    (x, y), log, model = problem(20), Log(stop_at=1), make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, callbacks=[log])
    assert [call[0] for call in log.calls] == ["start", "begin", "step", "batch", "step", "batch",
                                               "over"]
    assert model.optimizer.iterations == 2
    assert len(model.fit(x, y).history["loss"]) == 1        # and the model goes on


@pytest.mark.parametrize(("hook", "at", "steps", "epochs"), [
    ("on_train_batch_end", 0, 1, 0), ("on_train_batch_end", 1, 2, 0),
    ("on_train_batch_end", 2, 3, 1),        # after the last step: the epoch is whole
    ("on_epoch_end", 0, 3, 1), ("on_epoch_end", 1, 6, 2)])
def test_a_callback_stops_the_training_after_a_step_or_an_epoch(
        hook: str, at: int, steps: int, epochs: int, make: Any, problem: Any) -> None:
    log, model = Log(), make()

    def stop(number: int, logs: Any) -> None:
        model.stop_training = number == at
    callbacks = [log, nn.LambdaCallback(**{hook: stop})]
    history = model.fit(*problem(20), batch_size=8, epochs=9, callbacks=callbacks)
    assert history.epoch == list(range(epochs))
    assert [call[0] for call in log.calls].count("batch") == model.optimizer.iterations == steps
    assert [call[0] for call in log.calls].count("end") == model.epoch == epochs
    assert model.fit(*problem(20), epochs=2).epoch == [0, 1]


def fail(message: str) -> Any:
    def hook(*args: Any) -> None:
        raise RuntimeError(message)
    return hook


@pytest.mark.parametrize(("hook", "ended"), [
    ("on_train_begin", "ab"), ("on_epoch_begin", "abc"), ("on_epoch_end", "abc"),
    ("on_train_batch_end", "abc"), ("on_train_end", "abc")])
def test_whoever_has_begun_is_told_of_the_end(hook: str, ended: str) -> None:
    told = ""

    def tell(name: str) -> Any:
        def end(logs: Any) -> None:
            nonlocal told
            told += name
        return end
    callbacks = [nn.LambdaCallback(on_train_end=tell(name)) for name in "abc"]
    callbacks.insert(2, nn.LambdaCallback(**{hook: fail("broken")}))
    with pytest.raises(RuntimeError, match="broken"):
        train(callbacks, [{"loss": 1.0}])
    assert told == ended


def test_an_error_at_the_end_does_not_hide_the_first() -> None:
    broken = nn.LambdaCallback(on_train_end=fail("at the end"))
    with pytest.raises(RuntimeError, match="at the end") as caught:
        train([broken], [OSError("in training")])       # type: ignore[list-item]
    context = caught.value.__context__
    assert isinstance(context, OSError)


def test_later_callbacks_have_the_metrics_added_by_earlier_ones() -> None:
    add = nn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=epoch))
    assert train([add], [{"loss": 1.0}] * 2).history == {"loss": [1.0, 1.0], "extra": [0, 1]}


class OnlyEpochs(nn.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pass


HOOKED: list[tuple[nn.Callback, set[str]]] = [
    (nn.Callback(), set()),
    (OnlyEpochs(), {"on_epoch_end"}),
    (nn.LambdaCallback(on_train_batch_begin=print), {"on_train_batch_begin"}),
    (nn.LambdaCallback(on_train_batch_end=OnlyEpochs().on_epoch_end), {"on_train_batch_end"}),
    (nn.History(), {"on_train_begin", "on_epoch_end"}),
]


@pytest.mark.parametrize(("callback", "hooks"), HOOKED)
def test_which_hooks_are_overridden(callback: nn.Callback, hooks: set[str]) -> None:
    assert {name for name in dir(callback)
            if name.startswith("on_") and overrides(callback, name)} == hooks
    run = CallbackList([callback], Model(), {})
    assert run.wants_batches == run.wants_batch_logs == ("on_train_batch_end" in hooks)


def test_logs_of_a_batch_are_made_if_they_are_read(make: Any, problem: Any) -> None:
    stop, logs = nn.TerminateOnNaN(), list[Any]()
    assert not CallbackList([stop], make(), {}).wants_batch_logs
    note = nn.LambdaCallback(on_train_batch_end=lambda batch, given: logs.append(given))
    make().fit(*problem(20), batch_size=8, callbacks=[stop, note])
    assert [set(given) for given in logs] == 3 * [{"loss", "accuracy"}]


def test_a_hook_nobody_would_call_is_refused() -> None:
    message = "is no hook; there are on_train_begin, on_train_end, on_epoch_begin, "
    with pytest.raises(TypeError, match=f"Old: on_batch_end {message}"):
        type("Old", (nn.Callback,), {"on_batch_end": print})
    with pytest.raises(TypeError, match=f"LambdaCallback: on_epoch_ends {message}"):
        nn.LambdaCallback(on_epoch_ends=print)
    with pytest.raises(TypeError, match="on_epoch_end must be callable, not 3"):
        nn.LambdaCallback(on_epoch_end=3)       # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "message"), [
    (None, "callbacks must be a list of Callback objects, not None"),
    (nn.Callback(), "callbacks must be a list of Callback objects, not Callback()"),
    ([nn.Callback(), print], "callbacks[1] must be a Callback object, not <built-in function"),
    ((nn.Progress,), "callbacks[0] must be a Callback object, not <class"),
])
def test_what_is_no_list_of_callbacks(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        validate(given)
    entries = (nn.Callback(), nn.History())
    assert validate(entries) == list(entries)


def test_state_of_a_callback_without_any() -> None:
    nn.Callback().load_state_dict(nn.Callback().state_dict())
    with pytest.raises(ValueError, match="state must have no names"):
        nn.Callback().load_state_dict({"best": 1})


# Metrics that a callback cannot work without ------------------------------------------------------

ADD = nn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_f1=0.5))
HALVE = nn.Scheduler("lr", lambda epoch, current: current / 2)
PLATEAU = ReduceOnPlateau(0.1)

# callbacks without validation data, and what the message says
LACKING: list[tuple[list[nn.Callback], str]] = [
    ([nn.EarlyStopping()], "EarlyStopping() needs the metric 'val_loss', and this training has "
                           "loss, accuracy, seconds; val_ metrics need validation_data or "),
    ([nn.EarlyStopping("acurracy", mode="max")], "EarlyStopping(monitor='acurracy', mode='max')"),
    ([nn.ReduceLROnPlateau(patience=3)], "ReduceLROnPlateau(patience=3) needs the metric"),
    ([nn.ModelCheckpoint("m.npz", save_best_only=True)], "needs the metric 'val_loss'"),
    ([nn.ModelCheckpoint("{epoch}-{vall_oss:.2f}.npz")], "needs the metric 'vall_oss'"),
    ([nn.ModelCheckpoint("{lr}.npz"), HALVE], "needs the metric 'lr'"),     # it comes too late
    ([nn.Scheduler("lr", PLATEAU)], "Scheduler(name='lr', schedule=ReduceOnPlateau("),
    ([nn.CSVLogger("a.csv"), nn.Progress(), nn.EarlyStopping()], "needs the metric 'val_loss'"),
]


@pytest.mark.parametrize(("callbacks", "message"), LACKING, ids=lambda row: str(row)[:60])
def test_a_metric_that_will_be_missing(callbacks: list[nn.Callback], message: str, make: Any,
                                       problem: Any, state: Any, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (x, y), model = problem(20), make()
    before = state(model)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(x, y, callbacks=callbacks)
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("callbacks", [
    [nn.EarlyStopping("loss")], [nn.EarlyStopping("acc")], [HALVE, nn.ModelCheckpoint("{lr}.npz")],
    [nn.ModelCheckpoint("{epoch:02d}-{loss:.2f}-{acc}-{seconds:.0f}.npz")],
    [ADD, nn.EarlyStopping("val_f1")],      # whatever a callback of the user's may add
])
def test_a_metric_that_will_be_there(callbacks: list[nn.Callback], make: Any, problem: Any,
                                     tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert make().fit(*problem(20), callbacks=callbacks).epoch == [0]


@pytest.mark.parametrize("validation", ["val", "test"])
def test_validation_data_by_name(validation: str, make: Any, problem: Any) -> None:
    (x, y), other = problem(20), problem(30, seed=1)
    plain = make().fit(x, y, validation_data=other).history
    named = make().fit(x, y, validation_data={validation: other},
                       callbacks=[nn.EarlyStopping(f"{validation}_accuracy")]).history
    assert named == {name.replace("val", validation): plain[name] for name in plain}
    with pytest.raises(ValueError, match=r"validation_data must have words as keys, not 'a b'"):
        make().fit(x, y, validation_data={"a b": other})
    with pytest.raises(ValueError, match=r"validation_data\['test'\]: "):
        make().fit(x, y, validation_data={"test": (x, y[:3])})


# Representations ----------------------------------------------------------------------------------

REPRESENTATIONS: list[tuple[nn.Callback, str]] = [
    (nn.Callback(), "Callback()"),
    (Log(), "Log()"),
    (Log(3), "Log(stop_at=3)"),
    (nn.EarlyStopping(patience=3), "EarlyStopping(patience=3)"),
    (nn.ModelCheckpoint(Path("{loss}.npz"), keep=2), "ModelCheckpoint(path='{loss}.npz', keep=2)"),
    (nn.CSVLogger(Path("a.csv"), ";"), "CSVLogger(path='a.csv', separator=';')"),
    (nn.JSONLogger("a", append=True), "JSONLogger(path='a', append=True)"),
    (nn.Progress(verbose=2), "Progress(verbose=2)"),
    (nn.TerminateOnNaN(), "TerminateOnNaN()"),
    (nn.TerminateOnNaN(10), "TerminateOnNaN(limit=10.0)"),
    (nn.ReduceLROnPlateau("loss", 0.5), "ReduceLROnPlateau(monitor='loss', factor=0.5)"),
    (nn.MomentumScheduler(abs), "MomentumScheduler(schedule=<built-in function abs>)"),
    (nn.LambdaCallback(on_epoch_end=print, on_train_end=dict), "LambdaCallback(on_epoch_end=print, "
                                                               "on_train_end=dict)"),
]


@pytest.mark.parametrize(("callback", "shown"), REPRESENTATIONS, ids=lambda row: str(row)[:40])
def test_repr(callback: nn.Callback, shown: str) -> None:
    assert repr(callback) == shown
