"""A step in every library, on the very same arrays where they can.

Two sections: "steps", SGD and AdamW over every list of tensors, with and without clipping, and
"optimizers", every optimizer over two lists. Peers that have an optimizer of the same name step
with the same hyper-parameters: the defaults, and momentum 0.9 for SGD.

fastmom, NumPy, PyTorch and Numba take turns in one process, at the same parameters, gradients and
state. JAX, which updates arrays of its own alone, takes turns with them from a process beside.
Where arrays and code lie differs from process to process, so each case is measured in several.

Every step is given gradients it has not seen in the step before, as in a training; "same gradients"
are those of the last step. Making them is not timed.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmom as fm
from bench.peers import PEERS, TOGETHER, start
from bench.results import Results, Seconds, Target, duration, ratio, table, targets_table, typical
from bench.timing import Record, take_turns
from bench.worker import Worker
from bench.workloads import LISTS, Case, available_bytes
from fastmom.optim import OPTIMIZERS

BUDGET = 20.0       # seconds per step: longer and the variant sits out after two rounds
LASTING = 0.005      # seconds of a measurement, at least
CLIP = 1.0
# The lists of each optimizer, and of those the ones that are clipped too
MAIN = {"SGD": list(LISTS),
        "AdamW": [name for name in LISTS if name not in ("1 x 10^2", "ResNet-50", "GPT-2")]}
CLIPPED = {"SGD": ["1 x 10^1", "1 x 10^4", "1 x 10^6", "MNIST MLP", "200 x 1,000", "ResNet-50",
                   "GPT-2"],
           "AdamW": ["1 x 10^1", "1 x 10^4", "1 x 10^6", "MNIST MLP", "200 x 1,000"]}
RUNS = 10           # processes of the lists in SMALL with SGD, whose targets are medians of so many
SMALL = ["MNIST MLP", "200 x 1,000"]    # the lists for all optimizers
SMALL_UPTO = 10**6                      # elements
ARRAYS = {"SGD": 3}                     # parameters, gradients and state, if not 4
COPIES = 5          # of a case's arrays, in all processes together, with what they allocate besides

# Optimizer, list and whether it is clipped: the bounds of peer / fastmom; "" bounds our seconds
TARGETS: dict[tuple[str, str, bool], dict[str, float]] = {
    ("SGD", "1 x 10^1", False): {"": 0.35e-6, "NumPy out=": 1},
    ("SGD", "MNIST MLP", False): {"torch fused": 3.5, "torch fused, same gradients": 4},
    ("SGD", "MNIST MLP", True): {"torch fused": 8},
    ("SGD", "200 x 1,000", False): {"torch fused": 18, "torch fused, same gradients": 25},
    ("SGD", "ResNet-50", False): {"torch fused": 1.15},
    ("SGD", "ResNet-50", True): {"torch fused": 1.8},
    ("SGD", "GPT-2", False): {"torch fused": 1.15},
    ("SGD", "GPT-2", True): {"torch fused": 1.8},
    ("SGD", "1 x 10^8", False): {"torch fused": 1.15, "NumPy out=": 4},
    ("SGD", "1 x 10^7", False): {"NumPy out=": 4},
    **{("SGD", f"1 x 10^{power}", False): {"NumPy out=": 1} for power in range(2, 7)},
    ("AdamW", "MNIST MLP", False): {"torch fused": 5},
    ("AdamW", "200 x 1,000", False): {"torch fused": 25},
}
# Compiled once for all processes
CACHES = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
          "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
SPREAD = ("Beside a peer's time, a median, stands the ratio of its median to fastmom's, and the "
          "middle 80 % of the ratios of a time of the one to a time of the other, which is the "
          "range to expect of another run.")
SAME = ", same gradients"


class Plan(NamedTuple):
    """Cases that are measured in the same processes."""

    cases: list[tuple[str, Case]]       # with the list's name
    processes: int
    rounds: int


# Measuring ----------------------------------------------------------------------------------------

def measure_main(args: Namespace) -> Results:
    cases = [(workload, Case(optimizer, as_lists(workload), clip))
             for optimizer in MAIN for clip in (None, CLIP)
             for workload in (CLIPPED if clip else MAIN)[optimizer]
             if elements_of(workload) <= args.largest]
    often = [case for case in cases if case[0] in SMALL and case[1].optimizer == "SGD"]
    small = [case for case in cases if case[1].elements <= SMALL_UPTO and case not in often]
    large = [case for case in cases if case[1].elements > SMALL_UPTO]
    return measure([Plan(often, 2 if args.quick else RUNS, 1), Plan(small, args.rounds, 2),
                    Plan(large, max(1, args.rounds - 1), 1)], cases, args)


def measure_all(args: Namespace) -> Results:
    cases = [(workload, Case(cls.__name__, as_lists(workload)))
             for cls in OPTIMIZERS.values() for workload in SMALL]
    return measure([Plan(cases, max(1, args.rounds // 2), 1)], cases, args)


def as_lists(workload: str) -> list[list[int]]:
    return [list(shape) for shape in LISTS[workload]]


def elements_of(workload: str) -> int:
    return sum(map(math.prod, LISTS[workload]))


def measure(plans: Sequence[Plan], cases: Sequence[tuple[str, Case]], args: Namespace) -> Results:
    from tqdm import tqdm  # the extra bench brings it

    rows: list[dict[str, Any]] = [
        {"workload": workload, "optimizer": case.optimizer, "clip": case.clip,
         "tensors": len(case.shapes), "elements": case.elements, "seconds": {}, "errors": {},
         "cores_of_waiting": [], "cores_of_others": []} for workload, case in cases]
    found: dict[str, dict[str, str]] = {"versions": {}, "missing": {}}
    bar = tqdm(total=sum(len(plan.cases) * plan.processes for plan in plans), leave=False,
               mininterval=1, dynamic_ncols=True, disable=None)
    with tempfile.TemporaryDirectory() as cache, bar:
        for plan in plans:
            for _ in range(plan.processes if plan.cases else 0):
                with_workers(plan, cases, rows, found, bar, args, CACHES | {
                    "NUMBA_CACHE_DIR": cache, "JAX_COMPILATION_CACHE_DIR": cache})
    for who, why in found["missing"].items():
        print(f"{who} is missing: {why}")
    for row in rows:
        best = "  ".join(f"{who} {1e6 * typical(s):,.2f}" for who, s in row["seconds"].items())
        print(f"{title(row)}, us: {best}{row.get('skipped', '')}", flush=True)
    return {"rows": rows, **found}


def with_workers(plan: Plan, cases: Sequence[tuple[str, Case]], rows: list[dict[str, Any]],
                 found: dict[str, dict[str, str]], bar: Any, args: Namespace,
                 environment: dict[str, str]) -> None:
    """Measure the plan's cases in new processes, and add what they say to their rows."""
    workers: dict[str, Worker] = {}
    try:
        for name in (TOGETHER, *(name for name, peer in PEERS.items() if peer.steps)):
            worker = start(name, args, environment)
            if worker.missing:
                found["missing"][name] = worker.missing
            else:
                workers[name] = worker
                found["versions"][name] = worker.versions
                worker.ask("lasting", LASTING)
        if TOGETHER not in workers:
            raise SystemExit(found["missing"][TOGETHER])
        check_same_code(workers[TOGETHER])
        for case in plan.cases:
            row = rows[cases.index(case)]
            bar.set_postfix_str(title(row))
            measure_case(case[1], row, workers, plan.rounds, found["missing"])
            bar.update()
    finally:
        for worker in workers.values():
            worker.close()


def check_same_code(worker: Worker) -> None:
    """Raise SystemExit if the worker's interpreter has another fastmom."""
    ours = Path(fm.__file__).parent
    if Path(worker.note) != ours:
        raise SystemExit(f"the peers' interpreter has the fastmom of {worker.note}, not of {ours}")


def measure_case(case: Case, row: dict[str, Any], workers: dict[str, Worker], rounds: int,
                 missing: dict[str, str]) -> None:
    """Add the seconds of each candidate in each round, and who is missing and why."""
    needed = COPIES * ARRAYS.get(case.optimizer, 4) * 4 * case.elements
    available = available_bytes()
    if needed > available:
        row["skipped"] = (f"needs about {needed / 1e9:.0f} GB of memory and "
                          f"{available / 1e9:.0f} GB were free")
        return
    records = []
    for name, worker in workers.items():
        prepared = worker.ask("prepare", {"steps": case._asdict()})
        if "error" in prepared:
            row["errors"][name] = prepared["error"]
        row |= {key: prepared[key] for key in ("huge", "huge_pages") if key in prepared}
        missing |= prepared.get("missing", {})
        records += [Record(variant if name == TOGETHER else f"{name} {variant}",
                           partial(worker.ask, "turn", variant), worker)
                    for variant in prepared.get("variants", [])]
    load = take_turns(records, rounds, BUDGET, settle=0)
    for worker in workers.values():
        worker.ask("drop", None)
    for record in records:
        if record.error:
            row["errors"][record.name] = record.error
        if record.seconds:
            row["seconds"].setdefault(record.name, []).extend(record.seconds)
        row["cores_of_waiting"] += [answer["spinning"] for answer in record.answers]
    row["cores_of_others"] += load.others


# Reporting ----------------------------------------------------------------------------------------

def title(row: dict[str, Any]) -> str:
    """Name a case."""
    return f"{row['optimizer']}, {row['workload']}{', clipped' if row['clip'] else ''}"


def targets_main(part: Results) -> Iterator[Target]:
    for row in part["rows"]:
        seconds, key = row["seconds"], (row["optimizer"], row["workload"], row["clip"] is not None)
        for who, bound in TARGETS.get(key, {}).items():
            if of_same(seconds, who) and (not who or who in seconds):
                yield Target(f"{title(row)}{who and f': {who}'}", of_same(seconds, who),
                             seconds[who] if who else [], bound)


def of_same(seconds: Seconds, who: str) -> list[float]:
    """Return fastmom's times that a candidate's compare with: with the same gradients or new."""
    name = f"fastmom{SAME}" if who.endswith(SAME) and not who.startswith("fastmom") else "fastmom"
    return seconds.get(name) or seconds.get("fastmom", [])


def targets_all(part: Results) -> Iterator[Target]:
    """Yield one for each optimizer that PyTorch has: its fastest form is not faster than ours."""
    for row in part["rows"]:
        forms = [s for who, s in row["seconds"].items() if who.startswith("torch")]
        if forms and "fastmom" in row["seconds"]:
            yield Target(f"{title(row)}: the best of torch", row["seconds"]["fastmom"],
                         min(forms, key=typical), 1.0)


def with_ratio(seconds: Seconds, who: str) -> str:
    mine = of_same(seconds, who)
    if not seconds.get(who) or not mine:
        return ""
    return f"{duration(typical(seconds[who]))}, {ratio(seconds[who], mine)}"


def candidates(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the peers' candidates in these rows."""
    return [who for who in dict.fromkeys(who for row in rows for who in row["seconds"])
            if who != "fastmom"]


def chapter_main(part: Results) -> str:
    texts, rows = [SPREAD], part["rows"]
    for optimizer, clip in dict.fromkeys((row["optimizer"], row["clip"]) for row in rows):
        mine = [row for row in rows if (row["optimizer"], row["clip"]) == (optimizer, clip)]
        peers = candidates(mine)
        lines = [[row["workload"], duration(typical(row["seconds"]["fastmom"])),
                  *(with_ratio(row["seconds"], who) for who in peers)]
                 for row in mine if row["seconds"].get("fastmom")]
        clipped = f", clipped by the global norm at {clip:g}" if clip else ""
        texts += [f"### {optimizer}{clipped}",
                  table(["parameters", "fastmom", *peers], lines)]
    texts += [f"{title(row)}: skipped, {row['skipped']}" for row in rows if "skipped" in row]
    texts += list(pages(rows))
    return "\n\n".join([*texts, *troubles(part), targets_table(targets_main(part))])


def chapter_all(part: Results) -> str:
    peers = candidates(part["rows"])
    lines = ([row["optimizer"], row["workload"], duration(typical(row["seconds"]["fastmom"])),
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
        cores = [float(np.mean(row[key])) for row in part["rows"] if row.get(key)]
        if cores:
            texts.append(f"{who} used {statistics.median(cores):.2f} cores in the median case and "
                         f"{max(cores):.2f} in the worst")
    if texts:
        yield f"While a candidate had its turn, {' and '.join(texts)}."


def pages(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield which arrays lay in huge pages."""
    for optimizer in dict.fromkeys(row["optimizer"] for row in rows):
        parts = [f"{row['workload']}: " + ", ".join(f"{kind} {share:.0%}"
                                                    for kind, share in row["huge"].items())
                 for row in rows if row["optimizer"] == optimizer and row["clip"] is None
                 and row.get("huge")]
        setting = next((row["huge_pages"] for row in rows if "huge_pages" in row), "")
        if parts:
            yield (f"Huge pages ({setting}), share of the arrays of 4 MB or more, {optimizer}: "
                   f"{'; '.join(parts)}.")
