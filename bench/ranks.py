"""Measure collectives and steps over ranks of MPI, and predict larger systems by a model.

One run takes turns: ranks of fastmom (started with mpiexec; needs the extra mpi and mpich), then
ranks of PyTorch's ZeroRedundancyOptimizer on gloo with the Python of --torch, and again, --rounds
times; the best time of a step in all turns counts. All ranks have one thread. Targets on 2 ranks,
AdamW with 25 million parameters: a step of `Sharded` takes 1 / 2.5 of that after an all-reduce with
the same state on each rank, and 1 / 5 of PyTorch's.

"Between nodes" takes each rank for a node: gradients travel by messages, whole or in bfloat16,
after an artificial backward pass that keeps a core busy, or, by `ready`, in it. On one machine the
same cores carry the messages, so that `ready` gains nothing there: a network's card would.

The model: a message of B bytes takes alpha + B beta; --predict applies it to networks. What it says
of larger systems is a prediction, and marked so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.results import duration, table

HERE = Path(__file__).parents[1]
SHARDED, REPLICATED, ALLREDUCE, ZERO = (
    "Sharded, shared window", "Replicated, shared window", "all-reduce, then AdamW on each rank",
    "torch ZeroRedundancyOptimizer, gloo")
BACKWARD = 0.05     # seconds of an artificial backward pass
BEYOND = f"between nodes: step beyond a backward pass of {BACKWARD * 1e3:g} ms"
TARGETS = {ALLREDUCE: 2.5, ZERO: 5.0}
PARAMETERS, RANKS, GBITS = (10**9, 10**10, 10**11, 10**12), (8, 64, 512, 4096), (25, 200)
PER_NODE, ALPHA = 8, 10e-6      # ranks that share a network card; seconds a message takes at least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--elements", type=int, default=25_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="of each kind in a round")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python with PyTorch")
    parser.add_argument("--predict", action="store_true",
                        help="predict steps of larger systems from what is measured")


def run(args: argparse.Namespace) -> int:
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if mpiexec is None:
        print("no mpiexec: pip install mpi4py mpich")
        return 2
    sizes = [str(args.ranks), str(args.elements), str(args.steps)]
    found: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, Any] = {}
    for _ in range(args.rounds):
        told = output([mpiexec, "-n", sizes[0], sys.executable, "-m", "bench.on_ranks", *sizes[1:]])
        memory = told.pop("memory")
        if args.torch:
            told |= output([args.torch, str(Path(__file__).with_name("on_gloo.py")), *sizes])
        for name, seconds in told.items():
            found[name].append(seconds)
    best = {name: min(times) for name, times in found.items()}
    print(f"{args.ranks} ranks, {args.elements:,} float32 parameters, best of "
          f"{args.rounds * args.steps}\n")
    print(table(["measured", "time", "Sharded is faster by", "target"], rows(best)))
    print(f"\nstate of a rank: {memory['state'] / 1e6:.0f} MB with Sharded, "
          f"{memory['replicated'] / 1e6:.0f} MB replicated; the process grew by "
          f"{memory['grown'] / 1e6:.0f} and {memory['grown replicated'] / 1e6:.0f} MB")
    if args.predict:
        per_element = best[SHARDED] * args.ranks / args.elements
        print(f"\nPrediction, not measured: a step of Sharded between nodes of {PER_NODE} ranks, "
              f"alpha {ALPHA * 1e6:g} us,\nwith the {per_element * 1e9:.2f} ns per parameter and "
              f"rank that are measured here\n")
        print(table(["parameters", "ranks", "state of a rank",
                     *(f"step at {g} Gbit/s" for g in GBITS)], predictions(per_element)))
    return 0


def output(command: list[str]) -> dict[str, Any]:
    """Return what a command prints as JSON on its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True,
                          timeout=600)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def rows(best: Mapping[str, float]) -> Iterator[list[str]]:
    """Yield the cells of each row."""
    for name, seconds in best.items():
        ratio = seconds / best[SHARDED]
        target = TARGETS.get(name)
        met = "" if target is None else f">= {target:g}: {'yes' if ratio >= target else '**no**'}"
        steps = name in (REPLICATED, *TARGETS)
        yield [name, duration(seconds), f"{ratio:.2f}" if steps else "", met]


def step_seconds(parameters: float, ranks: int, bits: float, per_element: float) -> float:
    """Return what the model says of a step.

    Gradients and parameters, 4 bytes each, pass the card of each node once; each rank sends a
    message to one rank of every other node; and steps its part.

    >>> round(step_seconds(1e9, 64, 25e9, 0.0), 3)      # 2 * 7/8 * 4e9 bytes at 3.125 GB/s
    2.24
    """
    nodes = max(1, ranks // PER_NODE)
    sent = (nodes - 1) / nodes * 4 * parameters
    return 2 * ((nodes - 1) * ALPHA + 8 * sent / bits) + per_element * parameters / ranks


def predictions(per_element: float) -> Iterator[list[str]]:
    """Yield the cells of each row; systems of which a rank's part is above 100 GB are left out."""
    for parameters in PARAMETERS:
        for ranks in RANKS:
            state = 8 * parameters / ranks
            if state <= 1e11:
                yield [f"{parameters:.0e}", str(ranks), f"{state / 1e9:.2f} GB",
                       *(duration(step_seconds(parameters, ranks, 1e9 * g, per_element))
                         for g in GBITS)]
