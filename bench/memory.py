"""Measure what memory gives, and what steps take of it.

Two sections: "bandwidth", bytes per second of an in-place scale (8 bytes moved per element) and
triad (12) in C by the size of what they work on, with one thread and with all, and of every
optimizer's step by size; and "threads", a step of SGD and as many bytes scaled, by the number of
threads. A step is taken to move what its formula names: parameter, gradient and state read,
parameter and state written.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

import fastmom as fm
from bench.results import (
    Results,
    Target,
    duration,
    memory_size,
    plural,
    ratio,
    table,
    targets_table,
    typical,
)
from bench.timing import interleaved
from bench.workloads import Case
from fastmom.optim import OPTIMIZERS

KERNELS = {"scale": (1, 8), "triad": (2, 12)}      # arrays, and bytes moved per element
SMALLEST, LARGEST = 2**14, 2**30                   # bytes worked on
CALL = 2**27            # bytes worked on in a call: far more than it takes to wake a team
SIZES = [10**power for power in range(3, 9)]       # elements
ALL_UPTO, LARGEST_OF = 10**7, ("SGD", "AdamW")      # elements, and who steps more
MOMENTUM_BYTES = 20     # that a step of SGD with momentum moves per element
SCALE_TARGET = 1.0      # the scale's seconds over the step's, from TARGET_FROM elements, at least
ONE_TARGET = 1.7        # one thread's seconds over all threads', likewise
TARGET_FROM = 10**7


@functools.cache
def library() -> Any:
    """Compile scale.c for this machine, and load it."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "scale.so")
        subprocess.run(["cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", made,
                        Path(__file__).with_name("scale.c")], check=True)
        loaded = ctypes.CDLL(str(made))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    loaded.scale.argtypes = [pointer, size, ctypes.c_float, ctypes.c_int]
    for name in KERNELS:
        getattr(loaded, f"{name}_passes").argtypes = [
            pointer, pointer, size, ctypes.c_float, ctypes.c_int, ctypes.c_long]
    return loaded


# Bandwidth ----------------------------------------------------------------------------------------

def measure_bandwidth(args: Namespace) -> Results:
    return {"kernels": by_working_set(args.rounds, min(LARGEST, 8 * args.largest)),
            "optimizers": by_optimizer(min(args.rounds, 3), args.largest)}


def by_working_set(rounds: int, largest: int = LARGEST) -> list[dict[str, Any]]:
    """Return the seconds per pass of each kernel over each number of bytes."""
    rows, worked_on = [], SMALLEST
    while worked_on <= largest:
        runs, passes = {}, max(1, CALL // worked_on)
        x, y = np.ones(worked_on // 4, np.float32), np.zeros(worked_on // 8, np.float32)
        for kernel, (arrays, _) in KERNELS.items():
            run = getattr(library(), f"{kernel}_passes")
            for threads in sorted({1, fm.get_num_threads()}):
                runs[kernel, threads] = functools.partial(
                    run, x.ctypes.data, y.ctypes.data, worked_on // 4 // arrays, 1.0, threads,
                    passes)
        times = interleaved({f"{kernel} {threads}": run for (kernel, threads), run in runs.items()},
                            rounds)
        for kernel, threads in runs:
            arrays, moved = KERNELS[kernel]
            rows.append({"kernel": kernel, "threads": threads, "working_set": worked_on,
                         "bytes": worked_on // 4 // arrays * moved,
                         "seconds": [s / passes for s in times[f"{kernel} {threads}"]]})
        worked_on *= 2
    return rows


def by_optimizer(rounds: int, largest: int) -> list[dict[str, Any]]:
    """Return the seconds of a step of each optimizer over one array, with all threads."""
    rows = []
    for elements in (size for size in SIZES if size <= largest):
        for cls in OPTIMIZERS.values():
            if elements > ALL_UPTO and cls.__name__ not in LARGEST_OF:
                continue
            name, make = cls.__name__, cast(Any, cls)
            case = Case(name, [[elements]])
            params, grads = case.tensors()
            optimizer: Any = make(params, **case.hyper)
            seconds = interleaved({name: functools.partial(optimizer.step, grads)}, rounds)[name]
            # State that stays zero belongs to options that are off, and is not touched
            arrays = sum(bool(a.any()) for a in optimizer.state[0].values())
            rows.append({"optimizer": name, "elements": elements, "seconds": seconds,
                         "working_set": 4 * elements * (2 + arrays),
                         "bytes": 4 * elements * (3 + 2 * arrays)})
    return rows


def chapter_bandwidth(part: Results) -> str:
    rows = part["kernels"]
    columns = list(dict.fromkeys((row["kernel"], row["threads"]) for row in rows))
    rates = {(row["working_set"], row["kernel"], row["threads"]): rate(row) for row in rows}
    of_kernels = table(
        ["GB/s, worked on", *(f"{kernel}, {plural(n)}" for kernel, n in columns)],
        ([memory_size(s), *(f"{rates[s, *column]:.1f}" for column in columns)]
         for s in dict.fromkeys(row["working_set"] for row in rows)))
    rows = part["optimizers"]
    sizes = list(dict.fromkeys(row["elements"] for row in rows))
    taken = {(row["optimizer"], row["elements"]): rate(row) for row in rows}
    of_steps = table(["GB/s of a step, parameters", *(f"{n:,}" for n in sizes)],
                     ([name, *(f"{taken[name, n]:.1f}" if (name, n) in taken else ""
                               for n in sizes)]
                      for name in dict.fromkeys(row["optimizer"] for row in rows)))
    return f"{of_kernels}\n\n{of_steps}"


def rate(row: dict[str, Any], seconds: str = "seconds") -> float:
    """Return GB/s, the median."""
    return float(row["bytes"] / typical(row[seconds]) / 1e9)


# Threads ------------------------------------------------------------------------------------------

def measure_threads(args: Namespace) -> Results:
    counts, rows = range(1, fm.get_num_threads() + 1), []
    for elements in (size for size in SIZES if 10**6 <= size <= args.largest):
        case = Case("SGD", [[elements]])
        params, grads = case.tensors()
        optimizer: Any = fm.SGD(params, **case.hyper)

        def limited(threads: int, optimizer: Any = optimizer, grads: Any = grads) -> None:
            with fm.num_threads(threads):
                optimizer.step(grads)
        runs: dict[str, Callable[[], object]] = {}
        for threads in counts:
            runs[f"step {threads}"] = functools.partial(limited, threads)
            runs[f"scale {threads}"] = scaling(elements, threads)
        times = interleaved(runs, args.rounds)
        rows += [{"elements": elements, "threads": threads, "bytes": MOMENTUM_BYTES * elements,
                  "step": times[f"step {threads}"], "scale": times[f"scale {threads}"]}
                 for threads in counts]
    return {"rows": rows}


def scaling(elements: int, threads: int) -> Callable[[], object]:
    """Return ``x *= a`` over as many bytes as a momentum step of so many elements moves."""
    scale = library().scale
    x = np.ones(elements * MOMENTUM_BYTES // 8, np.float32)
    return lambda: scale(x.ctypes.data, x.size, 1.0, threads)


def targets_threads(part: Results) -> Iterator[Target]:
    """Yield those for all threads: against the scale, and against one thread."""
    for elements in dict.fromkeys(row["elements"] for row in part["rows"]):
        one, *_, most = [row for row in part["rows"] if row["elements"] == elements] * 2
        if elements >= TARGET_FROM and most["threads"] > 1:
            name = f"{elements:,} parameters, {plural(most['threads'])}"
            yield Target(f"{name}: C scale of as many bytes", most["step"], most["scale"],
                         SCALE_TARGET)
            yield Target(f"{name}: 1 thread", most["step"], one["step"], ONE_TARGET)


def chapter_threads(part: Results) -> str:
    one = {row["elements"]: row for row in part["rows"] if row["threads"] == 1}
    rows = ([f"{row['elements']:,}", str(row["threads"]), duration(typical(row["step"])),
             f"{rate(row, 'step'):.1f}", str(ratio(one[row["elements"]]["step"], row["step"])),
             f"{rate(row, 'scale'):.1f}", str(ratio(one[row["elements"]]["scale"], row["scale"]))]
            for row in part["rows"])
    return "\n\n".join([
        table(["parameters", "threads", "step", "GB/s", "faster than 1 thread", "C scale, GB/s",
               "faster than 1 thread"], rows), targets_table(targets_threads(part))])
