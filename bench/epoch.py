"""A training epoch on MNIST, fastmom and its peers in one run: ``python -m bench.epoch``.

Two networks, trained by SGD with lr 0.01, Nesterov momentum 0.9 and decay 1e-6 in float32 on 60,000
samples in a new order each epoch: "article", 784-128-10 with dropout 0.2 and batches of 32, and
"wide", 784-512-512-10 without dropout and batches of 128. Each system is a process of its own that
warms up for an epoch and then runs one whenever it is its turn; the others sleep. A system with
several variants (threads, implementations) counts with its fastest. The ratio is of minima. Beside
them stand the loss of the first epoch and the test accuracy after the last, which show that all
train the same. "sgemm" is the matrix products of an epoch and nothing else, in NumPy's BLAS, so
that its ratio is the share of the products' nominal operations per second that fastmom reaches.

Threads that spin where other programs want the cores can take twenty times as long: what the
others used is printed below the table, and the minimum counts.

A system that is not installed is listed with the reason. Peers may have interpreters of their own
(``--python torch=/path/to/python``), which need NumPy and this directory's files, not fastmom;
TensorFlow.js needs Node and ``--node-modules DIR`` with @tensorflow/tfjs and
@tensorflow/tfjs-backend-wasm.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Set
from pathlib import Path
from typing import Any, NamedTuple

from bench.results import load_average, machine
from bench.timing import Load, Record, Worker, take_turns
from bench.peers.task import Setting, Task
from fastmom import data

ROOT = Path(__file__).resolve().parents[1]


class System(NamedTuple):
    """Which worker module runs it, and in which environments, each a process of its own."""

    module: str
    environments: dict[str, dict[str, str]]


ONE_TF_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
SYSTEMS = {
    "fastmom": System("fastmom", {"": {}}),
    "sgemm": System("sgemm", {"": {}}),
    "torch": System("torch", {"": {}}),
    "keras-tensorflow": System("keras", {"": TENSORFLOW, "1 thread": TENSORFLOW | ONE_TF_THREAD}),
    "keras-jax": System("keras", {"": {"KERAS_BACKEND": "jax"}}),
    "sklearn": System("sklearn", {"": {}}),
    "jax": System("jax", {"": {}}),
    "tfjs": System("tfjs", {"": {}}),
}
HYPER: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "decay": 1e-6, "seed": 0}
MODELS: dict[str, dict[str, Any]] = {
    "article": {"hidden": [128], "dropout": 0.2, "batch": 32},
    "wide": {"hidden": [512, 512], "dropout": 0.0, "batch": 128},
}
# Seconds of the peer over ours, at least
TARGETS: dict[str, dict[str, float]] = {
    "article": {"torch": 5, "keras-tensorflow": 10, "sklearn": 5, "jax": 2, "tfjs": 25},
    "wide": {"torch": 1.2, "sgemm": 0.7},       # sgemm: share of its rate
}
DEFAULT_SYSTEMS = {"article": list(SYSTEMS), "wide": ["fastmom", "sgemm", "torch"]}


# Measuring ----------------------------------------------------------------------------------------

def command(name: str, setting: str, args: argparse.Namespace) -> list[str]:
    if name == "tfjs":
        return [args.node, "bench/workers/tfjs.mjs", str(args.node_modules.resolve()),
                setting]
    family = name.partition("-")[0]
    python = args.python.get(name, args.python.get(family, sys.executable))
    return [python, "-m", "bench.peers", "epoch", SYSTEMS[name].module, setting]


def setting_of(model: str, folder: Path) -> Setting:
    return Setting(data=str(folder), **MODELS[model], **HYPER)


def write_data(folder: Path) -> str:
    """MNIST as plain bytes, which every language reads; returns where it came from."""
    try:
        mnist = data.load("mnist")
    except data.DataError as error:
        raise SystemExit(f"MNIST is needed; FASTMOM_DATA names its directory: {error}") from None
    for part in ("x_train", "y_train", "x_test", "y_test"):
        getattr(mnist, part).tofile(folder / part)
    return mnist.reason


def measure(model: str, names: list[str], folder: Path,
            args: argparse.Namespace) -> tuple[list[Record], dict[str, str], Load]:
    """What each variant took, the systems that are missing and why, and who disturbed."""
    setting = json.dumps(setting_of(model, folder)._asdict())
    records: list[Record] = []
    missing: dict[str, str] = {}
    workers: list[Worker] = []
    try:
        for name in names:
            for label, environment in SYSTEMS[name].environments.items():
                worker = Worker(command(name, setting, args), ROOT, environment)
                workers.append(worker)
                if worker.missing:
                    missing[name] = worker.missing
                for variant in worker.variants:
                    records.append(Record(worker, variant, name, label))
        return records, missing, take_turns(records, args.rounds, args.budget)
    finally:
        for worker in workers:
            if not worker.missing:
                worker.close()


def measured(model: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All there is to know about one of the networks; also printed."""
    records, missing, load = measure(model, args.only or DEFAULT_SYSTEMS[model], folder, args)
    rows = rows_of(model, records)
    report(model, rows, missing, load)
    return {**MODELS[model], "rows": rows, "missing": missing, "cores_of_waiting": load.waiting}


# Reporting ----------------------------------------------------------------------------------------

def rows_of(model: str, records: list[Record]) -> list[dict[str, Any]]:
    """The figures of each variant; the fastest of a system has the target and the verdict."""
    rows = [row_of(record) for record in records]
    timed = [row for row in rows if "min" in row]
    best = {row["system"]: row for row in sorted(timed, key=lambda row: -row["min"])}
    if "fastmom" not in best:
        return rows
    for row in timed:
        row["ratio"] = row["min"] / best["fastmom"]["min"]
        target = TARGETS[model].get(row["system"])
        if target is not None and row is best[row["system"]]:
            row |= {"target": target, "met": row["ratio"] >= target}
    return rows


def row_of(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {
        "system": record.system, "variant": record.variant, "versions": record.worker.versions,
        "note": record.error or record.worker.note, "seconds": record.seconds,
        "cores_of_others": record.strangers[1:], "first_loss": record.warm_up.get("loss"),
        "test_accuracy": record.accuracy}
    if record.seconds and not record.error:
        row |= {"min": min(record.seconds), "median": statistics.median(record.seconds),
                "spread": max(record.seconds) / min(record.seconds) - 1}
    if "gflops" in record.warm_up:      # the best of each product
        row["gflops"] = {what: max(answer["gflops"][what] for answer in record.answers)
                         for what in record.warm_up["gflops"]}
    return row


# Column: its width, its format, and its key
COLUMNS: dict[str, tuple[int, str, str]] = {
    "system": (17, "", "system"), "variant": (22, "", "variant"), "min s": (7, ".3f", "min"),
    "median": (7, ".3f", "median"), "spread": (7, ".0%", "spread"), "ratio": (6, ".2f", "ratio"),
    "target": (6, "g", "target"), "met": (4, "", "met"), "loss 1": (7, ".4f", "first_loss"),
    "accuracy": (8, ".2%", "test_accuracy"), "epochs": (6, "", "epochs"), "note": (0, "", "note")}


def line_of(row: dict[str, Any]) -> str:
    shown = row | {"epochs": len(row["seconds"]) + 1}
    if "met" in row:
        shown["met"] = "yes" if row["met"] else "NO"
    cells = []
    for width, form, key in COLUMNS.values():
        value = shown.get(key)
        text = "" if value is None else format(value, form)
        cells.append(f"{text:<{width}}" if form == "" else f"{text:>{width}}")
    return "  ".join(cells).rstrip()


def heading(model: str) -> str:
    chosen = MODELS[model]
    sizes = "-".join(map(str, [784, *chosen["hidden"], 10]))
    return f"\n{model}: {sizes}, dropout {chosen['dropout']:g}, batch {chosen['batch']}"


def report(model: str, rows: list[dict[str, Any]], missing: dict[str, str], load: Load) -> None:
    print(heading(model))
    print("  ".join(f"{name:<{width}}" if form == "" else f"{name:>{width}}"
                    for name, (width, form, _) in COLUMNS.items()))
    for row in rows:
        print(line_of(row))
    for row in rows:
        if "gflops" in row:
            rates = ", ".join(f"{what} {rate:.0f}" for what, rate in row["gflops"].items())
            print(f"GFLOP/s with {row['variant']}: {rates}")
    for name, why in missing.items():
        print(f"{name} is missing: {why}")
    if load.waiting:
        print(f"cores used during a turn by those that wait: {load.summary(load.waiting)}; by "
              f"other programs: {load.summary(load.strangers)}", flush=True)


def families() -> set[str]:
    """Whose interpreter can be named."""
    return {*SYSTEMS, *(name.partition("-")[0] for name in SYSTEMS)} - {"tfjs"}


def pair(text: str, allowed: Set[str] | None = None) -> tuple[str, str]:
    allowed = allowed or families()
    name, _, path = text.partition("=")
    if name not in allowed or not path:
        raise argparse.ArgumentTypeError(f"must be SYSTEM=PATH, with one of "
                                         f"{', '.join(sorted(allowed))}, not {text!r}")
    return name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=7, help="epochs of each variant (default: 7)")
    add("--budget", type=float, default=60, metavar="SECONDS",
        help="a variant that took so long sits out, after two rounds (default: 60)")
    add("--model", choices=MODELS, help="one of the networks (default: both)")
    add("--only", nargs="+", choices=SYSTEMS, help="these systems (default: all that are compared)")
    add("--python", type=pair, action="append", default=[], metavar="SYSTEM=PATH",
        help="the interpreter of a peer (default: this one)")
    add("--node", default="node", metavar="PATH")
    add("--node-modules", type=Path, default=Path("node_modules"), metavar="DIR")
    add("--share", action="store_true", help="only where fastmom's own time goes")
    add("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"--json: there is no directory {args.json.parent}")
    args.python = dict(args.python)
    content: dict[str, Any] = {"machine": machine() | {"load_average": load_average()},
                               "hyper": HYPER}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(write_data(folder))
        for model in [args.model] if args.model else MODELS:
            if args.share:
                from bench.epoch_share import share  # it knows the model's insides
                print(heading(model))
                content[model] = share(Task(setting_of(model, folder)), args.rounds)
                continue
            content[model] = measured(model, folder, args)
    if args.json:
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
