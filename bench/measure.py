"""Everything that can be measured, in one file: ``python -m bench.peers --output DIR``.

Writes ``DIR/results.json`` with all raw seconds and the machine, ``DIR/report.md`` with tables, and
figures. The sections:

steps       a step of SGD and AdamW, with and without clipping, in every library
bandwidth   what memory gives by what is worked on, and what each optimizer's step takes of it
threads     a step, and memory's bandwidth, by the number of threads
engine      the engine against its targets: `bench.engine`
optimizers  every optimizer against NumPy and PyTorch: `bench.optimizers`
epoch       a training epoch on MNIST in every library: `bench.epoch`
accuracy    test accuracy on MNIST with and without momentum: `bench.accuracy`

Sections that are not asked for stay as they are in results.json; with ``--sections`` and no name
the report and the figures are made anew from what is there. Candidates take turns, in processes of
their own where they are other libraries. A peer may have an interpreter of its own (``--python
torch=/path/to/python``), which needs NumPy and this directory's files; torch's also runs engine and
optimizers, so it must be able to import fastmom's compiled modules. What is missing is named with
the reason.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import accuracy, bandwidth, epoch, steps, results as stored
from bench.acceptance import print_table
from bench.report import write_report

ROOT = Path(__file__).resolve().parents[1]
LARGEST, QUICK_LARGEST = 2 * 10**8, 10**6       # elements


def in_torch(module: str, args: argparse.Namespace, *options: str) -> Any:
    """What a script that compares with PyTorch in its own process finds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        subprocess.run([args.python.get("torch", sys.executable), "-m", module, "--rounds",
                        str(args.rounds), "--json", str(file), *options], cwd=ROOT, check=True)
        return json.loads(file.read_text())


def run_steps(args: argparse.Namespace) -> dict[str, Any]:
    return steps.measure(args.rounds, args.largest, args)


def run_bandwidth(args: argparse.Namespace) -> dict[str, Any]:
    worked_on = min(bandwidth.LARGEST, 8 * args.largest)
    return {"kernels": bandwidth.by_working_set(args.rounds, worked_on),
            "optimizers": bandwidth.by_optimizer(args.rounds, args.largest)}


def run_threads(args: argparse.Namespace) -> dict[str, Any]:
    return {"rows": bandwidth.by_threads(args.rounds, args.largest)}


def run_engine(args: argparse.Namespace) -> dict[str, Any]:
    return {"rows": in_torch("bench.engine", args, *(["--only", "small"] if args.quick else []))}


def run_optimizers(args: argparse.Namespace) -> dict[str, Any]:
    return {"rows": in_torch("bench.optimizers", args, *(["--large"] if args.quick else []))}


def run_epoch(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = epoch.write_data(folder)
        models = ["article"] if args.quick else epoch.MODELS
        return {"data": source, "models": {model: epoch.measured(model, folder, args)
                                           for model in models}}


def run_accuracy(args: argparse.Namespace) -> dict[str, Any]:
    return {"rows": accuracy.measure(args)}


SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "steps": run_steps, "bandwidth": run_bandwidth, "threads": run_threads, "engine": run_engine,
    "optimizers": run_optimizers, "epoch": run_epoch, "accuracy": run_accuracy}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """A section; None, with the reason printed, if something that all of it needs is missing."""
    print(f"\n{name}", flush=True)
    start, load = datetime.now(UTC), stored.load_average()
    try:
        content = SECTIONS[name](args)
    except (OSError, subprocess.CalledProcessError, SystemExit) as error:
        print(f"{name} is skipped: {error}")
        return None
    seconds = (datetime.now(UTC) - start).total_seconds()
    print(f"{name}: {seconds:.0f} s", flush=True)
    return {"measured": start.isoformat(timespec="seconds"), "took": seconds,
            "rounds": args.rounds, "quick": args.quick, "load_before": load,
            "load_after": stored.load_average(), "machine": stored.machine(), **content}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR")
    add("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    add("--rounds", type=int, default=5, help="measurements of each candidate (default: 5)")
    add("--quick", action="store_true",
        help="small sizes, the article's epoch and few rows of engine: does it work at all?")
    families = epoch.families() | {system.module for system in steps.SYSTEMS.values()}
    add("--python", type=functools.partial(epoch.pair, allowed=families), action="append",
        default=[], metavar="SYSTEM=PATH", help="the interpreter of a peer (default: this one)")
    add("--node", default="node", metavar="PATH")
    add("--node-modules", type=Path, default=Path("node_modules"), metavar="DIR")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    args.python = dict(args.python)
    args.largest = QUICK_LARGEST if args.quick else LARGEST
    args.only, args.budget = None, 20.0     # bench.epoch's
    return args


def main() -> None:
    args = arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "results.json"
    results = stored.load(file) if file.exists() else {}
    for name in args.sections:
        measured = measure(name, args)
        if measured is None:
            continue
        results[name] = measured
        stored.save(file, {key: results[key] for key in SECTIONS if key in results})
    write_report(results, args.output)
    print_table(results)
    print(f"\nwritten: {file}, {args.output / 'report.md'} and figures")


if __name__ == "__main__":
    main()
