"""Files with a line per epoch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import train

from fastmom import nn

FIGURES: list[dict[str, Any]] = [{"loss": 0.1 + 0.2, "val_acc": np.float32(0.5)},
                                 {"loss": float("nan"), "val_acc": float("-inf")}]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "new" / "log.csv"
    for _ in range(2):      # the second replaces the first
        train([nn.CSVLogger(path, separator)], FIGURES)
        assert path.read_bytes().decode() == (
            "epoch,loss,val_acc\n0,0.30000000000000004,0.5\n1,nan,-inf\n".replace(",", separator))


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    for _ in range(2):
        train([nn.JSONLogger(path)], FIGURES)
        assert [json.loads(line) for line in path.read_text().splitlines()] == [
            {"epoch": 0, "loss": 0.1 + 0.2, "val_acc": 0.5},
            {"epoch": 1, "loss": None, "val_acc": None}]
    assert "NaN" not in path.read_text()


LOGGERS = [nn.CSVLogger, nn.JSONLogger]


@pytest.mark.parametrize("logger", LOGGERS)
def test_lines_are_there_as_soon_as_their_epoch_ends(logger: Any, tmp_path: Path) -> None:
    path, seen = tmp_path / "log", []
    see = nn.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(path.read_bytes()))
    with pytest.raises(KeyboardInterrupt):
        train([logger(path), see], [*FIGURES, KeyboardInterrupt()])
    header = logger is nn.CSVLogger
    assert [text.count(b"\n") for text in seen] == [1 + header, 2 + header]
    assert all(text.endswith(b"\n") for text in seen)
    assert path.read_bytes() == seen[-1]


@pytest.mark.parametrize("logger", LOGGERS)
def test_the_file_is_open_during_training_alone(logger: Any, tmp_path: Path) -> None:
    callback = logger(tmp_path / "log")
    assert not (tmp_path / "log").exists()
    with pytest.raises(ZeroDivisionError):
        train([callback], [FIGURES[0], ZeroDivisionError()])     # type: ignore[list-item]
    assert callback._file is None


@pytest.mark.parametrize("logger", LOGGERS)
def test_appending(logger: Any, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train([logger(whole)], [*FIGURES, *FIGURES])
    train([logger(parts, append=True)], FIGURES)
    train([logger(parts, append=True)], FIGURES, first=2)
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("logger", LOGGERS)
def test_nothing_is_appended_to_a_broken_line(logger: Any, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("epoch,loss\n0,0.3")
    with pytest.raises(ValueError, match=r"the last line of .*log is not whole"):
        train([logger(path, append=True)], FIGURES)
    assert path.read_text() == "epoch,loss\n0,0.3"


@pytest.mark.parametrize(("header", "separator"), [
    ("epoch,loss", ","), ("epoch,loss,val_acc,lr", ","), ("epoch,loss,val_acc", ";")])
def test_nothing_is_appended_to_another_table(tmp_path: Path, header: str, separator: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(header + "\n")
    columns = header.replace(separator, ", ")
    with pytest.raises(ValueError, match=f"has the columns {columns}, not epoch, loss, val_acc"):
        train([nn.CSVLogger(path, separator, append=True)], FIGURES)
    assert path.read_text() == header + "\n"


def test_columns_stay_those_of_the_first_epoch(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with pytest.raises(ValueError, match="has no column lr: the first epoch had only epoch, loss"):
        train([nn.CSVLogger(path)], [{"loss": 1.0, "x": 2.0}, {"x": 3.0}, {"lr": 0.1}])
    assert path.read_text() == "epoch,loss,x\n0,1.0,2.0\n1,,3.0\n"


def test_columns_may_come_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("x,loss,epoch\n")
    train([nn.CSVLogger(path, append=True)], [{"loss": 1.0, "x": 2.0}])
    assert path.read_text() == "x,loss,epoch\n2.0,1.0,0\n"


@pytest.mark.parametrize(("logger", "arguments", "error", "message"), [
    *((nn.CSVLogger, {"separator": s}, ValueError, "separator must be one character, no quote")
      for s in ("", ", ", "\n", '"', 1)),
    *((logger, {"append": 1}, TypeError, "append must be True or False, not 1")
      for logger in LOGGERS),
])
def test_wrong_arguments(tmp_path: Path, logger: Any, arguments: Any, error: type[Exception],
                         message: str) -> None:
    with pytest.raises(error, match=message):
        logger(tmp_path / "log", **arguments)


def test_json_takes_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log"
    train([nn.JSONLogger(path)], [{"count": np.int64(3)}])
    assert path.read_text() == '{"epoch": 0, "count": 3}\n'
    with pytest.raises(TypeError, match=re.escape("metric 'matrix' must be a number, not [1.0]")):
        train([nn.JSONLogger(path)], [{"matrix": [1.0]}])
