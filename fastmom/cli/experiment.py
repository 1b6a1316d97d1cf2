"""What `fastmom train` and `fastmom compare` share: options, data, model, optimizer, Ctrl-C."""

from __future__ import annotations

import argparse
import json
import math
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastmom import data, nn
from fastmom.cli.options import POSITIVE, number
from fastmom.files import replacing
from fastmom.nn.callbacks.base import Logs
from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.optim.schedules import Schedule

# Hyper-parameters that are options, and what the command takes where the user says nothing and
# the optimizer's own default is not meant.
HYPER = ("lr", "momentum", "nesterov", "decay", "weight_decay")
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.01, "momentum": 0.9, "nesterov": True, "decay": 1e-6},
}
# What the other options are where the user says nothing. argparse does not fill them in, so that
# a training that is resumed knows what was said.
SETTINGS: dict[str, Any] = {"data": "auto", "epochs": 5, "batch_size": 32, "hidden": [128],
                            "dropout": 0.2}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of both commands, absent from the namespace unless they are given."""
    def option(name: str, help: str, **arguments: Any) -> None:
        default = SETTINGS.get(name[2:].replace("-", "_"))
        if default is not None:
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            help += f" (default: {shown})"
        parser.add_argument(name, help=help, default=argparse.SUPPRESS, **arguments)

    option("--data", "MNIST if it can be had, else the synthetic digits; one of them; or a "
           "directory of IDX files", metavar="auto|mnist|digits|DIR")
    option("--nesterov", "look ahead along the velocity (default: yes, with SGD)",
           action=argparse.BooleanOptionalAction)
    option("--decay", "time-based decay of lr per step (default: 1e-6, with SGD)", type=float)
    option("--weight-decay", "L2 penalty (default: the optimizer's)", type=float)
    option("--epochs", "passes over the training data", type=POSITIVE)
    option("--batch-size", "samples per step", type=POSITIVE)
    option("--hidden", "units of each hidden layer", type=POSITIVE, nargs="+", metavar="UNITS")
    option("--dropout", "share of units to drop after each hidden layer",
           type=number(float, lambda x: 0 <= x < 1, "a number from 0 to below 1"))
    parser.add_argument("--threads", type=POSITIVE, default=None, help="at most this many for the "
                        "optimizer's kernels; matrix products take one, so that any number gives "
                        "the same weights (default: all)")


def load_data(source: str) -> data.Dataset:
    try:
        return data.load(source)
    except data.DataError as error:
        raise ValueError(f"--data {source}: {error}") from error


def make_optimizer(name: str, given: Mapping[str, Any]) -> Optimizer:
    """With the options that were given; one the optimizer does not have is an error."""
    cls: Any = OPTIMIZERS[name]
    hyper = {name: given[name] for name in HYPER if name in given}
    optimizer: Optimizer = cls(**DEFAULTS.get(name, {}) | hyper)
    return optimizer


def hyper_of(optimizer: Optimizer) -> dict[str, Any]:
    """Those hyper-parameters that it has, as data for JSON."""
    values = {name: getattr(optimizer, name) for name in HYPER if hasattr(optimizer, name)}
    return {name: value.to_dict() if isinstance(value, Schedule) else value
            for name, value in values.items()}


def make_model(settings: Mapping[str, Any], image_shape: tuple[int, ...], seed: int,
               optimizer: Optimizer) -> nn.Sequential:
    layers: list[nn.Layer] = [nn.Rescaling(1 / 255, input_shape=image_shape), nn.Flatten()]
    for units in settings["hidden"]:
        layers += [nn.Dense(units, activation="relu"), nn.Dropout(settings["dropout"])]
    model = nn.Sequential([*layers, nn.Dense(10, activation="softmax")], seed=seed)
    model.compile(optimizer, metrics=["accuracy"])
    return model


def one_blas_thread() -> Any:
    """Products of a small batch gain little from a second thread, and their bits depend on it."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ImportError('training needs threadpoolctl: pip install "fastmom[cli]"') from None
    return threadpool_limits(1, user_api="blas")


def finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """None for what JSON cannot hold."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """All or nothing: a reader never sees half a file."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


class HeldOutIsTest(nn.Callback):
    """Calls the figures of what is held out by its name: `fit` says validation to the test set."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        renamed = {name.replace("val_", "test_"): value for name, value in logs.items()}
        logs.clear()
        logs.update(renamed)


class Interrupt(nn.Callback):
    """Ctrl-C ends the training after the step, or the evaluation and what follows; twice, at once.

    Where Ctrl-C does something else than to raise KeyboardInterrupt, it still does.
    """

    def __init__(self) -> None:
        self.asked = False
        self._installed = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._installed = (threading.current_thread() is threading.main_thread()
                           and signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        if self._installed:
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *signalled: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        if self.asked:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = self.model.stop_training or self.asked

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
