"""What `python -m bench ranks` runs on each rank: ``mpiexec -n N python -m bench.on_ranks``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

import fastmom as fm
from bench.ranks import ALLREDUCE, BACKWARD, BEYOND, REPLICATED, SHARDED
from fastmom.integrations.mpi import Replicated, Sharded

WORLD = MPI.COMM_WORLD
SIDE = 1000


def resident() -> int:
    """Return this process's own memory in bytes, without what it shares with others."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def arrays(elements: int) -> list[Any]:
    """Matrices, as PyTorch's optimizer divides whole tensors."""
    return [np.full((SIDE, SIDE), 0.5, np.float32) for _ in range(max(1, elements // SIDE**2))]


def best(run: Callable[[], object], steps: int) -> float:
    """Return the seconds of the slowest rank in the best of so many."""
    times = []
    for _ in range(steps + 1):
        WORLD.Barrier()
        start = time.perf_counter()
        run()
        times.append(WORLD.allreduce(time.perf_counter() - start, MPI.MAX))
    return float(min(times[1:]))


def beyond(elements: int, steps: int, early: bool, wire: str | None) -> float:
    """Return the seconds that a step between nodes adds to a backward pass.

    Each rank is a node. `early`: gradients are ready one by one during the pass.
    """
    with Sharded(WORLD, arrays(elements), fm.AdamW(), mirror=False, wire=wire,
                 ranks_per_node=1) as optimizer:
        for grad in optimizer.grads:
            grad[...] = 0.1

        def step() -> None:
            count = len(optimizer.grads)
            for i in reversed(range(count)):
                end = time.perf_counter() + BACKWARD / count
                while time.perf_counter() < end:
                    pass
                if early:
                    optimizer.ready(i)
            optimizer.step(optimizer.grads)
        return best(step, steps) - BACKWARD


def main(elements: int, steps: int) -> None:
    told: dict[str, Any] = {}
    memory: dict[str, int] = {}
    before = resident()
    sharded = Sharded(WORLD, arrays(elements), fm.AdamW(), mirror=False)
    for grad in sharded.grads:
        grad[...] = 0.1
    told[SHARDED] = best(lambda: sharded.step(sharded.grads), steps)
    memory["state"], memory["grown"] = sharded.memory()["state"], resident() - before
    sharded.close()

    before = resident()
    replicated = Replicated(WORLD, arrays(elements), fm.AdamW())
    for grad in replicated.grads:
        grad[...] = 0.1
    told[REPLICATED] = best(lambda: replicated.step(replicated.grads), steps)
    memory["replicated"] = replicated.optimizer.memory()["state"]
    memory["grown replicated"] = resident() - before
    replicated.close()

    params = arrays(elements)
    flat = np.full(sum(p.size for p in params), 0.1, np.float32)
    total = np.empty_like(flat)
    grads = [g.reshape(p.shape) for g, p in zip(np.split(total, len(params)), params, strict=True)]
    optimizer = fm.AdamW(params, grad_scale=WORLD.size)

    def step() -> None:
        WORLD.Allreduce(flat, total)
        optimizer.step(grads)
    with fm.num_threads(1):
        told[ALLREDUCE] = best(step, steps)
    own = np.empty(flat.size // WORLD.size, np.float32)
    used = flat[:own.size * WORLD.size]
    told["all-reduce"] = best(lambda: WORLD.Allreduce(flat, total), steps)
    told["reduce-scatter"] = best(lambda: WORLD.Reduce_scatter_block(used, own), steps)
    told["all-gather"] = best(lambda: WORLD.Allgather(own, total[:used.size]), steps)
    small = np.zeros(8)
    told["all-gather of 8 numbers"] = best(
        lambda: WORLD.Allgather(small, np.empty((WORLD.size, 8))), 20 * steps)
    for early, wire in ((False, None), (True, None), (False, "bfloat16"), (True, "bfloat16")):
        name = BEYOND + ", ready() in it" * early + f", {wire} on the wire" * (wire is not None)
        told[name] = beyond(elements, steps, early, wire)
    if WORLD.rank == 0:
        print(json.dumps({**told, "memory": memory}), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
