"""``fastmom tune``: find learning rate and momentum for the network of ``fastmom train``."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import Any

import fastmom
from fastmom import plot
from fastmom.cli.files import check_targets, write_json, writing
from fastmom.cli.network import describe, load_data, make_model, make_optimizer, one_blas_thread
from fastmom.cli.options import (
    DIVERGED,
    INTERRUPTED,
    MOMENTUM,
    NATURAL,
    OK,
    POSITIVE,
    SETTINGS,
    add_options,
    file,
    number,
    option_of,
)
from fastmom.plot.style import SUFFIXES, new_figure
from fastmom.tuning import LRS, MOMENTA, AllDiverged, tune

ABOVE = number(float, lambda x: 0 < x < math.inf, "a finite number above 0")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "tune", help="find learning rate and momentum",
        description="Train the network of fastmom train with many pairs of learning rate and "
                    "momentum, in several processes, and give up the hopeless ones early. Print "
                    "the best pair with the reason, and draw the map. Pairs are compared on a "
                    "share of the training samples; the test set is not looked at.")
    option = command.add_argument
    for name, kind, values in ("lr", ABOVE, LRS), ("momentum", MOMENTUM, MOMENTA):
        option(f"--{name}", nargs="+", type=kind, default=values, metavar=name[0].upper(),
               help=f"(default: {' '.join(f'{value:.3g}' for value in values)})")
    add_options(command, epochs=1)
    option("--seconds", type=ABOVE, help="time budget: the training of each pair is cut to what "
           "seems to fit, and the best so far wins when the time is up")
    option("--processes", type=POSITIVE, help="train so many pairs at a time (default: one per "
           "thread)")
    option("--seed", type=NATURAL, default=0, help="(default: 0)")
    option("--output", type=file(*SUFFIXES), default=Path("tune.png"), metavar="FILE",
           help=f"the map, {', '.join(SUFFIXES)} (default: tune.png)")
    option("--json", type=Path, metavar="FILE", help="write all pairs to this file")
    command.set_defaults(run=run, parser=command)


def run(args: argparse.Namespace) -> int:
    """Search, print the pair and how to train with it, and write the files."""
    check_targets({"--output": args.output, "--json": args.json})
    new_figure(1, 1)            # says so if there is no matplotlib
    given = {name: value for name, value in vars(args).items() if name in SETTINGS}
    settings = SETTINGS | {"epochs": 1} | given
    hyper = {name: getattr(args, name) for name in ("nesterov", "decay", "weight_decay")
             if hasattr(args, name)}
    optimizer = make_optimizer("sgd", hyper)
    dataset = load_data(settings["data"])
    model = make_model(settings, dataset.x_train.shape[1:], args.seed, optimizer)
    with fastmom.num_threads(args.threads), one_blas_thread():
        print(f"{dataset.reason}\n{describe(dataset, settings)}", flush=True)
        try:
            found = tune(model, dataset.x_train, dataset.y_train, lr=args.lr,
                         momentum=args.momentum, epochs=settings["epochs"],
                         batch_size=settings["batch_size"], seconds=args.seconds,
                         processes=args.processes, seed=args.seed)
        except AllDiverged as error:
            print(error)
            return DIVERGED
    if found.ended:
        print(f"{found.ended}: this is the best so far")
    print(f"lr {found.lr:.3g}, momentum {found.momentum:g}: {found.reason}")
    print(f"cost: {found.cost:.0%} of training all {len(found.trials)} pairs on "
          f"{found.budget:,} samples")
    words = ["fastmom", "train", "--lr", f"{found.lr:.6g}", "--momentum", f"{found.momentum:g}"]
    for name, value in given.items():
        if name != "epochs":
            words += [option_of(name), *(value if isinstance(value, list) else [value])]
    for name, value in hyper.items():
        words += ([f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else
                  [option_of(name), value])
    print(f"train with it: {shlex.join(map(str, words))}")
    figure = plot.plot_tuning(found)
    with writing("--output", args.output):
        plot.save_figure(figure, args.output)
    print(f"figure: {args.output}")
    if args.json is not None:
        write_json(args.json, {"data": dataset.name, "config": settings, **found.to_dict()})
    return INTERRUPTED if found.ended == "interrupted" else OK
