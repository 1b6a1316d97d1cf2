"""Measure steps and epochs by the number of threads, and what a team's meeting costs.

Beside each step stands its share of what an in-place scale in C moves with as many threads.
Targets: 0.9 of that from 10^8 parameters, and for 10^6 and 10^7 a step 0.7 times as many times as
fast as there are threads. Threads beyond the cores that this process may use are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fastmom as fm
from bench.disturbance import epoch
from bench.memory import MOMENTUM_BYTES, scaling
from bench.results import duration, plural, table
from bench.timing import interleaved
from bench.workloads import Case, mlp

THREADS = [1, 2, 4, 8, 16, 32, 64]
ELEMENTS = [10**5, 10**6, 10**7, 10**8]
SHARE, EFFICIENCY = 0.9, 0.7        # of the scale's rate; speed-up per thread
MEETING = 8192                      # elements: two chunks, less than a team is woken for


def step(elements: int, clip: float | None = None) -> Callable[[], object]:
    """Return a step of SGD with momentum."""
    params, grads = Case("SGD", [[elements]]).tensors()
    return partial(fm.SGD(params, lr=1e-9, momentum=0.9, clip_norm=clip).step, grads)


def meeting(threads: int) -> Callable[[], object]:
    """Return a step so small that what it takes longer than with one thread is the meeting."""
    params, grads = Case("SGD", [[MEETING]]).tensors()
    optimizer: Any = fm.SGD(params, lr=1e-9, momentum=0.9)
    optimizer._engine.parts = threads
    return partial(optimizer.step, grads)


def limited(run: Callable[[], object], threads: int) -> None:
    with fm.num_threads(threads):
        run()


def by_threads(make: Callable[[], Callable[[], object]], threads: list[int],
               rounds: int) -> dict[int, float]:
    """Return the seconds of the best round by the number of threads, each with memory of its own.

    So that on several processors the state lies where its thread is.
    """
    times = interleaved({str(n): partial(limited, make(), n) for n in threads}, rounds)
    return {n: min(times[str(n)]) for n in threads}


def rows(threads: list[int], largest: int, rounds: int) -> Iterator[list[str]]:
    """Yield the cells of each row."""
    for elements in (n for n in ELEMENTS if n <= largest):
        scales = interleaved({str(n): scaling(elements, n) for n in threads}, rounds)
        for clip in (None, 1.0):
            seconds = by_threads(partial(step, elements, clip), threads, rounds)
            for n in threads:
                share = min(scales[str(n)]) / seconds[n]
                yield [f"step of {elements:,}{', clipped' if clip else ''}", str(n),
                       duration(seconds[n]), f"{seconds[threads[0]] / seconds[n]:.2f}",
                       "" if clip else f"{MOMENTUM_BYTES * elements / seconds[n] / 1e9:.1f}",
                       "" if clip else f"{share:.2f}",
                       verdict(elements, n, threads[0], share, seconds) if clip is None else ""]
    params, grads = Case("SGD", [list(shape) for shape in mlp()]).tensors()
    for name, make in (
            ("step of the MNIST network", lambda: partial(
                fm.SGD([p.copy() for p in params], lr=1e-9, momentum=0.9).step, grads)),
            ("epoch of digits", epoch)):
        seconds = by_threads(make, threads, rounds)
        for n in threads:
            yield [name, str(n), duration(seconds[n]),
                   f"{seconds[threads[0]] / seconds[n]:.2f}", "", "", ""]
    times = interleaved({str(n): meeting(n) for n in threads}, 3 * rounds)
    for n in threads:
        beyond = min(times[str(n)]) - min(times[str(threads[0])]) / n
        yield ["meeting of a team", str(n), duration(max(beyond, 0.0)), "", "", "", ""]


def verdict(elements: int, n: int, first: int, share: float, seconds: dict[int, float]) -> str:
    """Return whether the target for this size is met."""
    if elements >= 10**8:
        return f">= {SHARE} of the scale: {'yes' if share >= SHARE else '**no**'}"
    if n == first or elements < 10**6:
        return ""
    gain = seconds[first] / seconds[n]
    return (f">= {EFFICIENCY * n / first:.1f} times {plural(first)}: "
            f"{'yes' if gain >= EFFICIENCY * n / first else '**no**'}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--largest", type=int, default=ELEMENTS[-1], help="parameters")
    parser.add_argument("--rounds", type=int, default=5)


def run(args: argparse.Namespace) -> int:
    threads = [n for n in args.threads if 1 <= n <= fm.get_num_threads()]
    if not threads:
        print(f"this process may use {plural(fm.get_num_threads())}")
        return 2
    print(table(["", "threads", "time", "times as fast", "GB/s", "of the scale", "target"],
                rows(threads, args.largest, args.rounds)))
    return 0
