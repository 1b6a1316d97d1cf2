"""Who is told what during `fit`, and what is printed."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import numpy as np
import pytest

from fastmom import nn


class Log(nn.Callback):
    """Notes every call; stops the run at a batch if asked to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.stop_at = stop_at

    def on_epoch_begin(self, epoch: int, epochs: int, steps: int) -> None:
        self.calls.append(("begin", epoch, epochs, steps))

    def on_batch_end(self, step: int, logs: dict[str, float]) -> None:
        self.calls.append(("batch", step, logs))
        if step == self.stop_at:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.calls.append(("end", epoch, logs))

    def on_train_end(self) -> None:
        self.calls.append(("over",))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_calls_in_order_with_the_figures_so_far(make: Any, problem: Any) -> None:
    (x, y), logs = problem(20), [Log(), Log()]
    history = make().fit(x, y, epochs=2, batch_size=8, callbacks=logs, validation_data=(x, y))
    assert logs[0].calls == logs[1].calls
    assert [call[:2] for call in logs[0].calls] == [
        ("begin", 0), ("batch", 0), ("batch", 1), ("batch", 2), ("end", 0),
        ("begin", 1), ("batch", 0), ("batch", 1), ("batch", 2), ("end", 1), ("over",)]
    assert logs[0].calls[0] == ("begin", 0, 2, 3)
    last, end = logs[0].calls[-3][2], logs[0].calls[-2][2]
    assert set(last) == {"loss", "accuracy"}
    assert last == {name: end[name] for name in last}       # after the last batch: the epoch's
    assert end == {name: values[-1] for name, values in history.history.items()}
    assert history.epoch == [0, 1]


def test_an_interrupted_run_ends_for_its_callbacks(make: Any, problem: Any) -> None:
    (x, y), log, model = problem(20), Log(stop_at=1), make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, callbacks=[log])
    assert [call[0] for call in log.calls] == ["begin", "batch", "batch", "over"]
    assert model.optimizer.iterations == 2
    assert len(model.fit(x, y).history["loss"]) == 1        # and the model goes on


def test_progress_prints_a_line_per_epoch(make: Any, problem: Any) -> None:
    (x, y), stream = problem(20), io.StringIO()
    history = make().fit(x, y, epochs=10, validation_data=(x, y), callbacks=[nn.Progress(stream)])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    for i, line in enumerate(lines):
        loss, accuracy, val_loss, val_accuracy, seconds = (
            history.history[name][i]
            for name in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds"))
        assert line == (f"epoch {i + 1:2}/10  loss {loss:.4f}  accuracy {accuracy:.4f}  val loss "
                        f"{val_loss:.4f}  val accuracy {val_accuracy:.4f}  {seconds:.2f} s")


def test_progress_shows_a_bar_on_a_terminal(make: Any, problem: Any) -> None:
    pytest.importorskip("tqdm")
    (x, y), stream = problem(20), Terminal()
    make().fit(x, y, epochs=2, batch_size=8, callbacks=[nn.Progress(stream)])
    bars, *_, last = stream.getvalue().split("\r")
    assert "epoch 1/2" in stream.getvalue()
    assert "0/3" in stream.getvalue()
    assert re.fullmatch(r"epoch 2/2  loss .* s\n", last)    # the bar is gone
    assert bars == ""


def test_an_interrupted_bar_is_gone(make: Any, problem: Any) -> None:
    pytest.importorskip("tqdm")
    (x, y), stream = problem(20), Terminal()
    progress = nn.Progress(stream)      # not left to the garbage collector
    with pytest.raises(KeyboardInterrupt):
        make().fit(x, y, batch_size=8, callbacks=[progress, Log(stop_at=1)])
    assert re.search(r"epoch 1/1.*\r +\r$", stream.getvalue())


def test_progress_without_tqdm(make: Any, problem: Any, monkeypatch: pytest.MonkeyPatch,
                               state: Any) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    (x, y), model = problem(20), make()
    before = state(model)
    with pytest.raises(ImportError, match=r'needs tqdm: pip install "fastmom\[cli\]"'):
        model.fit(x, y, callbacks=[nn.Progress(Terminal())])
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(x, y, callbacks=[nn.Progress(io.StringIO())])     # no bar, no need for it


def test_progress_prints_to_stdout(make: Any, problem: Any,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    make().fit(*problem(20), callbacks=[nn.Progress()])
    assert capsys.readouterr().out.startswith("epoch 1/1  loss ")
