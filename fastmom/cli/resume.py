"""``fastmom train --resume``: go on from a checkpoint, to the same bits as without a break.

A checkpoint is the model as `Sequential.save` stores it. Its ``extra`` holds all else that a
training consists of: a `Record`.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastmom import checkpoint, nn
from fastmom.checkpoint import CheckpointError
from fastmom.checks import integer
from fastmom.cli.files import writing
from fastmom.cli.guard import Guard
from fastmom.cli.network import HYPER, shown
from fastmom.cli.options import NATURAL, POSITIVE, SHARE, option_of, word
from fastmom.data import Dataset
from fastmom.nn import saving
from fastmom.nn.callbacks.base import Logs
from fastmom.optim.named import NAMES
from fastmom.optim.schedules import ReduceOnPlateau, Schedule

FORMAT = 2      # of `Record.state`; 1 was that of version 0.1
NAME = re.compile(r"checkpoint-\d{8,}\.npz")
# The checks of the options that decide the result, for those read from a checkpoint.
READ: dict[str, Callable[[str], Any]] = {
    "data": str, "optimizer": word(NAMES), "epochs": POSITIVE, "batch_size": POSITIVE,
    "dropout": SHARE, "seed": NATURAL, "validation_split": SHARE}


class Record(nn.History):
    """The history of a training over all its runs, and what it needs to go on.

    Attributes
    ----------
    config : dict
        All options that decide the result, and threads.
    data, crc32 : str and int
        The data set's name, and the checksum of its content.
    losses : array of float32
        The loss of each step: as precise as a plot needs, in half the room.
    observers : dict of Callback
        The schedules that follow the validation, by name.
    guard : Guard or None
    written : list
        The checkpoints of earlier runs: name, bytes, time of modification.
    source : Path or None
        The checkpoint from which this run goes on.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.data, self.crc32 = "", 0
        self.losses = array("f")
        self.observers = find_observers(self.config)
        self.guard = Guard() if self.config.get("guard") else None
        self.written: list[Any] = []
        self.source: Path | None = None
        self._pending = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if not hasattr(self, "epoch"):      # else a run that goes on with what is there
            super().on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._pending = True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._take_losses()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._take_losses()

    def _take_losses(self) -> None:
        if self._pending:       # else those of this epoch are there already
            self.losses.extend(self.model.batch_losses)
        self._pending = False

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The metrics and seconds of each epoch."""
        rows = zip(*self.history.values(), self.seconds, strict=True)
        return [dict(zip([*self.history, "seconds"], row, strict=True)) for row in rows]

    def state(self) -> dict[str, Any]:
        """Return it as data for JSON."""
        losses = base64.b64encode(self.losses.tobytes()).decode("ascii")
        return {"train": FORMAT, "config": self.config, "data": self.data, "crc32": self.crc32,
                "history": dict(self.history), "seconds": self.seconds, "losses": losses,
                "observers": {name: o.state_dict() for name, o in self.observers.items()},
                **({} if self.guard is None else {"guard": self.guard.state_dict()})}

    @classmethod
    def restored(cls, state: Any, epochs: int | None) -> Record:
        """Make it from what `state` returned after so many epochs.

        Raises
        ------
        TypeError, ValueError, KeyError
            If `state` is not that.
        """
        if not isinstance(state, Mapping) or "train" not in state:
            raise ValueError("it is no checkpoint of fastmom train, or one of version 0.1")
        if state["train"] != FORMAT:
            raise ValueError(f"its training has the format {state['train']}, and this fastmom "
                             f"reads {FORMAT}")
        check_config(state["config"])
        epochs = integer("epoch", epochs, 1)
        record = cls(state["config"])
        record.data, record.crc32 = str(state["data"]), integer("crc32", state["crc32"], 0)
        record.epoch, record.seconds = list(range(epochs)), list(state["seconds"])
        record.history.update({name: list(state["history"][name])
                               for name in metrics(record.config)})
        for values in (record.seconds, *record.history.values()):
            if len(values) != epochs or not all(type(value) is float for value in values):
                raise ValueError(f"its history is not of {epochs} epochs")
        record.losses.frombytes(base64.b64decode(state["losses"], validate=True))
        for name, observer in record.observers.items():
            observer.load_state_dict(state["observers"][name])
        if record.guard is not None:
            record.guard.load_state_dict(state["guard"])
        record.written = [[name, size, time] for name, size, time in state["written"]
                          if NAME.fullmatch(name)]
        return record


def metrics(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics that a training with these options has."""
    held_out = "val" if config["validation_split"] else "test"
    return ["loss", "accuracy", f"{held_out}_loss", f"{held_out}_accuracy",
            *find_observers(config)]


def find_observers(config: Mapping[str, Any]) -> dict[str, nn.Scheduler]:
    """Make the callbacks that let a schedule follow the validation, by their hyper-parameter."""
    observers = {}
    for name in ("lr", "momentum"):
        if isinstance(described := config.get(name), dict):
            schedule = Schedule.from_dict(described)
            if isinstance(schedule, ReduceOnPlateau):
                monitor = "val_loss" if schedule.mode == "min" else "val_accuracy"
                observers[name] = nn.Scheduler(name, schedule, monitor=monitor)
    return observers


def check_config(config: Any) -> None:
    """Raise TypeError, ValueError or KeyError unless these are options as they are stored."""
    for name, read in READ.items():
        try:
            good = read(str(config[name])) == config[name]
        except Exception as error:
            raise ValueError(f"its option {name} is wrong: {error}") from None
        if not good:
            raise ValueError(f"its option {name} is {config[name]!r}")
    if config.get("guard", True) is not True:
        raise ValueError(f"its option guard is {config['guard']!r}")
    hidden = config["hidden"]
    if not isinstance(hidden, list) or not hidden:
        raise ValueError(f"its option hidden is {hidden!r}")
    for units in hidden:
        integer("its option hidden", units, 1)
    for name in set(HYPER) & set(config):
        value = config[name]
        if isinstance(value, dict):
            Schedule.from_dict(value)
        elif not (isinstance(value, (bool, int, float)) and math.isfinite(value)):
            raise ValueError(f"its option {name} is {value!r}")


# Checkpoints --------------------------------------------------------------------------------------

class Checkpoints(nn.ModelCheckpoint):
    """Save the model and the record after each epoch, and keep the latest of this training.

    Raises ValueError once a file appears in the directory that is not of this training: two of
    them would replace each other's.
    """

    def __init__(self, directory: Path, keep: int, record: Record) -> None:
        literal = str(directory).replace("{", "{{").replace("}", "}}")
        super().__init__(Path(literal) / "checkpoint-{epoch:08d}.npz", keep=keep,
                         extra=self._content)
        self.directory, self.record = directory, record
        self.load_state_dict({"best": None, "written": [
            [str(directory / name), *stamp] for name, *stamp in record.written]})
        if record.source is not None:
            self.adopt(record.source)
        self.seen = set(found(directory))

    def _content(self) -> dict[str, Any]:
        return {**self.record.state(), "written": [
            [Path(path).name, *stamp] for path, *stamp in self.state_dict()["written"]]}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if others := set(found(self.directory)) - self.seen:
            raise ValueError(f"--checkpoint: another training writes to {self.directory}: "
                             f"{min(others).name} is not of this one")
        path = self.directory / f"checkpoint-{epoch + 1:08d}.npz"
        with writing("--checkpoint", path):
            super().on_epoch_end(epoch, logs)
        self.seen.add(path)


def found(directory: Path) -> list[Path]:
    """Return the files named like checkpoints of a training, the oldest first."""
    return sorted(path for path in directory.glob("checkpoint-*.npz") if NAME.fullmatch(path.name))


def resumed(directory: Path) -> tuple[nn.Sequential, Record]:
    """Return the model and the record in the newest whole checkpoint.

    Raises
    ------
    ValueError
        If there is none, or it is not of `fastmom train`.
    """
    newest = checkpoint.load_latest(directory, read) if directory.is_dir() else None
    if newest is None:
        raise ValueError(f"--resume: there is no whole checkpoint in {directory}")
    return newest


def read(path: Path) -> tuple[nn.Sequential, Record]:
    """Return the model and the record in this checkpoint, which is read once."""
    with checkpoint.opened(path) as saved:
        try:
            record = Record.restored((saved.extra or {}).get("extra"), saved.epoch)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise CheckpointError(f"--resume: {path}: {reason}") from None
        model = saving.read(nn.Sequential, saved)
    if model.optimizer is None or model.metrics != ["accuracy"]:
        raise CheckpointError(f"--resume: {path}: its model is not that of fastmom train")
    record.source = path
    return model, record


def check_agrees(given: Mapping[str, Any], record: Record) -> None:
    """Raise for the first option that is another than in the training that is to go on."""
    config, done = record.config, len(record.epoch)
    if given.get("epochs", done) < done:
        raise ValueError(f"--epochs: {given['epochs']}, but the checkpoint is of epoch {done}")
    for name, value in given.items():
        stored = config.get(name, "no such option")
        plain = value.to_dict() if isinstance(value, Schedule) else value
        if name not in ("epochs", "data") and plain != stored:      # of data the content counts
            was = Schedule.from_dict(stored) if isinstance(stored, dict) else stored
            option = shown(name, value) if name in HYPER else option_of(name)
            raise ValueError(f"{option}: {value}, but the checkpoint's training has {was}")


def fingerprint(dataset: Dataset) -> int:
    """Return a checksum of the samples and labels."""
    crc = 0
    for part in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        crc = zlib.crc32(part.tobytes(), crc)
    return crc
