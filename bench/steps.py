"""A step in every library, each in a process of its own that takes turns with the others.

Two sections: "steps", SGD and AdamW over every list of tensors, with and without clipping, and
"optimizers", every optimizer over two lists. Peers that have an optimizer of the same name step
with the same hyper-parameters: the defaults, and momentum 0.9 for SGD.
"""

from __future__ import annotations

import math
import statistics
from argparse import Namespace
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.peers import PEERS, label, start
from bench.results import Results, Seconds, Target, duration, ratio, table, targets_table
from bench.timing import Record, Worker, take_turns
from bench.workloads import LISTS, Case
from fastmom.optim import OPTIMIZERS

SETTLE = 0.03       # seconds between turns; a measurement takes about as long
BUDGET = 20.0       # seconds per step: longer and the variant sits out after two rounds
CLIP = 1.0
MAIN = ["SGD", "AdamW"]                 # in all lists
SMALL = ["MNIST MLP", "200 x 1,000"]    # the lists for all optimizers
ARRAYS = {"SGD": 3}                     # parameters, gradients and state, if not 4
COPIES = 12         # of a case's arrays, in all workers together, with what they allocate besides

# Optimizer, list and whether it is clipped: the bounds of peer / fastmom; "" bounds our seconds
TARGETS: dict[tuple[str, str, bool], dict[str, float]] = {
    ("SGD", "1 x 10^1", False): {"": 1.5e-6, "NumPy out=": 1},
    ("SGD", "MNIST MLP", False): {"torch fused": 4},
    ("SGD", "MNIST MLP", True): {"torch fused": 8},
    ("SGD", "200 x 1,000", False): {"torch fused": 25},
    ("SGD", "ResNet-50", False): {"torch fused": 1.15},
    ("SGD", "ResNet-50", True): {"torch fused": 1.8},
    ("SGD", "GPT-2", False): {"torch fused": 1.15},
    ("SGD", "GPT-2", True): {"torch fused": 1.8},
    ("SGD", "1 x 10^8", False): {"torch fused": 1.15, "NumPy out=": 4},
    ("SGD", "1 x 10^7", False): {"NumPy out=": 4},
    **{("SGD", f"1 x 10^{power}", False): {"NumPy out=": 1} for power in range(2, 7)},
    ("AdamW", "MNIST MLP", False): {"torch fused": 5},
    ("AdamW", "200 x 1,000", False): {"torch fused": 25},
    ("AdamW", "GPT-2", False): {"torch fused": 1.15},
}
SPREAD = ("Beside a peer's time stands the ratio of its minimum to fastmom's, and the range of "
          "the ratios of single rounds.")


# Measuring ----------------------------------------------------------------------------------------

def measure_main(args: Namespace) -> Results:
    return measure([(workload, Case(optimizer, as_lists(workload), clip))
                    for workload in LISTS if elements_of(workload) <= args.largest
                    for optimizer in MAIN for clip in (None, CLIP)], args)


def measure_all(args: Namespace) -> Results:
    return measure([(workload, Case(cls.__name__, as_lists(workload)))
                    for cls in OPTIMIZERS.values() for workload in SMALL], args)


def as_lists(workload: str) -> list[list[int]]:
    return [list(shape) for shape in LISTS[workload]]


def elements_of(workload: str) -> int:
    return sum(map(math.prod, LISTS[workload]))


def measure(cases: Iterable[tuple[str, Case]], args: Namespace) -> Results:
    workers: dict[tuple[str, str], Worker] = {}
    versions, missing, rows = {}, {}, []
    for name, peer in PEERS.items():
        for environment, variables in peer.steps.items():
            worker = start(name, args, variables)
            if worker.missing:
                missing[label(name, environment, "")] = worker.missing
            else:
                workers[name, environment] = worker
                versions[label(name, environment, "")] = worker.versions
    for who, why in missing.items():
        print(f"{who} is missing: {why}")
    try:
        for workload, case in cases:
            row = {"workload": workload} | measure_case(case, workers, args.rounds)
            rows.append(row)
            best = "  ".join(f"{who} {1e6 * min(s):,.2f}" for who, s in row["seconds"].items())
            print(f"{title(row)}, us: {best}{row.get('skipped', '')}", flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    return {"rows": rows, "versions": versions, "missing": missing}


def measure_case(case: Case, workers: dict[tuple[str, str], Worker], rounds: int) -> dict[str, Any]:
    """Return the seconds of each candidate in each round."""
    elements = sum(map(math.prod, case.shapes))
    row: dict[str, Any] = {"optimizer": case.optimizer, "clip": case.clip,
                           "tensors": len(case.shapes), "elements": elements, "seconds": {}}
    needed = COPIES * ARRAYS.get(case.optimizer, 4) * 4 * elements
    available = available_bytes()
    if needed > available:
        return row | {"skipped": f"needs about {needed / 1e9:.0f} GB of memory and "
                                 f"{available / 1e9:.0f} GB were free"}
    records, errors = [], {}
    for (name, environment), worker in workers.items():
        prepared = worker.ask("prepare", {"steps": case._asdict()})
        if "error" in prepared:
            errors[label(name, environment, "")] = prepared["error"]
        records += [Record(label(name, environment, variant),
                           partial(worker.ask, "turn", variant), worker)
                    for variant in prepared.get("variants", [])]
    load = take_turns(records, rounds, BUDGET, SETTLE)
    for worker in workers.values():
        worker.ask("drop", None)
    errors |= {record.name: record.error for record in records if record.error}
    return row | {"seconds": {record.name: record.seconds for record in records
                              if not record.error},
                  "errors": errors,
                  "cores_of_waiting": statistics.mean(load.waiting),
                  "cores_of_others": statistics.mean(load.others)}


def available_bytes() -> float:
    """Return the memory that may be used; infinity where nothing tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


# Reporting ----------------------------------------------------------------------------------------

def title(row: dict[str, Any]) -> str:
    """Name a case."""
    return f"{row['optimizer']}, {row['workload']}{', clipped' if row['clip'] else ''}"


def targets_main(part: Results) -> Iterator[Target]:
    for row in part["rows"]:
        seconds, key = row["seconds"], (row["optimizer"], row["workload"], row["clip"] is not None)
        for who, bound in TARGETS.get(key, {}).items():
            if "fastmom" in seconds and (not who or who in seconds):
                yield Target(f"{title(row)}{who and f': {who}'}", seconds["fastmom"],
                             seconds[who] if who else [], bound)


def targets_all(part: Results) -> Iterator[Target]:
    """Yield one for each optimizer that PyTorch has: its fastest form is not faster than ours."""
    for row in part["rows"]:
        forms = [s for who, s in row["seconds"].items() if who.startswith("torch")]
        if forms and "fastmom" in row["seconds"]:
            yield Target(f"{title(row)}: the best of torch", row["seconds"]["fastmom"],
                         min(forms, key=min), 1.0)


def with_ratio(seconds: Seconds, who: str) -> str:
    if not seconds.get(who) or "fastmom" not in seconds:
        return ""
    return f"{duration(min(seconds[who]))}, {ratio(seconds[who], seconds['fastmom'])}"


def candidates(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the peers' candidates in these rows."""
    return [who for who in dict.fromkeys(who for row in rows for who in row["seconds"])
            if who != "fastmom"]


def chapter_main(part: Results) -> str:
    texts, rows = [SPREAD], part["rows"]
    for optimizer, clip in dict.fromkeys((row["optimizer"], row["clip"]) for row in rows):
        mine = [row for row in rows if (row["optimizer"], row["clip"]) == (optimizer, clip)]
        peers = candidates(mine)
        lines = [[row["workload"], duration(min(row["seconds"]["fastmom"])),
                  duration(statistics.median(row["seconds"]["fastmom"])),
                  *(with_ratio(row["seconds"], who) for who in peers)]
                 for row in mine if row["seconds"].get("fastmom")]
        clipped = f", clipped by the global norm at {clip:g}" if clip else ""
        texts += [f"### {optimizer}{clipped}",
                  table(["parameters", "fastmom", "median", *peers], lines)]
    texts += [f"{title(row)}: skipped, {row['skipped']}" for row in rows if "skipped" in row]
    return "\n\n".join([*texts, *troubles(part), targets_table(targets_main(part))])


def chapter_all(part: Results) -> str:
    peers = candidates(part["rows"])
    lines = ([row["optimizer"], row["workload"], duration(min(row["seconds"]["fastmom"])),
              *(with_ratio(row["seconds"], who) for who in peers)] for row in part["rows"])
    return "\n\n".join([SPREAD, table(["optimizer", "parameters", "fastmom", *peers], lines),
                        *troubles(part), targets_table(targets_all(part))])


def troubles(part: Results) -> Iterator[str]:
    """Yield who failed, who is missing, and who disturbed."""
    for row in part["rows"]:
        yield from (f"{title(row)}: {who}: {why}" for who, why in row.get("errors", {}).items())
    yield from (f"{who} is missing: {why}" for who, why in part.get("missing", {}).items())
    texts = []
    for key, who in (("cores_of_others", "other programs"), ("cores_of_waiting", "waiting peers")):
        cores = [row[key] for row in part["rows"] if key in row]
        if cores:
            texts.append(f"{who} used {statistics.median(cores):.2f} cores in the median case and "
                         f"{max(cores):.2f} in the worst")
    if texts:
        yield f"While a candidate had its turn, {' and '.join(texts)}."
