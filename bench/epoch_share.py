"""Where the time of fastmom's epoch goes: ``python -m bench.epoch --share``.

Functions are wrapped with a clock for these runs alone. Each has the time spent in it less that in
wrapped ones it calls, and the time of the wrappers themselves is taken out as far as it is known.
What no wrapped function has is "Python": the loops between them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import fastmom as fm
from bench.peers.on_fastmom import variants
from bench.peers.task import Task
from fastmom.kernels import layers as kernels


class Nonzeros(kernels.Nonzeros):
    """A compiled class takes no wrappers; this one does."""


WRAPPED: list[tuple[str, Any, str]] = [
    ("products", np, "matmul"),
    ("products", Nonzeros, "product"),
    ("products", Nonzeros, "gradient"),
    ("optimizer", fm.SGD, "step"),
    ("gathering batches", np, "take"),
    ("gathering batches", Nonzeros, "load"),
    *(("elementwise kernels", kernels, name) for name in kernels.NAMES
      if name not in ("Nonzeros", "gather", "is_sparse")),
    *(("gathering batches", kernels, name) for name in ("gather", "is_sparse")),
]


class Clock:
    """Exclusive seconds and calls by label; calls that nest are kept on a stack."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.within: list[float] = [0.0]    # seconds of the wrapped callees of each open call

    def wrap(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        now, within = time.perf_counter, self.within

        # A plain function, so that it binds as a method where it replaces one
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            within.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                seconds = now() - start
                self.seconds[label] += seconds - within.pop()
                self.calls[label] += 1
                within[-1] += seconds
        return timed


@contextmanager
def wrapped(clock: Clock) -> Iterator[None]:
    originals = [(owner, name, getattr(owner, name)) for _, owner, name in WRAPPED]
    inherited = {(owner, name) for owner, name, _ in originals if name not in vars(owner)}
    compiled = kernels.Nonzeros
    try:
        kernels.Nonzeros = Nonzeros
        for (label, owner, name), (_, _, function) in zip(WRAPPED, originals, strict=True):
            setattr(owner, name, clock.wrap(label, function))
        yield
    finally:
        kernels.Nonzeros = compiled
        for owner, name, function in originals:
            if (owner, name) in inherited:
                delattr(owner, name)
            else:
                setattr(owner, name, function)


def wrapper_seconds(calls: int = 100_000) -> float:
    """What a wrapper adds to a call."""
    def nothing() -> None:
        pass

    def loop(function: Callable[[], Any]) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - start

    watched = Clock().wrap("", nothing)
    return max(0.0, min(map(loop, 3 * [watched])) - min(map(loop, 3 * [nothing]))) / calls


def share(task: Task, rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds and calls by label of the fastest epoch with each number of BLAS threads, printed."""
    result: dict[str, dict[str, Any]] = {}
    for name, run in variants(task).items():
        run.epoch()
        plain = min(seconds_of(run.epoch) for _ in range(rounds))
        run.model._batch = 0        # it makes its buffers anew, with products that take a clock
        epochs = [clocked(run.epoch) for _ in range(rounds)]
        clock, total = min(epochs, key=lambda epoch: epoch[1])
        overhead = sum(clock.calls.values()) * wrapper_seconds()
        clock.seconds["Python"] = total - sum(clock.seconds.values()) - overhead
        print(f"\n{name}: {plain:.3f} s, {total:.3f} s with the clock, of which about "
              f"{overhead:.3f} s is the clock's own")
        for label, seconds in clock.seconds.most_common():
            print(f"{label:20} {seconds:8.3f} s {seconds / (total - overhead):6.1%} "
                  f"{clock.calls[label]:8,} calls")
        result[name] = {"seconds": plain, "with_clock": total, "by_label": dict(clock.seconds),
                        "calls": dict(clock.calls)}
    return result


def clocked(run: Callable[[], object]) -> tuple[Clock, float]:
    clock = Clock()
    with wrapped(clock):
        seconds = seconds_of(run)
    return clock, seconds


def seconds_of(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
