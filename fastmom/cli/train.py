"""``fastmom train``: a small network on handwritten digits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fastmom
from fastmom import data, nn
from fastmom.cli import distributed, resume
from fastmom.cli.distributed import Crew
from fastmom.cli.files import check_directory, check_targets, finite, writing
from fastmom.cli.guard import Guard, check_guard, tell
from fastmom.cli.interrupt import Interrupt
from fastmom.cli.network import (
    HYPER,
    describe,
    hyper_of,
    load_data,
    make_model,
    make_optimizer,
    one_blas_thread,
    shares,
)
from fastmom.cli.options import (
    DIVERGED,
    INTERRUPTED,
    MOMENTUM,
    NATURAL,
    OK,
    POSITIVE,
    SETTINGS,
    SHARE,
    add_options,
    file,
    option_of,
    word,
)
from fastmom.cli.outputs import LOGGERS, OUTPUTS, how_to_resume, start_log, write
from fastmom.cli.report import Recording, recorder, report
from fastmom.cli.resume import Checkpoints, Record, found
from fastmom.cli.schedules import HELP, schedule
from fastmom.extras import need
from fastmom.optim.named import NAMES
from fastmom.plot.style import SUFFIXES, new_figure

DEFAULTS: dict[str, Any] = {**SETTINGS, "optimizer": "sgd", "seed": 0, "validation_split": 0.0}
OPTIONS = (*DEFAULTS, *HYPER, "guard")      # those that decide the result
KEEP = 3
NEEDS = {"smooth": "plot", "keep": "checkpoint", "resume": "checkpoint", "timeout": "distributed"}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    train = commands.add_parser(
        "train", help="train a small network on handwritten digits",
        description="Train Flatten, Dense(ReLU), Dropout, Dense(softmax) on handwritten digits. "
                    "A training that diverges ends there, with exit status 3.",
        epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(train)
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    option = train.add_argument
    option("--optimizer", type=word(NAMES), metavar="NAME", **absent,
           help=f"{', '.join(sorted(NAMES))} (default: sgd); momentum is sgd without more than "
                "a momentum of 0.9")
    for name, help in (
            ("lr", "learning rate (default: 0.01 with SGD, else the optimizer's)"),
            ("momentum", "0 to 1; start low and raise it (default: 0.9 with SGD)")):
        either = train.add_mutually_exclusive_group()
        either.add_argument(f"--{name}", type=float, help=help, **absent)
        either.add_argument(f"--{name}-schedule", dest=name, type=schedule, metavar="SCHEDULE",
                            help="the same, changing from step to step: see below", **absent)
    option("--seed", type=NATURAL, **absent,
           help="of the weights, the dropout and the order of the samples (default: 0)")
    option("--validation-split", metavar="SHARE", type=SHARE, **absent,
           help="hold out the last so many of the training samples, and evaluate them after each "
                "epoch instead of the test set, which is left for the end (default: 0)")
    written = train.add_argument_group("files")
    option = written.add_argument
    option("--json", type=Path, metavar="FILE", help="write the metrics to this file at the end")
    option("--log", type=file(*LOGGERS), metavar="FILE",
           help=f"write them epoch by epoch to a new file: {', '.join(LOGGERS)}")
    option("--plot", type=file(*SUFFIXES), metavar="FILE",
           help=f"draw the losses and accuracies: {', '.join(SUFFIXES)}")
    option("--report", type=file(".html"), metavar="FILE.html",
           help="write losses, accuracies, effective step, and lengths and angle of velocity and "
                "gradient as a page that needs no network")
    option("--smooth", type=MOMENTUM, metavar="M",
           help="smooth the loss in it as strongly as with this momentum (default: by 2%% of "
                "the steps)")
    option("--checkpoint", type=Path, metavar="DIR",
           help="write DIR/checkpoint-00000001.npz and so on, after each epoch")
    option("--keep", type=POSITIVE, metavar="N",
           help=f"delete all but the latest N checkpoints (default: {KEEP})")
    option("--resume", action="store_const", const=True,
           help="go on from the latest whole checkpoint, to the same result as without a break: "
                "options are what they were then, but --epochs may be more; name the files to "
                "write again, they are written whole")
    option("--guard", action="store_const", const=True, **absent,
           help="do not end a training that diverges: go back to the last good weights, lower "
                "momentum, then lr, and go on, up to five times")
    distributed.add_options(train)
    train.set_defaults(run=run, parser=train)


def run(args: argparse.Namespace) -> int:
    """Train, print a line per epoch, and write the files that are asked for."""
    return distributed.run(args, train) if args.distributed else train(args, None)


def train(args: argparse.Namespace, crew: Crew | None) -> int:
    """Train alone, or as one of the ranks of a crew."""
    model, dataset, record, about = (begin(args, None) if crew is None else
                                     crew.together(lambda: begin(args, crew)))
    assert model.optimizer is not None
    if crew is not None:
        crew.join(model, record.crc32)
        about += f", {crew.ranks} rank{'s' * (crew.ranks > 1)}"
    with fastmom.num_threads(args.threads), one_blas_thread():
        print(f"{dataset.reason}\n{about}\n{settings_line(record, model.optimizer)}", flush=True)
        recording = None if args.report is None else recorder(
            record.config, shares(dataset, record.config["validation_split"])[0])
        status, diverged = fit(model, dataset, record, args, crew, recording)
        test = evaluate_test(model, dataset, record, status)
    if record.guard is not None:
        diverged["guard"] = record.guard.events
    write(args, record, model.optimizer, {**test, **diverged})
    if recording is not None:
        report(args.report, recording, [f"{dataset.reason}\n{about}", settings_line(
            record, model.optimizer)])
    if status == INTERRUPTED and args.checkpoint is not None:
        print(how_to_resume(args))
    return status


def begin(args: argparse.Namespace,
          crew: Crew | None) -> tuple[nn.Sequential, data.Dataset, Record, str]:
    """Make the model, new or from a checkpoint; raise for all that can be known to be wrong."""
    check_files(args)
    given = {name: value for name, value in vars(args).items() if name in OPTIONS}
    model = None
    if args.resume:
        model, record = resume.resumed(args.checkpoint)
        resume.check_agrees(given, record)
        record.config |= {name: given[name] for name in ("data", "epochs") if name in given}
    else:
        settings = DEFAULTS | given
        optimizer = make_optimizer(settings["optimizer"], given)
        record = Record({**settings, **hyper_of(optimizer, given)})
        if record.guard is not None:
            check_guard(optimizer, record.observers)
    record.config["threads"] = args.threads
    check_plateaus(record)
    if crew is not None:
        crew.check(record.config)
        if record.guard is not None:
            raise ValueError("--guard watches the training of one process: leave --distributed "
                             "out")
    dataset = load_data(record.config["data"])
    crc32 = resume.fingerprint(dataset) if args.checkpoint or crew is not None else 0
    about = describe(dataset, record.config)
    if model is None:
        model = make_model(record.config, dataset.x_train.shape[1:], record.config["seed"],
                           optimizer)
        record.data, record.crc32 = dataset.name, crc32
    elif crc32 != record.crc32:
        raise ValueError(f"--data {record.config['data']}: other samples than those of the "
                         f"checkpoint's training ({record.data})")
    elif record.guard is not None:
        record.guard.begin_with(make_model(
            record.config, dataset.x_train.shape[1:], record.config["seed"],
            make_optimizer(record.config["optimizer"], {})))
    if crew is not None and crew.rank:      # it has read what it needs
        args.checkpoint = None
    if args.checkpoint is not None:
        with writing("--checkpoint", args.checkpoint):
            args.checkpoint.mkdir(parents=True, exist_ok=True)
    return model, dataset, record, about


def check_files(args: argparse.Namespace) -> None:
    """Raise early what would keep them from being written, or from taking effect."""
    for option, needed in NEEDS.items():
        if getattr(args, option) is not None and getattr(args, needed) is None:
            raise ValueError(f"--{option} needs --{needed}")
    check_targets({f"--{option}": getattr(args, option) for option in OUTPUTS})
    if args.log is not None and args.log.exists() and not args.resume:
        raise ValueError(f"--log: {args.log} is there already; name another file or delete it")
    if args.plot is not None:
        new_figure(1, 1)        # says so if there is no matplotlib
    if args.report is not None:
        need("bokeh", "playground", "reports")
        if args.distributed:
            raise ValueError("--report shows the training of one process: leave --distributed out")
    if args.checkpoint is not None:
        check_directory("--checkpoint", args.checkpoint)
        if not args.resume and (there := found(args.checkpoint)):
            raise ValueError(f"--checkpoint: {there[-1]} is there already; go on from it with "
                             f"--resume, or name another directory")


def check_plateaus(record: Record) -> None:
    """Raise if a schedule follows the validation and there is none."""
    if record.observers and not record.config["validation_split"]:
        raise ValueError(f"{option_of(min(record.observers))}-schedule: ReduceOnPlateau needs "
                         f"--validation-split: it must not look at the test set")


def settings_line(record: Record, optimizer: Any) -> str:
    """Return the optimizer, the schedules that follow the validation, batch and threads."""
    schedules = [f"{name} by {type(observer.schedule).__name__}"
                 for name, observer in record.observers.items()]
    threads = fastmom.get_num_threads()
    return ", ".join([repr(optimizer), *schedules, f"batch {record.config['batch_size']}",
                      f"{threads} thread{'s' if threads > 1 else ''}"])


def fit(model: nn.Sequential, dataset: data.Dataset, record: Record, args: argparse.Namespace,
        crew: Crew | None, recording: Recording | None) -> tuple[int, dict[str, Any]]:
    """Train the epochs that are left; return the exit status, and where it has diverged."""
    config, done = record.config, len(record.epoch)
    interrupt = Interrupt() if crew is None else crew.signal
    stop = nn.TerminateOnNaN() if crew is not None else record.guard or Guard(retries=0)
    callbacks = [stop, *record.observers.values(), record, *start_log(args.log, record, model)]
    if recording is not None:
        callbacks.append(recording)
    if args.checkpoint is not None:     # the last one: it saves the state of the others
        callbacks.append(Checkpoints(args.checkpoint, args.keep or KEEP, record))
    split = config["validation_split"]
    held_out: dict[str, Any] = ({"validation_split": split} if split else
                                {"validation_data": {"test": (dataset.x_test, dataset.y_test)}})
    try:
        if done < config["epochs"]:
            model.fit(dataset.x_train, dataset.y_train, batch_size=config["batch_size"],
                      epochs=config["epochs"], initial_epoch=done,
                      callbacks=[*callbacks, interrupt], **held_out)
    except KeyboardInterrupt:
        interrupt.asked = True
    except nn.Diverged as error:
        tell(stop.diverged or (0, 0), error, record.guard is not None)
    if interrupt.asked:
        print(f"interrupted after {len(record.epoch)} of {config['epochs']} epochs")
        return INTERRUPTED, {}
    if stop.diverged is not None:
        at, step = stop.diverged
        return DIVERGED, {"diverged": {"epoch": (at or 0) + 1, "step": step + 1}}
    return OK, {}


def evaluate_test(model: nn.Sequential, dataset: data.Dataset, record: Record,
                  status: int) -> dict[str, Any]:
    """Print the test accuracy; return the metrics of the test set if the epochs have none."""
    done, test = len(record.epoch), {}
    if not record.config["validation_split"]:
        accuracy = record.history["test_accuracy"][-1] if done else None
    elif status != OK:      # in the middle of an epoch
        return {}
    else:
        metrics = model.evaluate(dataset.x_test, dataset.y_test, verbose=0, return_dict=True)
        accuracy, test = metrics["accuracy"], {"test": finite(metrics)}
    if accuracy is not None:
        print(f"test accuracy {accuracy:.2%} after epoch {done}")
    return test
