"""Compare steps of fastmom's optimizers for PyTorch with PyTorch's own fused ones.

Both step tensors on the CPU and find new ``.grad`` tensors each time, as after a backward pass;
handing these over counts for both. Ends with status 1 if a target is missed: 2 times as fast for
200 tensors of 1,000, 1.3 times for the MNIST network's 4, and as fast for large ones. Needs torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

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
        for name in OPTIMIZERS:
            timed = interleaved({library: steps(module, name, shapes, count) for library, module
                                 in (("PyTorch", torch.optim), ("fastmom", ours))}, args.rounds)
            theirs, own = (min(timed[library]) / count for library in ("PyTorch", "fastmom"))
            reached.append(theirs / own >= target)
            rows.append([f"{name}, {case}", duration(theirs), duration(own),
                         f"{theirs / own:.2f}", f"{target:g}"])
    print(table(["", f"PyTorch, {torch.get_num_threads()} threads", "fastmom", "ratio", "target"],
                rows))
    return int(not all(reached))
