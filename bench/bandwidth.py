"""What memory gives and what the kernels take of it: ``python -m bench.bandwidth``.

Bytes per second of an in-place scale (8 bytes moved per element) and triad (12) in C by the size of
what they work on, with one thread and with all; of every optimizer's step by size; and of both by
the number of threads. A step is taken to move what its formula names: parameter, gradient and
state read, parameter and state written.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

import fastmom as fm
from bench.timing import interleaved
from bench.peers.task import LR, Case
from fastmom.optim import OPTIMIZERS

KERNELS = {"scale": (1, 8), "triad": (2, 12)}      # arrays, and bytes moved per element
SMALLEST, LARGEST = 2**14, 2**30                   # bytes worked on
CALL = 2**27            # bytes worked on in a call: far more than it takes to wake a team
SIZES = [10**power for power in range(3, 9)]       # elements
HYPER: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}}
MOMENTUM_BYTES = 20     # that a step of SGD with momentum moves per element
Seconds = dict[str, list[float]]


@functools.cache
def library() -> Any:
    """scale.c, compiled for this machine."""
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


def scaling(elements: int, threads: int) -> Callable[[], object]:
    """``x *= a`` over as many bytes as a momentum step of so many elements moves."""
    scale = library().scale
    x = np.ones(elements * MOMENTUM_BYTES // 8, np.float32)
    return lambda: scale(x.ctypes.data, x.size, 1.0, threads)


def teams() -> list[int]:
    """One thread, and all there are."""
    return sorted({1, fm.get_num_threads()})


def by_working_set(rounds: int, largest: int = LARGEST) -> list[dict[str, Any]]:
    """Seconds per pass of each kernel over each number of bytes."""
    rows, worked_on = [], SMALLEST
    while worked_on <= largest:
        runs, passes = {}, max(1, CALL // worked_on)
        x, y = np.ones(worked_on // 4, np.float32), np.zeros(worked_on // 8, np.float32)
        for kernel, (arrays, _) in KERNELS.items():
            run = getattr(library(), f"{kernel}_passes")
            for threads in teams():
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


def by_optimizer(rounds: int, largest: int = SIZES[-1]) -> list[dict[str, Any]]:
    """Seconds of a step of each optimizer over one array, with all threads."""
    rows = []
    for elements in (size for size in SIZES if size <= largest):
        for cls in OPTIMIZERS.values():
            name, make = cls.__name__, cast(Any, cls)
            params, grads = Case([[elements]], "", None).tensors()
            optimizer: Any = make(params, lr=LR, **HYPER.get(name, {}))

            def step(optimizer: Any = optimizer, grads: Any = grads) -> None:
                optimizer.step(grads)
            seconds = interleaved({name: step}, rounds)[name]
            # State that stays zero belongs to options that are off, and is not touched
            arrays = sum(bool(a.any()) for a in optimizer.state[0].values())
            rows.append({"optimizer": name, "elements": elements, "seconds": seconds,
                         "working_set": 4 * elements * (2 + arrays),
                         "bytes": 4 * elements * (3 + 2 * arrays)})
    return rows


def by_threads(rounds: int, largest: int = SIZES[-1]) -> list[dict[str, Any]]:
    """Seconds of a momentum step, and of scaling as many bytes, by the number of threads."""
    counts, rows = range(1, fm.get_num_threads() + 1), []
    for elements in (size for size in SIZES if 10**6 <= size <= largest):
        params, grads = Case([[elements]], "", None).tensors()
        optimizer = fm.SGD(params, lr=LR, momentum=0.9)

        def step(threads: int, optimizer: Any = optimizer, grads: Any = grads) -> None:
            with fm.num_threads(threads):
                optimizer.step(grads)
        runs: dict[str, Callable[[], object]] = {}
        for threads in counts:
            runs[f"step {threads}"] = functools.partial(step, threads)
            runs[f"scale {threads}"] = scaling(elements, threads)
        times = interleaved(runs, rounds)
        rows += [{"elements": elements, "threads": threads, "bytes": MOMENTUM_BYTES * elements,
                  "step": times[f"step {threads}"], "scale": times[f"scale {threads}"]}
                 for threads in counts]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("GB/s\nworked on (KB)   kernel   threads")
    for row in by_working_set(args.rounds):
        print(f"{row['working_set'] // 1024:14,}   {row['kernel']:8} {row['threads']:7} "
              f"{row['bytes'] / min(row['seconds']) / 1e9:8.1f}")


if __name__ == "__main__":
    main()
