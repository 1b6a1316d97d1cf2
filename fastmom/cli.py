"""The command line: ``fastmom train`` and ``info``. FASTMOM_DEBUG=1 shows tracebacks."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastmom
from fastmom import data, nn
from fastmom.files import replacing
from fastmom.optim import OPTIMIZERS, Optimizer

OK, FAILED, INTERRUPTED, BROKEN_PIPE = 0, 2, 130, 141

# Hyper-parameters that are options, and what the command takes where the user says nothing and
# the optimizer's own default is not meant.
HYPER = ("lr", "momentum", "nesterov", "decay", "weight_decay")
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.01, "momentum": 0.9, "nesterov": True, "decay": 1e-6},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    It is 2 for bad input, 130 after Ctrl-C, and 141 once nobody reads the output.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return FAILED
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:     # the reader has gone, as in `fastmom train | head -1`
        # Python flushes stdout once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (OSError, ValueError, TypeError, ImportError, MemoryError, OverflowError) as error:
        if os.environ.get("FASTMOM_DEBUG"):
            raise
        print(f"fastmom {args.command}: error: {error}", file=sys.stderr)
        return FAILED


# Options ------------------------------------------------------------------------------------------

def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastmom", description="Momentum optimizers for NumPy arrays at the speed of memory.",
        allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastmom {fastmom.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    add_train(commands)
    info = commands.add_parser("info", help="print what this installation runs on",
                               allow_abbrev=False)
    info.set_defaults(run=info_command)
    return parser


def add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train", help="train a small network on handwritten digits", allow_abbrev=False,
        description="Train Flatten, Dense(ReLU), Dropout, Dense(softmax) on handwritten digits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    positive = number(int, lambda n: n >= 1, "an integer >= 1")
    add = train.add_argument
    add("--data", default="auto", metavar="auto|mnist|digits|DIR",
        help="MNIST if it can be had, else the synthetic digits; one of them; or a directory of "
             "IDX files")
    add("--optimizer", default="sgd", choices=sorted(OPTIMIZERS))
    not_given: dict[str, Any] = {"default": argparse.SUPPRESS}
    add("--lr", type=float, help="learning rate (default: 0.01)", **not_given)
    add("--momentum", type=float, **not_given,
        help="0 to 1; start low and raise it, 0.9 if unsure (default: 0.9)")
    add("--nesterov", action=argparse.BooleanOptionalAction, **not_given,
        help="look ahead along the velocity (default: yes)")
    add("--decay", type=float, **not_given,
        help="time-based decay of lr per step (default: 1e-6)")
    add("--weight-decay", type=float, help="L2 penalty (default: 0)", **not_given)
    add("--epochs", type=positive, default=5, help="passes over the training data")
    add("--batch-size", type=positive, default=32, help="samples per step")
    add("--hidden", type=positive, nargs="+", default=[128], metavar="UNITS",
        help="units of each hidden layer")
    add("--dropout", type=number(float, lambda x: 0 <= x < 1, "a number from 0 to below 1"),
        default=0.2, help="share of units to drop after each hidden layer")
    add("--seed", type=number(int, lambda n: n >= 0, "an integer >= 0"), default=0,
        help="of the weights, the dropout and the order of the samples")
    add("--threads", type=positive, default=None, help="at most this many for the optimizer's "
        "kernels; matrix products take one, so that any number gives the same weights")
    add("--json", type=Path, default=None, metavar="FILE", help="write the figures to this file")
    train.set_defaults(run=train_command)


def number(read: Callable[[str], Any], allowed: Callable[[Any], bool],
           words: str) -> Callable[[str], Any]:
    """An argparse type that says what is allowed."""
    def convert(text: str) -> Any:
        try:
            value = read(text)
        except ValueError:
            value = math.nan
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"must be {words}, not {text!r}")
        return value
    return convert


# fastmom train ------------------------------------------------------------------------------------

def train_command(args: argparse.Namespace) -> int:
    """Train, print a line per epoch, and write the figures if asked to."""
    if args.json is not None:
        check_target(args.json)
    optimizer = make_optimizer(args)
    try:
        dataset = data.load(args.data)
    except data.DataError as error:
        raise ValueError(f"--data {args.data}: {error}") from error
    model = make_model(args, dataset.x_train.shape[1:])
    model.compile(optimizer, metrics=["accuracy"])
    record = Record(args, optimizer, dataset.name)
    status = OK
    with fastmom.num_threads(args.threads), one_blas_thread():
        threads = fastmom.get_num_threads()
        print(dataset.reason)
        print(f"{optimizer!r}, batch {args.batch_size}, {sum(p.size for p in model.params):,} "
              f"parameters, {threads} thread{'s' if threads > 1 else ''}", flush=True)
        try:
            model.fit(dataset.x_train, dataset.y_train, batch_size=args.batch_size,
                      epochs=args.epochs, callbacks=[record], validation_data=(
                          dataset.x_test, dataset.y_test))
        except KeyboardInterrupt:
            print(f"interrupted after {len(record.epochs)} of {args.epochs} epochs")
            status = INTERRUPTED
    if record.epochs:
        print(f"test accuracy {record.epochs[-1]['test_accuracy']:.2%} after epoch "
              f"{len(record.epochs)}")
    if args.json is not None:
        record.write(args.json)
    return status


def check_target(path: Path) -> None:
    """Raise early what would keep the figures from being written in the end."""
    if not path.parent.is_dir():
        raise ValueError(f"--json: there is no directory {path.parent}")
    if path.exists() and not path.is_file():    # replacing a device would destroy it
        raise ValueError(f"--json: {path} is there and is not a file")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"--json: the directory {path.parent} cannot be written to")


def make_optimizer(args: argparse.Namespace) -> Optimizer:
    """With the options that were given; one the optimizer does not have is an error."""
    given = {name: getattr(args, name) for name in HYPER if name in args}
    cls: Any = OPTIMIZERS[args.optimizer]
    optimizer: Optimizer = cls(**DEFAULTS.get(args.optimizer, {}) | given)
    return optimizer


def make_model(args: argparse.Namespace, image_shape: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Layer] = [nn.Rescaling(1 / 255, input_shape=image_shape), nn.Flatten()]
    for units in args.hidden:
        layers += [nn.Dense(units, activation="relu"), nn.Dropout(args.dropout)]
    return nn.Sequential([*layers, nn.Dense(10, activation="softmax")], seed=args.seed)


def one_blas_thread() -> Any:
    """Products of a small batch gain little from a second thread, and their bits depend on it."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ImportError('fastmom train needs threadpoolctl: pip install "fastmom[cli]"') from None
    return threadpool_limits(1, user_api="blas")


class Record(nn.Callback):
    """Collects the figures that --json writes."""

    def __init__(self, args: argparse.Namespace, optimizer: Optimizer, data_name: str) -> None:
        config = {k: v for k, v in vars(args).items() if k not in ("run", "command", "json")}
        config |= {name: getattr(optimizer, name) for name in HYPER if hasattr(optimizer, name)}
        self.epochs: list[dict[str, float | None]] = []
        self.content = {"data": data_name, "config": config, "epochs": self.epochs}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # `fit` calls its held-out set validation; here it is the test set. JSON has no NaN.
        self.epochs.append({name.replace("val_", "test_"): value if math.isfinite(value) else None
                            for name, value in (logs or {}).items()})

    def write(self, path: Path) -> None:
        """All or nothing: a reader never sees half a file."""
        with replacing(path) as partial:
            partial.write_text(json.dumps(self.content, indent=1) + "\n")


# fastmom info -------------------------------------------------------------------------------------

def info_command(args: argparse.Namespace) -> int:
    """Print version, instruction sets, threads, OpenMP, BLAS and subnormal handling."""
    fastmom.show_config()
    return OK
