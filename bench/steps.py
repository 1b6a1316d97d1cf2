"""One step in each library, each a process of its own that takes turns; used by `bench.peers`."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.timing import Record, Worker, take_turns
from bench.peers.task import Case
from bench.workloads import LISTS, Shapes

ROOT = Path(__file__).resolve().parents[1]
SETTLE = 0.03       # seconds between turns; a measurement takes about as long
BUDGET = 20.0       # seconds per step: longer and the variant sits out after two rounds
CLIP = 1.0
ARRAYS = {"sgd": 3, "adamw": 4}     # parameters, gradients and state
COPIES = 9          # of a case's arrays, in all workers together, with what they allocate besides


class System(NamedTuple):
    module: str
    environment: dict[str, str]


SYSTEMS = {
    "fastmom": System("fastmom", {}),
    "fastmom, 1 thread": System("fastmom", {"OMP_NUM_THREADS": "1"}),
    "NumPy": System("numpy", {}),
    "torch": System("torch", {}),
    "jax": System("jax", {}),
    "numba": System("numba", {}),
}
ONE_ARRAY: dict[str, Shapes] = {f"1 x 10^{power}": [(10**power,)] for power in range(1, 9)}
WORKLOADS = ONE_ARRAY | {name: LISTS[name]
                         for name in ("MNIST MLP", "200 x 1,000", "ResNet-50", "GPT-2")}


def cases(largest: int) -> Iterator[tuple[str, Case]]:
    for name, shapes in WORKLOADS.items():
        if sum(map(math.prod, shapes)) <= largest:
            for rule in ARRAYS:
                for clip in (None, CLIP):
                    yield name, Case([list(shape) for shape in shapes], rule, clip)


def available_bytes() -> float:
    """Memory that may be used; infinity where nothing tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def start(args: argparse.Namespace) -> tuple[dict[str, Worker], dict[str, str]]:
    """The workers, and the systems that are missing and why."""
    workers, missing = {}, {}
    for name, system in SYSTEMS.items():
        python = args.python.get(system.module, sys.executable)
        worker = Worker([python, "-m", "bench.peers", "step", system.module], ROOT,
                        system.environment)
        if worker.missing:
            missing[name] = worker.missing
        else:
            workers[name] = worker
    return workers, missing


def measure_case(case: Case, workers: dict[str, Worker], rounds: int) -> dict[str, Any]:
    """Seconds of each variant in each round."""
    elements = sum(map(math.prod, case.shapes))
    row: dict[str, Any] = {"rule": case.rule, "clip": case.clip, "tensors": len(case.shapes),
                           "elements": elements}
    needed = COPIES * ARRAYS[case.rule] * 4 * elements
    available = available_bytes()
    if needed > available:
        return row | {"skipped": f"needs about {needed / 1e9:.0f} GB of memory and "
                                 f"{available / 1e9:.0f} GB were free"}
    records, errors = [], {}
    for name, worker in workers.items():
        prepared = worker.ask("prepare", case._asdict())
        if "error" in prepared:
            errors[name] = prepared["error"]
        records += [Record(worker, variant, name, "", "step")
                    for variant in prepared.get("variants", [])]
    load = take_turns(records, rounds, BUDGET, SETTLE)
    for worker in workers.values():
        worker.ask("drop", None)
    seconds = {f"{record.system} {record.request}".strip(): record for record in records}
    errors |= {name: record.error for name, record in seconds.items() if record.error}
    return row | {"seconds": {name: record.seconds for name, record in seconds.items()
                              if not record.error},
                  "errors": errors,
                  "cores_of_waiting": statistics.mean(load.waiting),
                  "cores_of_others": statistics.mean(load.strangers)}


def measure(rounds: int, largest: int, args: argparse.Namespace) -> dict[str, Any]:
    workers, missing = start(args)
    versions = {name: worker.versions for name, worker in workers.items()}
    for name, why in missing.items():
        print(f"{name} is missing: {why}")
    rows = []
    try:
        for workload, case in cases(largest):
            row = {"workload": workload} | measure_case(case, workers, rounds)
            rows.append(row)
            best = "  ".join(f"{name} {1e6 * min(s):,.2f}"
                             for name, s in row.get("seconds", {}).items())
            print(f"{workload}, {case.rule}{', clipped' if case.clip else ''}, us: "
                  f"{best}{row.get('skipped', '')}", flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    return {"rows": rows, "versions": versions, "missing": missing}
