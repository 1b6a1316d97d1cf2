"""Compare steps in fewer bytes with the same in float32, and with those of other libraries.

All take turns in one process, on the same parameters; each has gradients and state of its own kind.
Bytes are those that the formula reads and writes; GB/s are such bytes. PyTorch, torchao and
bitsandbytes take part where they are installed, on a list of at most 25 million.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

import fastmom as fm
from bench.offload import MOVED, with_casts
from bench.results import duration, table, typical
from bench.timing import interleaved
from bench.workloads import LISTS, LR
from fastmom.optim.formats import dtype_named

BF16, F32 = "bfloat16", "float32"
ROUNDS = 7
SGD = partial(fm.SGD, momentum=0.9)
NOISE = {"rounding": "stochastic"}
# Optimizer, arguments, and the dtypes of parameters, gradients and copies; of each optimizer the
# first row is what the others are compared with.
OURS: dict[str, tuple[Any, dict[str, Any], Any, Any, Any]] = {
    "SGD, float32": (SGD, {}, F32, F32, None),
    "SGD, bfloat16 velocity": (SGD, {"state_dtype": "bfloat16"}, F32, F32, None),
    "SGD, int8 velocity": (SGD, {"state_dtype": "int8"}, F32, F32, None),
    "SGD, float8 velocity": (SGD, {"state_dtype": "float8"}, F32, F32, None),
    "SGD, bfloat16 gradient": (SGD, {}, F32, BF16, None),
    "SGD, bfloat16 copy": (SGD, {}, F32, F32, BF16),
    "SGD, all bfloat16": (SGD, {"state_dtype": "bfloat16", "master": False, **NOISE},
                          BF16, BF16, None),
    "AdamW, float32": (fm.AdamW, {}, F32, F32, None),
    "AdamW, bfloat16 mean": (fm.AdamW, {"state_dtype": "bfloat16"}, F32, F32, None),
    "AdamW, bfloat16 state": (fm.AdamW, {"state_dtype": "bfloat16", **NOISE},
                              F32, F32, None),
    "AdamW, 8-bit state": (fm.AdamW, {"state_dtype": "float8"}, F32, F32, None),
    "AdamW, bfloat16 gradient": (fm.AdamW, {}, F32, BF16, None),
    "AdamW, bfloat16 gradient and copy": (fm.AdamW, {}, F32, BF16, BF16),
    "AdamW, all bfloat16": (fm.AdamW, {"state_dtype": "bfloat16", "master": False, **NOISE},
                            BF16, BF16, None),
}


def ours(shapes: Any, which: str) -> tuple[Callable[[], object], float]:
    """Return the steps by name, and the bytes that one moves per parameter."""
    make, hyper, dtype, of_grads, of_copies = OURS[which]
    params = [np.ones(shape, dtype_named(dtype)) for shape in shapes]
    copies = of_copies and [np.empty(shape, dtype_named(of_copies)) for shape in shapes]
    optimizer = make(params, lr=LR, copies=copies, **hyper)
    grads = [np.full(shape, 1e-3, dtype_named(of_grads)) for shape in shapes]
    size = sum(p.size for p in params)
    moved = optimizer.memory()["moved"] + size * (grads[0].itemsize - params[0].itemsize)
    return partial(optimizer.step, grads), moved / size


def theirs(shapes: Any) -> dict[str, tuple[Callable[[], object], float]]:
    """Return the steps of the libraries that are installed."""
    made: dict[str, tuple[Callable[[], object], float]] = {}
    with suppress(ImportError):
        import torch

        def tensors(dtype: Any) -> list[Any]:
            result = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in shapes]
            for p in result:
                p.grad = torch.full_like(p, 1e-3)
            return result
        for name, dtype, size in (("float32", torch.float32, 28), ("all bfloat16", torch.bfloat16,
                                                                   14)):
            made[f"AdamW, {name}, PyTorch fused"] = (
                torch.optim.AdamW(tensors(dtype), lr=LR, fused=True).step, size)
        low = [p.requires_grad_(False) for p in tensors(torch.bfloat16)]
        made["AdamW, bfloat16 gradient and copy, PyTorch fused with casts"] = (
            with_casts(partial(torch.optim.AdamW, lr=LR, fused=True), low), MOVED)
        with suppress(ImportError):
            from torchao.optim import AdamW8bit, _AdamW
            made["AdamW, 8-bit state, torchao"] = AdamW8bit(tensors(torch.float32), lr=LR).step, 16
            made["AdamW, all bfloat16, torchao"] = (
                _AdamW(tensors(torch.bfloat16), lr=LR, bf16_stochastic_round=True).step, 14)
        with suppress(ImportError):
            from bitsandbytes.optim import AdamW8bit as Blockwise
            made["AdamW, 8-bit state, bitsandbytes"] = Blockwise(tensors(torch.float32),
                                                                 lr=LR).step, 16
    return made


def measured(name: str, shapes: Any, rounds: int, peers: bool) -> str:
    """Return the table of one list of arrays."""
    rows = []
    size = sum(int(np.prod(shape)) for shape in shapes)
    for family in ("SGD", "AdamW"):
        made = {which: ours(shapes, which) for which in OURS if which.startswith(family)}
        if peers and family == "AdamW":
            made |= theirs(shapes)
        times = interleaved({which: step for which, (step, _) in made.items()}, rounds)
        base = typical(times[next(iter(made))])
        rows += [row(which, size, moved, times[which], base) for which, (_, moved) in made.items()
                 if times[which]]
    return f"{name}:\n" + table(["", "time", "float32 / it", "bytes per parameter", "GB/s"], rows)


def row(which: str, size: int, moved: float, seconds: Any, base: float) -> list[str]:
    time = typical(seconds)
    return [which, duration(time), f"{base / time:.2f}", f"{moved:.3g}",
            f"{moved * size / time / 1e9:.1f}"]


def lists(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.quick:
        return {"1 x 10^6": LISTS["1 x 10^6"]}
    return {name: LISTS[name] for name in args.lists}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--lists", nargs="+", choices=LISTS,
                        default=["1 x 10^8", "GPT-2", "ResNet-50", "1 x 10^5"])
    parser.add_argument("--quick", action="store_true", help="try whether it works at all")


def run(args: argparse.Namespace) -> int:
    for name, shapes in lists(args).items():
        size = sum(int(np.prod(shape)) for shape in shapes)
        print(measured(name, shapes, args.rounds, size < 3e7), flush=True)
    return 0
