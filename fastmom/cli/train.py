"""``fastmom train``: a small network on handwritten digits."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastmom
from fastmom import data, nn
from fastmom.cli.experiment import (
    HYPER,
    SETTINGS,
    HeldOutIsTest,
    Interrupt,
    add_options,
    finite,
    hyper_of,
    load_data,
    make_model,
    make_optimizer,
    one_blas_thread,
)
from fastmom.cli.options import INTERRUPTED, OK, POSITIVE, check_target, file, number
from fastmom.cli.schedules import HELP, schedule
from fastmom.cli.training import (
    LOGGERS,
    Checkpoints,
    Log,
    Plateaus,
    Record,
    check_agrees,
    check_directory,
    fingerprint,
    found,
    resumed,
)
from fastmom.nn.callbacks import CallbackList
from fastmom.optim import OPTIMIZERS
from fastmom.optim.schedules import ReduceOnPlateau
from fastmom.plot.style import SUFFIXES, new_figure

DEFAULTS: dict[str, Any] = {**SETTINGS, "optimizer": "sgd", "seed": 0, "validation_split": 0.0}
KEEP, SMOOTH = 3, 0.9
OUTPUTS = "json", "log", "plot"
NEEDS = {"smooth": "plot", "keep": "checkpoint", "resume": "checkpoint"}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    train = commands.add_parser(
        "train", help="train a small network on handwritten digits", allow_abbrev=False,
        description="Train Flatten, Dense(ReLU), Dropout, Dense(softmax) on handwritten digits.",
        epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(train)
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    option = train.add_argument
    option("--optimizer", choices=sorted(OPTIMIZERS), help="default: sgd", **absent)
    for name, help in (
            ("lr", "learning rate (default: 0.01 with SGD, else the optimizer's)"),
            ("momentum", "0 to 1; start low and raise it (default: 0.9 with SGD)")):
        either = train.add_mutually_exclusive_group()
        either.add_argument(f"--{name}", type=float, help=help, **absent)
        either.add_argument(f"--{name}-schedule", dest=name, type=schedule, metavar="SCHEDULE",
                            help="the same, changing from step to step: see below", **absent)
    option("--seed", type=number(int, lambda n: n >= 0, "an integer >= 0"), **absent,
           help="of the weights, the dropout and the order of the samples (default: 0)")
    option("--validation-split", metavar="SHARE", **absent,
           type=number(float, lambda x: 0 <= x < 1, "a number from 0 to below 1"),
           help="hold out the last so many of the training samples, and evaluate them after each "
                "epoch instead of the test set, which is left for the end (default: 0)")
    written = train.add_argument_group("files")
    option = written.add_argument
    option("--json", type=Path, metavar="FILE", help="write the figures to this file at the end")
    option("--log", type=file(*LOGGERS), metavar="FILE",
           help=f"write them epoch by epoch: {', '.join(LOGGERS)}")
    option("--plot", type=file(*SUFFIXES), metavar="FILE",
           help=f"draw the losses and accuracies: {', '.join(SUFFIXES)}")
    option("--smooth", type=number(float, lambda m: 0 <= m <= 1, "a number from 0 to 1"),
           metavar="M", help=f"momentum of the smoothed loss in it (default: {SMOOTH})")
    option("--checkpoint", type=Path, metavar="DIR",
           help="write DIR/checkpoint-00000001.npz and so on, after each epoch")
    option("--keep", type=POSITIVE, metavar="N",
           help=f"delete all but the latest N checkpoints (default: {KEEP})")
    option("--resume", action="store_const", const=True,
           help="go on from the latest whole checkpoint, to the same result as without a break: "
                "options are what they were then, but --epochs may be more; name the files to "
                "write again, they are written whole")
    train.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, print a line per epoch, and write the files that are asked for."""
    check_files(args)
    given = {name: value for name, value in vars(args).items() if name in (*DEFAULTS, *HYPER)}
    model = None
    if args.resume:
        model, record = resumed(args.checkpoint)
        check_agrees(given, record)
        record.config |= {name: given[name] for name in ("data", "epochs") if name in given}
        assert model.optimizer is not None
        optimizer = model.optimizer
    else:
        settings = DEFAULTS | given
        optimizer = make_optimizer(settings["optimizer"], given)
        record = Record({**settings, **hyper_of(optimizer)})
    record.config["threads"] = args.threads
    plateaus = find_plateaus(optimizer, record.config)
    dataset = load_data(record.config["data"])
    seal = fingerprint(dataset) if args.checkpoint else 0
    if model is None:
        model = make_model(record.config, dataset.x_train.shape[1:], record.config["seed"],
                           optimizer)
        record.data, record.seal = dataset.name, seal
    elif seal != record.seal:
        raise ValueError(f"--data {record.config['data']}: other samples than those of the "
                         f"checkpoint's training ({record.data})")
    if args.checkpoint is not None:
        args.checkpoint.mkdir(parents=True, exist_ok=True)
    with fastmom.num_threads(args.threads), one_blas_thread():
        threads = fastmom.get_num_threads()
        print(dataset.reason)
        print(f"{optimizer!r}, batch {record.config['batch_size']}, "
              f"{sum(p.size for p in model.params):,} parameters, {threads} "
              f"thread{'s' if threads > 1 else ''}", flush=True)
        renaming = [] if record.config["validation_split"] else [HeldOutIsTest()]
        callbacks = [*plateaus, *renaming, record]
        if args.checkpoint is not None:
            callbacks.append(Checkpoints(args.checkpoint, args.keep or KEEP, record))
        if args.log is not None:
            callbacks.append(Log(args.log, record))
        interrupted = fit(model, dataset, record, callbacks)
        test = test_figures(model, dataset, record, interrupted)
    write(args, record, optimizer, test)
    if interrupted and args.checkpoint is not None:
        print(how_to_resume(args))
    return INTERRUPTED if interrupted else OK


def check_files(args: argparse.Namespace) -> None:
    """Raise early what would keep them from being written, or from taking effect."""
    for option, needed in NEEDS.items():
        if getattr(args, option) is not None and getattr(args, needed) is None:
            raise ValueError(f"--{option} needs --{needed}")
    targets: dict[Path, str] = {}
    for option in OUTPUTS:
        if (path := getattr(args, option)) is not None:
            check_target(f"--{option}", path)
            if (other := targets.setdefault(path.resolve(), option)) != option:
                raise ValueError(f"--{option}: {path} is the file of --{other}")
    if args.plot is not None:
        new_figure(1, 1)        # says so if there is no matplotlib
    if args.checkpoint is not None:
        check_directory(args.checkpoint)
        if not args.resume and (there := found(args.checkpoint)):
            raise ValueError(f"--checkpoint: {there[-1]} is there already; go on from it with "
                             f"--resume, or name another directory")


def find_plateaus(optimizer: Any, config: Mapping[str, Any]) -> list[nn.Callback]:
    """What lets schedules that follow a figure observe it."""
    schedules = {name: getattr(optimizer, name, None) for name in ("lr", "momentum")}
    found = {n: s for n, s in schedules.items() if isinstance(s, ReduceOnPlateau)}
    if found and not config["validation_split"]:
        raise ValueError(f"--{min(found)}-schedule: reduce-on-plateau needs --validation-split: it "
                         f"must not look at the test set")
    return [Plateaus(list(found.values()))] if found else []


def fit(model: nn.Sequential, dataset: data.Dataset, record: Record,
        callbacks: list[nn.Callback]) -> bool:
    """Train the epochs that are left; return whether Ctrl-C was pressed."""
    config, done = record.config, len(record.epochs)
    split, interrupt = config["validation_split"], Interrupt()
    held_out: dict[str, Any] = ({"validation_split": split} if split else
                                {"validation_data": (dataset.x_test, dataset.y_test)})
    try:
        if done < config["epochs"]:
            model.fit(dataset.x_train, dataset.y_train, batch_size=config["batch_size"],
                      epochs=config["epochs"], initial_epoch=done,
                      callbacks=[*callbacks, interrupt], **held_out)
        else:       # all is trained: the files are written again
            with CallbackList(callbacks, model, {}):
                pass
    except KeyboardInterrupt:
        interrupt.asked = True
    if interrupt.asked:
        print(f"interrupted after {len(record.epochs)} of {config['epochs']} epochs")
    return interrupt.asked


def test_figures(model: nn.Sequential, dataset: data.Dataset, record: Record,
                 interrupted: bool) -> dict[str, Any]:
    """Print the test accuracy; return what has not been in the epochs."""
    done, test = len(record.epochs), {}
    if not record.config["validation_split"]:
        accuracy = record.epochs[-1]["test_accuracy"] if done else None
    elif interrupted:       # in the middle of an epoch
        return {}
    else:
        figures = model.evaluate(dataset.x_test, dataset.y_test, verbose=0, return_dict=True)
        accuracy, test = figures["accuracy"], {"test": finite(figures)}
    if accuracy is not None:
        print(f"test accuracy {accuracy:.2%} after epoch {done}")
    return test


def write(args: argparse.Namespace, record: Record, optimizer: Any, test: dict[str, Any]) -> None:
    """The files that are written at the end."""
    if args.json is not None:
        record.write(args.json, **test)
    if args.plot is not None and record.epochs:
        record.draw(args.plot, repr(optimizer), SMOOTH if args.smooth is None else args.smooth)
        print(f"figure: {args.plot}")
    elif args.plot is not None:
        print(f"no figure {args.plot}: no epoch is whole")


def how_to_resume(args: argparse.Namespace) -> str:
    if not (saved := found(args.checkpoint)):
        return "no checkpoint: no epoch is whole"
    words = ["fastmom", "train", "--checkpoint", args.checkpoint, "--resume"]
    for option in ("threads", *OUTPUTS, "smooth", "keep"):
        if getattr(args, option) is not None:
            words += [f"--{option}", getattr(args, option)]
    return f"saved: {saved[-1]}; go on with: {shlex.join(map(str, words))}"
