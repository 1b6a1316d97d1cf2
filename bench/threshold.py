"""Find from how many elements a team of threads pays.

That is SERIAL_BELOW of fastmom/kernels/sweep.pyx: smaller steps are taken by one thread, so here
the engine is told how many parts to cut a step into.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import fastmom as fm
from bench.results import duration, plural
from bench.timing import interleaved
from bench.workloads import Case

ROUNDS = 15


def step(elements: int, threads: int) -> partial[object]:
    """Return a step of SGD with momentum by so many threads."""
    case = Case("SGD", [[elements]])
    params, grads = case.tensors()
    optimizer: Any = fm.SGD(params, **case.hyper)
    optimizer._engine.parts = threads
    return partial(optimizer.step, grads)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=ROUNDS)


def run(args: argparse.Namespace) -> int:
    team = fm.get_num_threads()
    print(f"{'elements':>9} {'1 thread':>12} {plural(team):>12}")
    for elements in (2**power for power in range(12, 21)):
        times = interleaved({str(n): step(elements, n) for n in (1, team)}, args.rounds)
        one, many = min(times["1"]), min(times[str(team)])
        print(f"{elements:9} {duration(one):>12} {duration(many):>12}  "
              f"{'team' if many < one else 'one'}")
    return 0
