"""``fastmom compare``: the same network with several momenta or optimizers."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastmom
from fastmom import data, nn, plot
from fastmom.cli.figures import figure_of_comparison
from fastmom.cli.files import check_targets, finite, write_json, writing
from fastmom.cli.interrupt import Interrupt
from fastmom.cli.network import (
    describe,
    hyper_of,
    load_data,
    make_model,
    make_optimizer,
    one_blas_thread,
)
from fastmom.cli.options import (
    DIVERGED,
    INTERRUPTED,
    MOMENTUM,
    OK,
    POSITIVE,
    SETTINGS,
    add_options,
    file,
    number,
    word,
)
from fastmom.nn.callbacks.base import Logs
from fastmom.optim import Optimizer
from fastmom.optim.named import NAMES, PRESETS, kind_of
from fastmom.plot.style import COLOURS, SUFFIXES, new_figure
from fastmom.progress import can_show_bars, progress_bar

MOMENTA = [0.0, 0.5, 0.9, 0.99]
CURVES = "loss", "accuracy", "test_loss", "test_accuracy"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "compare", help="compare momenta or optimizers on handwritten digits",
        description="Train the network of fastmom train with several momenta, or with several "
                    "optimizers, from several seeds; print a table and draw the curves.")
    option = command.add_argument
    either = command.add_mutually_exclusive_group()
    either.add_argument(
        "--momentum", nargs="+", default=MOMENTA, metavar="M", type=MOMENTUM,
        help=f"momenta of SGD (default: {' '.join(f'{m:g}' for m in MOMENTA)})")
    either.add_argument("--optimizer", nargs="+", type=word(NAMES), metavar="NAME",
                        help=f"of {', '.join(sorted(NAMES))}, as fastmom train has them")
    option("--seeds", type=POSITIVE, default=3, metavar="N",
           help="train each from the seeds 0 to N - 1 (default: 3)")
    option("--lr", type=float, default=argparse.SUPPRESS,
           help="learning rate of all (default: 0.01 with SGD, else the optimizer's)")
    add_options(command)
    option("--target", type=number(float, lambda x: 0 < x <= 1, "a number above 0 and up to 1"),
           default=0.95, help="test accuracy whose first epoch is reported (default: 0.95)")
    option("--output", type=file(*SUFFIXES), default=Path("compare.png"), metavar="FILE",
           help=f"the figure, {', '.join(SUFFIXES)} (default: compare.png)")
    option("--smooth", type=MOMENTUM, metavar="M",
           help="smooth the loss in the figure as strongly as with this momentum (default: by 2%% "
                "of the steps)")
    option("--json", type=Path, metavar="FILE", help="write the metrics of all runs to this file")
    command.set_defaults(run=run, parser=command)


@dataclass
class Run(nn.Callback):
    """One training: its metrics by epoch, and the losses of its steps."""

    label: str
    seed: int
    epochs: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    stop: nn.TerminateOnNaN = field(default_factory=lambda: nn.TerminateOnNaN(verbose=0))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epochs.append(dict(logs or {}))
        self.losses.extend(self.model.batch_losses)
        self.model.stop_training = self.model.stop_training or self.diverged

    @property
    def diverged(self) -> bool:
        return self.stop.diverged is not None or not (
            self.epochs and math.isfinite(self.epochs[-1]["test_loss"]))

    def reached(self, target: float) -> int | None:
        """Return the first epoch, from 1, with this test accuracy."""
        good = (i for i, epoch in enumerate(self.epochs, 1) if epoch["test_accuracy"] >= target)
        return next(good, None)

    def line(self) -> str:
        """Return how it has ended."""
        if self.stop.diverged is not None:
            epoch, step = self.stop.diverged
            end = f"diverged at epoch {epoch + 1}, step {step + 1}"
        elif self.diverged:     # on the test set alone
            end = f"diverged in epoch {len(self.epochs)}"
        else:
            end = f"test accuracy {self.epochs[-1]['test_accuracy']:.2%}"
        return f"{self.label}, seed {self.seed}: {end}"

    def curves(self, epochs: int) -> dict[str, Any]:
        """Return the curves for `fastmom.plot.plot_history`, with gaps for missing epochs."""
        missing = epochs - len(self.epochs)
        curves = {name: [*(epoch[name] for epoch in self.epochs), *[None] * missing]
                  for name in CURVES}
        return {**curves, "batch_loss": [*self.losses, *[None] * self.params["steps"] * missing]}


def run(args: argparse.Namespace) -> int:
    """Train all, then print the table and write the figure of those that are whole."""
    check_targets({"--output": args.output, "--json": args.json})
    new_figure(1, 1)            # says so if there is no matplotlib
    settings = SETTINGS | {name: value for name, value in vars(args).items() if name in SETTINGS}
    methods = make_methods(args)
    for make in methods.values():
        make()                  # raises for what is wrong
    dataset = load_data(settings["data"])
    total, epochs, runs = len(methods) * args.seeds, settings["epochs"], list[Run]()
    status = OK
    with fastmom.num_threads(args.threads), one_blas_thread(), np.errstate(all="ignore"):
        print(f"{dataset.reason}\n{describe(dataset, settings)}\n{total} runs of {epochs} "
              f"epoch{'s' * (epochs > 1)}, batch {settings['batch_size']}", flush=True)
        try:
            with reporting(total) as report:
                for found in trainings(methods, settings, args.seeds, dataset):
                    runs.append(found)
                    report(found)
        except KeyboardInterrupt:
            print(f"interrupted after {len(runs)} of {total} runs")
            status = INTERRUPTED
    if status == OK and all(found.diverged for found in runs):
        status = DIVERGED
    if runs:
        by_label = {label: [found for found in runs if found.label == label] for label in methods}
        summaries = {label: summary(found, args.target) for label, found in by_label.items()
                     if found}
        print_table(summaries, args.target)
        draw(by_label, args, settings, dataset.name)
        if args.json is not None:
            config = {**settings, "seeds": args.seeds, "target": args.target, "methods": {
                label: {"optimizer": type(make()).__name__.lower(), **hyper_of(make(), {})}
                for label, make in methods.items()}}
            write_json(args.json, {
                "data": dataset.name, "config": config, "summary": summaries,
                "runs": [{"label": found.label, "seed": found.seed, "diverged": found.diverged,
                          "epochs": [finite(epoch) for epoch in found.epochs]} for found in runs]})
    return status


def make_methods(args: argparse.Namespace) -> dict[str, Callable[[], Optimizer]]:
    """Return the function that makes the optimizer of each label."""
    option = "momentum" if args.optimizer is None else "optimizer"
    given = getattr(args, option)
    if len(set(given)) < len(given) or len(given) > len(COLOURS):
        raise ValueError(f"--{option}: must be 1 to {len(COLOURS)} different ones, not "
                         f"{' '.join(map(str, given))}")
    if args.optimizer is None:
        return {f"momentum {m:g}": partial(make_optimizer, "sgd", {**vars(args), "momentum": m})
                for m in given}
    others = {name: value for name, value in vars(args).items() if name != "momentum"}
    return {name if name in PRESETS else kind_of(name).__name__:
            partial(make_optimizer, name, others) for name in given}


def trainings(methods: Mapping[str, Callable[[], Optimizer]], settings: Mapping[str, Any],
              seeds: int, dataset: data.Dataset) -> Iterator[Run]:
    """Train all, one seed after the other, so that the runs at any time can be compared."""
    for seed in range(seeds):
        for label, make in methods.items():
            found, interrupt = Run(label, seed), Interrupt()
            model = make_model(settings, dataset.x_train.shape[1:], seed, make())
            model.fit(dataset.x_train, dataset.y_train, batch_size=settings["batch_size"],
                      epochs=settings["epochs"], verbose=0,
                      validation_data={"test": (dataset.x_test, dataset.y_test)},
                      callbacks=[found.stop, found, interrupt])
            if found.diverged or len(found.epochs) == settings["epochs"]:
                yield found
            if interrupt.asked:
                raise KeyboardInterrupt


@contextmanager
def reporting(total: int) -> Iterator[Callable[[Run], None]]:
    """Give the function to call with each run: it moves a bar on a terminal, else prints a line."""
    if not (sys.stdout.isatty() and can_show_bars()):
        yield lambda found: print(found.line(), flush=True)
        return
    with progress_bar(sys.stdout, total, "compare", unit="run") as bar:
        def update(found: Run) -> None:
            bar.set_postfix_str(found.line(), refresh=False)
            bar.update()
        yield update


def summary(runs: list[Run], target: float) -> dict[str, Any]:
    """Return a label's row as data for JSON; accuracies leave out the runs that diverged."""
    ends = [found.epochs[-1]["test_accuracy"] for found in runs if not found.diverged]
    reached = [found.reached(target) for found in runs]
    first = [found.epochs[0]["loss"] if found.epochs else math.nan for found in runs]
    seconds = [epoch["seconds"] for found in runs for epoch in found.epochs]
    return {"runs": len(runs), "diverged": len(runs) - len(ends),
            "first_loss": statistics.fmean(first) if all(map(math.isfinite, first)) else None,
            "test_accuracy": statistics.fmean(ends) if ends else None,
            "lowest": min(ends, default=None), "highest": max(ends, default=None),
            "epochs_to_target": reached,
            "seconds": statistics.median(seconds) if seconds else None}


def print_table(summaries: Mapping[str, Mapping[str, Any]], target: float) -> None:
    width, to = max(map(len, ["method", *summaries])), f"epochs to {100 * target:g}%"
    row = f"{{:{width}}}  {{:>12}}  {{:>13}}  {{:>15}}  {{:>{len(to)}}}  {{:>7}}"
    print(row.format("method", "epoch 1 loss", "test accuracy", "range", to, "s/epoch"))
    for label, values in summaries.items():
        mean, low, high = (values[name] for name in ("test_accuracy", "lowest", "highest"))
        line = row.format(
            label, "-" if values["first_loss"] is None else f"{values['first_loss']:.4f}",
            "diverged" if mean is None else f"{mean:.2%}",
            "-" if mean is None else f"{low:.2%}-{high:.2%}", span(values["epochs_to_target"]),
            "-" if values["seconds"] is None else f"{values['seconds']:.2f}")
        if mean is not None and values["diverged"]:
            line += f"  ({values['diverged']} of {values['runs']} diverged)"
        print(line)


def span(epochs: list[int | None]) -> str:
    """Return the range of the numbers that are there, and "-" for those that are not."""
    numbers = sorted({n for n in epochs if n is not None})
    ends = dict.fromkeys([*numbers[:1], *numbers[-1:]])
    shown = "-".join(map(str, ends)) or "-"
    return f"{shown} or -" if numbers and None in epochs else shown


def draw(by_label: Mapping[str, list[Run]], args: argparse.Namespace,
         settings: Mapping[str, Any], name: str) -> None:
    """Draw the curves of the runs, under what they have in common."""
    histories = {label: [found.curves(settings["epochs"]) for found in runs]
                 for label, runs in by_label.items() if runs}
    optimizers = {label: make() for label, make in make_methods(args).items()}
    figure = figure_of_comparison(histories, optimizers, name, settings, momentum=args.smooth)
    with writing("--output", args.output):
        plot.save_figure(figure, args.output)
    print(f"figure: {args.output}")
