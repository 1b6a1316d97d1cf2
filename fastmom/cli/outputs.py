"""What ``fastmom train`` writes beside checkpoints: log, metrics, figure, and how to go on."""

from __future__ import annotations

import argparse
import shlex
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastmom import nn, plot
from fastmom.cli.figures import figure_of_training
from fastmom.cli.files import cannot_be_written, finite, write_json, writing
from fastmom.cli.resume import Record, found
from fastmom.nn.callbacks import CallbackList
from fastmom.nn.callbacks.logs import LineLogger

LOGGERS: dict[str, Callable[..., LineLogger]] = {".csv": nn.CSVLogger, ".jsonl": nn.JSONLogger}
OUTPUTS = "json", "log", "plot", "report"


def start_log(path: Path | None, record: Record, model: nn.Sequential) -> list[nn.Callback]:
    """Write the epochs so far to the file of ``--log``; return what appends those to come."""
    if path is None:
        return []
    log = LOGGERS[path.suffix.lower()]

    def warn(error: OSError) -> None:
        warnings.warn(f"{cannot_be_written('--log', path, error)}; the training goes on without "
                      f"it", UserWarning, stacklevel=1)
    first = log(path, on_error=warn)
    with CallbackList([first], model, {}) as earlier:
        for epoch, metrics in enumerate(record.epochs):
            earlier.on_epoch_end(epoch, metrics)
    return [log(path, append=True, on_error=warn)] if first.whole else []


def write(args: argparse.Namespace, record: Record, optimizer: Any,
          more: Mapping[str, Any]) -> None:
    """Write the files of ``--json`` and ``--plot``."""
    if args.json is not None:
        write_json(args.json, {"data": record.data, "config": record.config,
                               "epochs": [finite(epoch) for epoch in record.epochs], **more})
    if args.plot is not None and record.epoch:
        curves = {name: values for name, values in record.history.items()
                  if name not in record.observers}
        figure = figure_of_training({**curves, "batch_loss": record.losses}, optimizer,
                                    record.data, record.config, momentum=args.smooth)
        with writing("--plot", args.plot):
            plot.save_figure(figure, args.plot)
        print(f"figure: {args.plot}")
    elif args.plot is not None:
        print(f"no figure {args.plot}: no epoch is whole")


def how_to_resume(args: argparse.Namespace) -> str:
    """Return the line with the last checkpoint, and the command that goes on from it."""
    if not (saved := found(args.checkpoint)):
        return "no checkpoint: no epoch is whole"
    words = ["fastmom", "train", "--checkpoint", args.checkpoint, "--resume"]
    if args.distributed:
        words = ["mpiexec", "-n", "N", *words, "--distributed"]
    for option in ("threads", *OUTPUTS, "smooth", "keep"):
        if getattr(args, option) is not None:
            words += [f"--{option}", getattr(args, option)]
    return f"saved: {saved[-1]}; go on with: {shlex.join(map(str, words))}"
