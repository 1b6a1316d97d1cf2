"""Compare AdamW for parameters of an accelerator, beside casts around a float32 step.

bfloat16 gradients come in, bfloat16 parameters go out, and masters and state are float32 in the
CPU's memory, as in CPUOffload. PyTorch's fused step and DeepSpeed's CPUAdam need float32 gradients,
and leave float32 parameters: the casts count. Bytes are those that the formula and the casts read
and write. Ends with status 1 if a step is not 1.4 times as fast as PyTorch's with casts. Needs
torch; DeepSpeed takes part where it is installed, once it has compiled its step: a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.results import duration, number, table, typical
from bench.timing import interleaved
from bench.workloads import LISTS, LR

ROUNDS, TARGET = 7, 1.4
MOVED = 28      # 24 for three numbers that are updated; 2 each for gradient and parameter, or 4 for
CASTS = 12      # a gradient in float32, which takes 6 to make, as the parameter does
OURS, TORCH, DEEPSPEED = "fastmom", "PyTorch fused, with casts", "DeepSpeed CPUAdam, with casts"


def with_casts(optimizer_class: Any, params: list[Any]) -> Callable[[], None]:
    """Return a step of float32 masters, with casts of gradients in and of parameters out."""
    import torch
    masters = [torch.nn.Parameter(p.detach().float()) for p in params]
    for master in masters:
        master.grad = torch.empty_like(master)
    optimizer = optimizer_class(masters)

    def step() -> None:
        for master, p in zip(masters, params, strict=True):
            master.grad.copy_(p.grad)
        optimizer.step()
        for master, p in zip(masters, params, strict=True):
            p.detach().copy_(master.detach())
    return step


def candidates(shapes: Any) -> dict[str, Callable[[], object]]:
    """Return the steps by name, each of parameters of its own."""
    import torch

    import fastmom.integrations.torch as ours

    def params() -> list[Any]:
        made = [torch.nn.Parameter(torch.ones(shape, dtype=torch.bfloat16)) for shape in shapes]
        for p in made:
            p.grad = torch.full_like(p, 1e-3)
        return made
    made: dict[str, Callable[[], object]] = {
        OURS: ours.AdamW(params(), lr=LR).step,
        TORCH: with_casts(partial(torch.optim.AdamW, lr=LR, fused=True), params())}
    try:
        from deepspeed.ops.adam import DeepSpeedCPUAdam
    except ImportError:
        print("no DeepSpeed here")
    else:
        made[DEEPSPEED] = with_casts(partial(DeepSpeedCPUAdam, lr=LR, weight_decay=0.01), params())
    return made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--lists", nargs="+", choices=LISTS, default=["ResNet-50", "GPT-2"])


def run(args: argparse.Namespace) -> int:
    try:
        import torch
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    reached = []
    for name in args.lists:
        size = sum(torch.Size(shape).numel() for shape in LISTS[name])
        timed = interleaved(candidates(LISTS[name]), args.rounds)
        base, rows = typical(timed[TORCH]), []
        for who, seconds in timed.items():
            time, moved = typical(seconds), MOVED + (CASTS if who != OURS else 0)
            rows.append([who, duration(time), number(base / time), str(moved),
                         number(moved * size / time / 1e9)])
        reached.append(base / typical(timed[OURS]) >= TARGET)
        print(f"{name}, {size / 1e6:.1f} million parameters, {torch.get_num_threads()} threads:\n"
              + table(["AdamW", "time", f"{TORCH} / it", "bytes per parameter", "GB/s"], rows))
    return int(not all(reached))
