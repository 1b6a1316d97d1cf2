"""The command line: ``fastmom train``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastmom
from fastmom import data, nn
from fastmom.optim import OPTIMIZERS

OK, FAILED, INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    args = make_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (OSError, ValueError, TypeError, ImportError) as error:
        if os.environ.get("FASTMOM_DEBUG"):
            raise
        print(f"fastmom {args.command}: error: {error}", file=sys.stderr)
        return FAILED


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastmom", description="Momentum optimizers for NumPy arrays at the speed of memory.",
        allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastmom {fastmom.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_train(commands)
    return parser


def add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train", help="train a small network on handwritten digits", allow_abbrev=False,
        description="Train Flatten, Dense(ReLU), Dropout, Dense(softmax) on handwritten digits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = train.add_argument
    add("--data", default="auto", metavar="auto|mnist|digits|DIR",
        help="MNIST if it can be had, else the synthetic digits; one of them; or a directory of "
             "IDX files")
    add("--optimizer", default="sgd", choices=sorted(OPTIMIZERS))
    add("--lr", type=float, default=0.01, help="learning rate")
    add("--momentum", type=float, default=0.9, help="0 to 1; start low and raise it, 0.9 if unsure")
    add("--nesterov", action=argparse.BooleanOptionalAction, default=True)
    add("--decay", type=float, default=1e-6, help="time-based decay of lr per step")
    add("--weight-decay", type=float, default=0.0, help="L2 penalty")
    add("--epochs", type=int, default=5)
    add("--batch-size", type=int, default=32)
    add("--hidden", type=int, nargs="+", default=[128], metavar="UNITS",
        help="units of each hidden layer")
    add("--dropout", type=float, default=0.2, help="after each hidden layer")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=None, help="at most this many for the optimizer's kernels; "
        "matrix products take one, so that any number gives the same weights")
    add("--json", type=Path, default=None, metavar="FILE", help="write the figures to this file")
    train.set_defaults(run=train_command)


def train_command(args: argparse.Namespace) -> int:
    """Train, print a line per epoch, and write the figures if asked to."""
    if args.json is not None and not args.json.parent.is_dir():
        raise ValueError(f"--json: there is no directory {args.json.parent}")
    fastmom.set_num_threads(args.threads)
    model = make_model(args)
    dataset = data.load(args.data)
    print(dataset.reason)
    print(f"{model.optimizer!r}, batch {args.batch_size}, {sum(p.size for p in model.params):,} "
          f"parameters, {fastmom.get_num_threads()} threads")
    record = Record(args, dataset.name)
    status = OK
    try:
        with one_blas_thread():
            model.fit(scale(dataset.x_train), dataset.y_train, batch_size=args.batch_size,
                      epochs=args.epochs, callbacks=[record, nn.Progress()],
                      validation_data=(scale(dataset.x_test), dataset.y_test))
    except KeyboardInterrupt:
        print(f"interrupted after {len(record.epochs)} of {args.epochs} epochs")
        status = INTERRUPTED
    if record.epochs:
        print(f"test accuracy {record.epochs[-1]['test_accuracy']:.2%} after {len(record.epochs)} "
              f"epochs")
    if args.json is not None:
        record.write(args.json)
    return status


def make_model(args: argparse.Namespace) -> nn.Sequential:
    layers: list[nn.Layer] = [nn.Flatten(input_shape=(28, 28))]
    for units in args.hidden:
        layers += [nn.Dense(units, activation="relu"), nn.Dropout(args.dropout)]
    model = nn.Sequential([*layers, nn.Dense(10, activation="softmax")], seed=args.seed)
    model.compile(OPTIMIZERS[args.optimizer](
        lr=args.lr, momentum=args.momentum, nesterov=args.nesterov, decay=args.decay,
        weight_decay=args.weight_decay), metrics=["accuracy"])
    return model


def scale(images: np.ndarray) -> np.ndarray:
    """uint8 pixels as float32 from 0 to 1."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)


def one_blas_thread() -> Any:
    """Products of a small batch gain little from a second thread, and their bits depend on it."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ImportError('fastmom train needs threadpoolctl: pip install "fastmom[cli]"') from None
    return threadpool_limits(1, user_api="blas")


class Record(nn.Callback):
    """Collects the figures that --json writes."""

    def __init__(self, args: argparse.Namespace, data_name: str) -> None:
        config = {k: v for k, v in vars(args).items() if k not in ("run", "command", "json")}
        self.content: dict[str, Any] = {"data": data_name, "config": config, "epochs": []}
        self.epochs: list[dict[str, float]] = self.content["epochs"]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        # `fit` calls its held-out set validation; here it is the test set
        renamed = {name.replace("val_", "test_"): value for name, value in logs.items()}
        self.epochs.append(renamed)

    def write(self, path: Path) -> None:
        """All or nothing: a reader never sees half a file."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(self.content, indent=1) + "\n")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
