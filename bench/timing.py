"""Paired timing: candidates take turns in one run, and what counts is a ratio of minima."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

MIN_SECONDS = 0.02      # one measurement lasts at least this long


def interleaved(candidates: Mapping[str, Callable[[], object]],
                rounds: int = 7) -> dict[str, list[float]]:
    """Seconds per call of each candidate in each round; the rounds go A B C, A B C, …"""
    loops = {name: loops_of(run) for name, run in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            run()       # warm its caches and threads after the others
            times[name].append(seconds_per_call(run, loops[name]))
    return times


def loops_of(run: Callable[[], object]) -> int:
    """How many calls make a measurement."""
    run()
    loops = 1
    while (seconds := seconds_per_call(run, loops) * loops) < MIN_SECONDS:
        loops = max(2 * loops, int(1.2 * loops * MIN_SECONDS / max(seconds, 1e-6)))
        if loops > 1_000_000:
            break
    return loops


def seconds_per_call(run: Callable[[], object], loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        run()
    return (time.perf_counter() - start) / loops
