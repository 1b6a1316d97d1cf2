"""Compare steps of fastmom's optimizers for PyTorch with PyTorch's own fused ones.

Both step tensors on the CPU and find new ``.grad`` tensors each time, as after a backward pass;
handing these over counts for both. Beside large ones stands what scaling as many bytes in place
takes, in C, which is what memory allows. Ends with status 1 if a target is missed: 2 times as fast
for 200 tensors of 1,000, 1.3 times for the MNIST network's 4, and as fast for large ones. Needs
torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from bench.memory import library
from bench.results import duration, table
from bench.timing import interleaved

# Name: shapes, steps at once, target
CASES: dict[str, tuple[list[tuple[int, ...]], int, float]] = {
    "200 x 1,000": (200 * [(1000,)], 50, 2.0),
    "MNIST MLP": ([(784, 128), (128,), (128, 10), (10,)], 100, 1.3),
    "one of 10": ([(10,)], 200, 1.0),
    "60 x 65,536": (60 * [(256, 256)], 10, 1.0),
    "4 x 4,194,304": (4 * [(2048, 2048)], 2, 1.0)}
OPTIMIZERS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}, "AdamW": {}}
MOVED = {"SGD": 20, "AdamW": 28}        # bytes of each element
LARGE = 10**7   # elements, in any cache no more
LISTS = 3       # of gradients, that take turns


def steps(module: Any, name: str, shapes: list[tuple[int, ...]], count: int) -> Callable[[], None]:
    """Return a function that takes so many steps."""
    import torch
    params = [torch.randn(shape, requires_grad=True) for shape in shapes]
    lists = [[torch.randn(shape) for shape in shapes] for _ in range(LISTS)]
    optimizer = getattr(module, name)(params, lr=1e-4, fused=True, **OPTIMIZERS[name])

    def run() -> None:
        for i in range(count):
            for p, g in zip(params, lists[i % LISTS], strict=True):
                p.grad = g
            optimizer.step()
    return run


def scales(elements: int, count: int, threads: int) -> Callable[[], None]:
    """Return a function that scales so many elements in place, which moves 8 bytes of each."""
    x = np.ones(elements, np.float32)

    def run() -> None:
        for _ in range(count):
            library().scale(x.ctypes.data, len(x), 1.0, threads)
    return run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=9)


def run(args: argparse.Namespace) -> int:
    try:
        import torch

        import fastmom.integrations.torch as ours
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    rows, reached = [], []
    for case, (shapes, count, target) in CASES.items():
        elements = sum(map(prod, shapes))
        for name in OPTIMIZERS:
            runs = {"PyTorch": steps(torch.optim, name, shapes, count),
                    "fastmom": steps(ours, name, shapes, count)}
            if elements > LARGE:
                runs["scale"] = scales(elements * MOVED[name] // 8, count, torch.get_num_threads())
            times = {who: min(seconds) / count
                     for who, seconds in interleaved(runs, args.rounds).items()}
            ratio = times["PyTorch"] / times["fastmom"]
            reached.append(ratio >= target)
            rows.append([f"{name}, {case}", duration(times["PyTorch"]), duration(times["fastmom"]),
                         f"{ratio:.2f}", f"{target:g}",
                         *(f"{elements * MOVED[name] / times[who] / 1e9:.0f}" if elements > LARGE
                           else "" for who in ("PyTorch", "fastmom", "scale"))])
    print(table(["", f"PyTorch, {torch.get_num_threads()} threads", "fastmom", "ratio", "target",
                 "PyTorch, GB/s", "fastmom", "a scale"], rows))
    return int(not all(reached))
