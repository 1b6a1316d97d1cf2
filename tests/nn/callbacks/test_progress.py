"""The lines and the bar of `fit`."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import numpy as np
import pytest

from fastmom import nn
from fastmom.nn.callbacks import metrics_line, overrides


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_a_line_per_epoch(make: Any, problem: Any, verbose: Any) -> None:
    (x, y), stream = problem(20), io.StringIO()
    history = make().fit(x, y, epochs=10, validation_data=(x, y),
                         callbacks=[nn.Progress(stream, verbose)])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    for i, line in enumerate(lines):
        loss, accuracy, val_loss, val_accuracy = (
            history.history[name][i]
            for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
        assert line == (f"epoch {i + 1:2}/10  loss {loss:.4f}  accuracy {accuracy:.4f}  "
                        f"val loss {val_loss:.4f}  val accuracy {val_accuracy:.4f}  "
                        f"{history.seconds[i]:.2f} s")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_silence(make: Any, problem: Any, stream: Any, capsys: Any) -> None:
    out = stream()
    make().fit(*problem(20), epochs=2, verbose=0, callbacks=[nn.Progress(out, verbose=0)])
    assert out.getvalue() == capsys.readouterr().out == ""


@pytest.mark.parametrize("verbose", ["auto", 1])
def test_a_bar_on_a_terminal(make: Any, problem: Any, verbose: Any) -> None:
    pytest.importorskip("tqdm")
    (x, y), stream = problem(20), Terminal()
    make().fit(x, y, epochs=2, batch_size=8, callbacks=[nn.Progress(stream, verbose)])
    bars, *_, last = stream.getvalue().split("\r")
    assert "epoch 1/2" in stream.getvalue()
    assert "0/3" in stream.getvalue()
    assert re.search(r"1/3 .*loss \d\.\d{4}  accuracy \d\.\d{4}", stream.getvalue())
    assert re.fullmatch(r"epoch 2/2  loss .* s\n", last)    # the bar is gone
    assert bars == ""


def test_the_bar_is_not_drawn_for_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    now, stream = 100.0, Terminal()
    monkeypatch.setattr("fastmom.nn.callbacks.progress.time.monotonic", lambda: now)
    progress = nn.Progress(stream)
    progress.set_params({"epochs": 1, "steps": 1000})
    progress.on_epoch_begin(0)
    drawn = []
    for batch in range(1000):
        now += 0.001
        before = stream.tell()
        progress.on_train_batch_end(batch, {"loss": 0.5})
        if stream.tell() > before:
            drawn.append(batch)
    progress.on_train_end()
    assert drawn[0] == 0
    assert 15 <= len(drawn) <= 21
    assert f"{drawn[-1] + 1}/1000" in stream.getvalue()


def test_an_interrupted_bar_is_gone(make: Any, problem: Any) -> None:
    pytest.importorskip("tqdm")
    (x, y), stream = problem(20), Terminal()

    def interrupt(batch: int, logs: Any) -> None:
        raise KeyboardInterrupt
    progress = nn.Progress(stream)      # not left to the garbage collector
    with pytest.raises(KeyboardInterrupt):
        make().fit(x, y, batch_size=8, callbacks=[
            progress, nn.LambdaCallback(on_train_batch_end=interrupt)])
    assert re.search(r"epoch 1/1.*\r +\r$", stream.getvalue())


def test_without_tqdm(make: Any, problem: Any, monkeypatch: pytest.MonkeyPatch,
                      state: Any) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    (x, y), model, out = problem(20), make(), Terminal()
    before = state(model)
    with pytest.raises(ImportError, match="progress bars need tqdm: pip install tqdm"):
        model.fit(x, y, callbacks=[nn.Progress(out, verbose=1)])
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(x, y, callbacks=[nn.Progress(io.StringIO(), verbose=1)])      # no bar, no need for it
    assert out.getvalue() == ""
    model.fit(x, y, callbacks=[nn.Progress(out)])
    assert re.fullmatch(r"epoch 1/1  loss .* s\n", out.getvalue())


def test_batches_cost_nothing_where_there_is_no_bar() -> None:
    pytest.importorskip("tqdm")
    for stream, verbose, wanted in ((Terminal(), 1, True), (Terminal(), "auto", True),
                                    (Terminal(), 2, False), (Terminal(), 0, False),
                                    (io.StringIO(), 1, False)):
        progress = nn.Progress(stream, verbose)
        progress.set_params({"epochs": 1, "steps": 1})
        assert overrides(progress, "on_train_batch_end") == wanted


def test_the_default_is_stdout_at_the_time(make: Any, problem: Any,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    progress, out = nn.Progress(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    make().fit(*problem(20), callbacks=[progress])
    assert out.getvalue().startswith("epoch 1/1  loss ")


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"verbose": 3}, ValueError, "verbose must be 'auto', 0, 1 or 2, not 3"),
    ({"verbose": True}, ValueError, "verbose must be 'auto', 0, 1 or 2, not True"),
    ({"verbose": "2"}, ValueError, "verbose must be 'auto', 0, 1 or 2, not '2'"),
    ({"stream": "log.txt"}, TypeError, "stream must be a text file or None, not 'log.txt'"),
])
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nn.Progress(**arguments)


@pytest.mark.parametrize(("value", "text"), [
    (0.5, "0.5000"), (12, "12.0000"), (0.0, "0.0000"), (-2e-5, "-2e-05"), (0.001, "0.0010"),
    (np.float32(0.25), "0.2500"), (float("nan"), "nan"), (float("inf"), "inf"), ("warm", "warm")])
def test_numbers(value: Any, text: str) -> None:
    assert metrics_line({"val_x": value}) == f"val x {text}"
