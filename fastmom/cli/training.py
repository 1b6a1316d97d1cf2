"""The record of a training, in memory and in the checkpoints from which it can go on."""

from __future__ import annotations

import base64
import textwrap
import zlib
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastmom import checkpoint, nn, plot
from fastmom.checkpoint import CheckpointError
from fastmom.cli.experiment import finite, write_json
from fastmom.cli.options import cannot_write
from fastmom.data import Dataset
from fastmom.nn.callbacks.base import Logs
from fastmom.nn.callbacks.logs import LineLogger
from fastmom.optim.schedules import ReduceOnPlateau, Schedule

LOGGERS: dict[str, Callable[[Path], LineLogger]] = {".csv": nn.CSVLogger, ".jsonl": nn.JSONLogger}


class Record(nn.Callback):
    """The settings of a training, the figures of each epoch and the loss of each step.

    Attributes
    ----------
    config : dict
        All options that decide the result, and threads.
    data, seal : str and int
        The data set's name, and the checksum of its content.
    epochs : list of dict
    losses : array of float32
        As precise as a plot needs, in half the room.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.data, self.seal = "", 0
        self.epochs: list[dict[str, Any]] = []
        self.losses = array("f")
        self._pending = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._pending = True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epochs.append(dict(logs or {}))
        self._take_losses()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._take_losses()

    def _take_losses(self) -> None:
        if self._pending:       # else those of this epoch are there already
            self.losses.extend(self.model.batch_losses)
        self._pending = False

    def state(self) -> dict[str, Any]:
        """For `restored`."""
        losses = base64.b64encode(self.losses.tobytes()).decode("ascii")
        return {"config": self.config, "data": self.data, "seal": self.seal,
                "epochs": self.epochs, "losses": losses}

    @classmethod
    def restored(cls, state: Any) -> Record:
        """Go on from what `state` returned."""
        try:
            record = cls(state["config"])
            record.data, record.seal, record.epochs = state["data"], state["seal"], state["epochs"]
            record.losses.frombytes(base64.b64decode(state["losses"]))
        except (TypeError, KeyError, ValueError):
            raise ValueError("it is no checkpoint of fastmom train") from None
        return record

    def write(self, path: Path, **more: Any) -> None:
        """As JSON."""
        write_json(path, {"data": self.data, "config": self.config,
                          "epochs": [finite(epoch) for epoch in self.epochs], **more})

    def draw(self, path: Path, title: str, momentum: float) -> None:
        """The curves of the losses and accuracies."""
        names = [name for name in self.epochs[0] if name != "seconds"]
        curves: dict[str, Any] = {name: [epoch[name] for epoch in self.epochs] for name in names}
        label = textwrap.fill(title, 100)
        figure = plot.plot_history({label: [{**curves, "batch_loss": self.losses}]},
                                   momentum=momentum)
        plot.save_figure(figure, path)


class Checkpoints(nn.Callback):
    """Writes one after each epoch, and keeps the latest.

    Raises ValueError once a file appears in the directory that is not its own: two trainings would
    delete and replace each other's.
    """

    def __init__(self, directory: Path, keep: int, record: Record) -> None:
        self.directory, self.keep, self.record = directory, keep, record
        self.own = found(directory)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if others := set(found(self.directory)) - set(self.own):
            raise ValueError(f"--checkpoint: another training writes to {self.directory}: "
                             f"{min(others).name} is not of this one")
        path = self.directory / f"checkpoint-{epoch + 1:08d}.npz"
        try:
            self.model.save(path, self.record.state())
        except OSError as error:
            raise OSError(f"--checkpoint: {path} cannot be written: {error}") from error
        self.own = sorted({*self.own, path})
        while len(self.own) > self.keep:
            self.own.pop(0).unlink(missing_ok=True)


def found(directory: Path) -> list[Path]:
    return sorted(directory.glob("checkpoint-*.npz"))


def check_directory(directory: Path) -> None:
    """Raise early what would keep checkpoints from being written in the end."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"--checkpoint: {directory} is there and is not a directory")
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if cannot_write(there):
        raise ValueError(f"--checkpoint: the directory {there} cannot be written to")


def resumed(directory: Path) -> tuple[nn.Sequential, Record]:
    """The model and the record in the newest whole checkpoint."""
    path = checkpoint.latest(directory) if directory.is_dir() else None
    if path is None:
        raise ValueError(f"--resume: there is no whole checkpoint in {directory}")
    model = nn.Sequential.load(path)
    try:
        record = Record.restored(checkpoint.load(path).extra.get("extra"))
    except ValueError as error:
        raise CheckpointError(f"--resume: {path}: {error}") from None
    return model, record


def check_agrees(given: Mapping[str, Any], record: Record) -> None:
    """Raise for the first option that is another than in the training that is to go on."""
    config, done = record.config, len(record.epochs)
    for name, value in given.items():
        stored = config.get(name, "no such option")
        plain = value.to_dict() if isinstance(value, Schedule) else value
        option = f"--{name.replace('_', '-')}{'-schedule' * isinstance(value, Schedule)}"
        if name == "epochs":
            if value < done:
                raise ValueError(f"--epochs: {value}, but the checkpoint is of epoch {done}")
        elif name != "data" and plain != stored:      # of the data, the content counts
            was = Schedule.from_dict(stored) if isinstance(stored, dict) else stored
            raise ValueError(f"{option}: {value}, but the checkpoint's training has {was}")


def fingerprint(dataset: Dataset) -> int:
    """A checksum of the samples and labels."""
    crc = 0
    for part in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        crc = zlib.crc32(part.tobytes(), crc)
    return crc


class Plateaus(nn.Callback):
    """Lets a schedule that is a ReduceOnPlateau observe the validation."""

    def __init__(self, schedules: list[ReduceOnPlateau]) -> None:
        self.schedules = schedules

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        for schedule in self.schedules:
            schedule.observe(logs["val_loss" if schedule.mode == "min" else "val_accuracy"])


class Log(nn.Callback):
    """One of `LOGGERS`, by the ending, that begins with the epochs that are resumed."""

    def __init__(self, path: Path, record: Record) -> None:
        self.logger, self.record = LOGGERS[path.suffix.lower()](path), record

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.logger.on_train_begin()
        for epoch, figures in enumerate(self.record.epochs):
            self.logger.on_epoch_end(epoch, figures)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.logger.on_epoch_end(epoch, logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.logger.on_train_end()
