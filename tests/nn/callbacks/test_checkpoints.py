"""Which files are written while a model trains, and which are deleted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import Model, train

from fastmom import nn

LOSSES = [{"loss": 9.0, "val_loss": loss} for loss in (3.0, 2.0, float("nan"), 2.5, 1.0)]


def files(directory: Path) -> dict[str, str]:
    """Name and content: the weight of the model, that is the epoch from 1."""
    return {file.name: file.read_text() for file in directory.iterdir()}


WRITTEN: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("m.npz", {}, {"m.npz": "5.0"}),
    ("{epoch:02d}.npz", {}, {f"0{i}.npz": f"{i}.0" for i in range(1, 6)}),
    ("{epoch}-{val_loss:.2f}.npz", {"keep": 2}, {"4-2.50.npz": "4.0", "5-1.00.npz": "5.0"}),
    ("{epoch}.npz", {"keep": 9}, {f"{i}.npz": f"{i}.0" for i in range(1, 6)}),
    ("{epoch}.npz", {"save_best_only": True}, {f"{i}.npz": f"{i}.0" for i in (1, 2, 5)}),
    ("{epoch}.npz", {"save_best_only": True, "keep": 1}, {"5.npz": "5.0"}),
    ("{epoch}.npz", {"save_best_only": True, "mode": "max"}, {"1.npz": "1.0"}),
    ("{epoch}.npz", {"save_best_only": True, "monitor": "loss"}, {"1.npz": "1.0"}),
    ("{loss:.0f}.npz", {"keep": 1}, {"9.npz": "5.0"}),      # one file, written again and again
]


@pytest.mark.parametrize(("path", "arguments", "expected"), WRITTEN)
def test_files(tmp_path: Path, path: str, arguments: dict[str, Any],
               expected: dict[str, str]) -> None:
    checkpoint = nn.ModelCheckpoint(tmp_path / path, **arguments)
    train([checkpoint], LOSSES)
    assert files(tmp_path) == expected
    assert sorted(checkpoint.written) == [str(tmp_path / name) for name in sorted(expected)]


def test_only_its_own_files_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "0.npz").write_text("other")
    checkpoint = nn.ModelCheckpoint(tmp_path / "{epoch}.npz", keep=1)
    gone = nn.LambdaCallback(on_epoch_begin=lambda epoch, logs:
                             (tmp_path / f"{epoch}.npz").unlink() if epoch == 2 else None)
    train([checkpoint, gone], LOSSES)       # nor does it need them
    assert files(tmp_path) == {"0.npz": "other", "5.npz": "5.0"}


def test_a_file_that_was_replaced_is_not_deleted(tmp_path: Path) -> None:
    def replace(epoch: int, logs: Any) -> None:
        if epoch == 1:
            (tmp_path / "1.npz").write_text("the user's own")
    checkpoint = nn.ModelCheckpoint(tmp_path / "{epoch}.npz", keep=1)
    train([checkpoint, nn.LambdaCallback(on_epoch_begin=replace)], LOSSES)
    assert files(tmp_path) == {"1.npz": "the user's own", "5.npz": "5.0"}


@pytest.mark.parametrize("loaded", [True, False], ids=["from a state", "adopted"])
def test_a_resumed_training_deletes_the_files_of_the_one_before(
        loaded: bool, tmp_path: Path) -> None:
    """And no other: neither what was replaced meanwhile nor what others have written."""
    first, second = (nn.ModelCheckpoint(tmp_path / "{epoch}.npz", keep=2) for _ in range(2))
    (tmp_path / "0.npz").write_text("other")
    train([first], LOSSES[:3])
    assert sorted(files(tmp_path)) == ["0.npz", "2.npz", "3.npz"]
    if loaded:
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    else:
        second.adopt(tmp_path / "3.npz")
    (tmp_path / "2.npz").write_text("the user's own")
    train([second], LOSSES[3:], first=3)
    assert files(tmp_path) == {"0.npz": "other", "2.npz": "the user's own", "4.npz": "1.0",
                               "5.npz": "2.0"}


@pytest.mark.parametrize("name", ["best.npz", "x/1-.npz", "../1-.npz", ".1-.npz"])
def test_a_state_cannot_make_it_delete_what_it_would_not_write(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "a"
    (directory / "x").mkdir(parents=True)
    (directory / name).write_text("other")
    status = (directory / name).stat()
    checkpoint = nn.ModelCheckpoint(directory / "{epoch}-.npz", keep=1)
    entry = [str(directory / name), status.st_size, status.st_mtime_ns]
    checkpoint.load_state_dict({"best": None, "written": [entry]})
    train([checkpoint], LOSSES)
    assert (directory / name).exists()


def test_extra(tmp_path: Path) -> None:
    class WithExtra(Model):
        def save(self, path: str, extra: Any = None) -> None:
            Path(path).write_text(str(extra))
    numbers = iter(range(9))
    train([nn.ModelCheckpoint(tmp_path / "{epoch}.npz", keep=2, extra=lambda: next(numbers))],
          LOSSES, WithExtra())
    assert files(tmp_path) == {"4.npz": "3", "5.npz": "4"}


def test_nothing_is_deleted_before_the_new_file_is_written(tmp_path: Path) -> None:
    class Full(Model):
        def save(self, path: str) -> None:
            if self.w[0] == 2:
                raise OSError("no space left")
            super().save(path)
    checkpoint = nn.ModelCheckpoint(tmp_path / "{epoch}.npz", save_best_only=True, keep=1)
    with pytest.raises(OSError, match="no space left"):
        train([checkpoint], LOSSES, Full())
    assert files(tmp_path) == {"1.npz": "1.0"}
    assert checkpoint.best == 3


def test_a_later_training_does_not_replace_a_better_model(tmp_path: Path) -> None:
    first = nn.ModelCheckpoint(tmp_path / "{epoch}.npz", save_best_only=True, keep=1)
    train([first], LOSSES[:2])
    second = nn.ModelCheckpoint(tmp_path / "{epoch}.npz", save_best_only=True, keep=1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for checkpoint in (first, second):
        train([checkpoint], LOSSES[2:4], first=2)
        assert files(tmp_path) == {"2.npz": "2.0"}
        assert checkpoint.best == 2
    train([second], LOSSES[4:], first=4)
    assert list(files(tmp_path)) == ["5.npz"]       # and the first's file is its own as well


@pytest.mark.parametrize(("state", "message"), [
    ({"best": None}, "state must have best, written, not {'best': None}"),
    ({"best": True, "written": []}, "state['best'] must be a finite number, not True"),
    ({"best": 1, "written": [1]},
     "state['written'] must be a list of [path, bytes, nanoseconds], not [1]"),
    ({"best": 1, "written": [["m.npz", 1]]}, "must be a list of [path, bytes, nanoseconds], not"),
    ({"best": 1, "written": [["m.npz", 1, "2"]]}, "must be a list of [path, bytes, nanoseconds]"),
])
def test_a_wrong_state(state: Any, message: str) -> None:
    checkpoint = nn.ModelCheckpoint("m.npz")
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        checkpoint.load_state_dict(state)
    assert checkpoint.state_dict() == {"best": None, "written": []}


@pytest.mark.parametrize(("path", "arguments", "message"), [
    ("{epoch}-{val_acc:.2f}.npz", {}, "'val_acc' is not among 'loss', 'val_loss', 'epoch'"),
    ("{epoch}.npz", {"monitor": "acc", "save_best_only": True},
     "monitor='acc' is not among the epoch's metrics: loss, val_loss"),
])
def test_a_figure_that_is_missing(tmp_path: Path, path: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        train([nn.ModelCheckpoint(tmp_path / path, **arguments)], LOSSES)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(("path", "message"), [
    ("{epoch:s}.npz", "Unknown format code 's'"), ("{loss:d}.npz", "Unknown format code 'd'"),
    ("{loss.x}.npz", "no attribute 'x'"), ("{loss[0]}.npz", "not subscriptable")])
def test_a_field_that_cannot_be_formatted(tmp_path: Path, path: str, message: str) -> None:
    model = nn.Sequential([nn.Dense(2, input_shape=(3,))])
    model.compile("sgd")
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"path .*{message}"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0,
                  callbacks=[nn.ModelCheckpoint(tmp_path / path)])
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("path", "arguments", "error", "message"), [
    ("model", {}, ValueError, "path must end in .npz, not 'model'"),
    (b"model.npz", {}, ValueError, "path must end in .npz, not b'model.npz'"),
    ("{}.npz", {}, ValueError, "path must have names in its fields, not '{}.npz'"),
    ("{0}.npz", {}, ValueError, "path must have names in its fields, not '{0}.npz'"),
    ("{epoch.npz", {}, ValueError, "path '{epoch.npz' is malformed: expected '}'"),
    ("m.npz", {"keep": 2}, ValueError, "keep=2 needs a path with a field, such as {epoch}, not"),
    ("{epoch}.npz", {"keep": 0}, ValueError, "keep must be an integer >= 1, not 0"),
    ("m.npz", {"save_best_only": 1}, TypeError, "save_best_only must be True or False, not 1"),
    ("m.npz", {"mode": "max"}, ValueError,
     "monitor='val_loss' and mode='max' need save_best_only=True"),
    ("m.npz", {"extra": {}}, TypeError, "extra must be callable or None, not {}"),
    ("m.npz", {"mode": "low", "save_best_only": True}, ValueError,
     "mode must be 'auto', 'min' or 'max', not 'low'"),
])
def test_wrong_arguments(path: Any, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        nn.ModelCheckpoint(path, **arguments)
