"""Measure fastmom and its peers, and write the results and their report.

The sections, all if none is named:

SECTIONS

With --output DIR the results go to DIR/results.json, beside those of other sections that are there,
and the report and its figures are made anew. Each peer runs in processes of its own, by default
with this interpreter; with --python NAME=PATH one needs NumPy and its library there, not fastmom.
What is missing is named with the reason.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import accuracy, epoch, memory, penalties, results, steps
from bench.peers import PEERS, TOGETHER
from bench.report import CHAPTERS, write_report
from bench.results import Results

LARGEST, QUICK_LARGEST = 2 * 10**8, 10**6       # elements

# Section, what it is, and what measures it
SECTIONS: dict[str, tuple[str, Callable[[argparse.Namespace], Results]]] = {
    "steps": ("a step of SGD and AdamW, with and without clipping", steps.measure_main),
    "optimizers": ("a step of every optimizer", steps.measure_all),
    "bandwidth": ("what memory gives, and what each step takes of it", memory.measure_bandwidth),
    "threads": ("a step, and memory's bandwidth, by the number of threads",
                memory.measure_threads),
    "penalties": ("subnormal velocities, and the import", penalties.measure),
    "epoch": ("a training epoch on MNIST", epoch.measure),
    "accuracy": ("test accuracy on MNIST with and without momentum", accuracy.measure)}
ABOUT = "\n".join(f"{name:12}{text}" for name, (text, _) in SECTIONS.items())
__doc__ = (__doc__ or "").replace("SECTIONS", ABOUT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    add("--output", type=Path, metavar="DIR")
    add("--rounds", type=int, default=4,
        help="measurements of each candidate; of most steps, processes (default: %(default)s)")
    add("--quick", action="store_true",
        help="small sizes and the article's network alone: does it work at all?")
    add("--python", type=interpreter, action="append", default=[], metavar="PEER=PATH",
        help="the interpreter of a peer (default: this one)")
    add("--node", default="node", metavar="PATH")
    add("--node-modules", type=Path, default=Path("node_modules"), metavar="DIR",
        help="with @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm")


def interpreter(text: str) -> tuple[str, str]:
    """Return a peer or its family, and the path."""
    families = {peer.file.removeprefix("on_") for peer in PEERS.values()}
    names = {TOGETHER, *PEERS, *families} - {"tfjs.mjs"}
    name, _, path = text.partition("=")
    if name not in names or not path:
        raise argparse.ArgumentTypeError(f"must be PEER=PATH, with one of "
                                         f"{', '.join(sorted(names))}, not {text!r}")
    return name, path


def measure(name: str, args: argparse.Namespace) -> Results | None:
    """Return a section; None, with the reason printed, if it cannot be measured here."""
    print(f"\n{name}", flush=True)
    start, load = datetime.now(UTC), results.load_average()
    machine = results.machine()         # first: it may fail, and measuring takes minutes
    try:
        content = SECTIONS[name][1](args)
    except (OSError, subprocess.CalledProcessError, SystemExit) as error:
        print(f"{name} is skipped: {error}")
        return None
    seconds = (datetime.now(UTC) - start).total_seconds()
    print(f"{name}: {seconds:.0f} s", flush=True)
    return {"measured": start.isoformat(timespec="seconds"), "took": seconds,
            "rounds": args.rounds, "quick": args.quick, "load_before": load,
            "load_after": results.load_average(), "machine": machine, **content}


def run(args: argparse.Namespace) -> int:
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown or args.rounds < 1:
        print(f"no section is called {unknown[0]!r}; there are {', '.join(SECTIONS)}" if unknown
              else "--rounds must be at least 1", file=sys.stderr)
        return 2
    args.python, args.largest = dict(args.python), QUICK_LARGEST if args.quick else LARGEST
    file = args.output and args.output / "results.json"
    found = results.load(file) if file and file.exists() else {}
    for name in args.sections or SECTIONS:
        measured = measure(name, args)
        if measured is None:
            continue
        print(f"\n{CHAPTERS[name].text(measured)}", flush=True)
        found[name] = measured
        if file:
            args.output.mkdir(parents=True, exist_ok=True)
            results.save(file, {key: found[key] for key in SECTIONS if key in found})
    if file:
        write_report(found, args.output)
        print(f"\nwritten: {file}, {args.output / 'report.md'} and figures")
    return 0
