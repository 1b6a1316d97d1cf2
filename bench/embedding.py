"""Compare steps of some rows of an embedding table with PyTorch's SparseAdam and with NumPy.

Every step has rows and values of its own, as a training has. All take the same ones in turn, in
this process, on tables of their own; making PyTorch's sparse tensor is not timed, making the
RowGrad is. PyTorch is left out where it is not installed. Ends with status 1 if a step is not 5
times as fast as PyTorch's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import fastmom as fm
from bench.results import duration, plural
from bench.timing import until_asleep

ROUNDS = 40
TARGET = 5.0    # SparseAdam's time over ours, at least
FIRST = 3       # rounds that do not count
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8

SPARSE = "PyTorch SparseAdam"

Give = Callable[[Any, Any], Callable[[], object]]       # from rows and values to what is timed


def ours(table: Any, threads: int) -> Give:
    optimizer = fm.Adam([table], lr=LR)
    for array in optimizer.state[0].values():
        array += 1e-6           # so that its pages are there

    def step(rows: Any, values: Any) -> None:
        with fm.num_threads(threads):
            optimizer.step([fm.RowGrad(rows, values)])
    return lambda rows, values: lambda: step(rows, values)


def numpy(table: Any) -> Give:
    mean, square = np.full_like(table, 1e-6), np.full_like(table, 1e-6)
    age = 0

    def step(rows: Any, values: Any) -> None:
        nonlocal age
        age += 1
        distinct, places = np.unique(rows, return_inverse=True)
        g = np.zeros((len(distinct), table.shape[1]), table.dtype)
        np.add.at(g, places, values)
        m, v = BETA1 * mean[distinct] + (1 - BETA1) * g, square[distinct]
        v = BETA2 * v + (1 - BETA2) * g * g
        mean[distinct], square[distinct] = m, v
        root = np.sqrt(v / (1 - BETA2 ** age)) + EPS
        table[distinct] -= LR / (1 - BETA1 ** age) * m / root
    return lambda rows, values: lambda: step(rows, values)


def pytorch(table: Any) -> Give | None:
    try:
        import torch
    except ModuleNotFoundError:
        return None
    p = torch.nn.Parameter(torch.from_numpy(table))
    optimizer = torch.optim.SparseAdam([p], lr=LR, betas=(BETA1, BETA2), eps=EPS)

    def give(rows: Any, values: Any) -> Callable[[], object]:
        p.grad = torch.sparse_coo_tensor(torch.from_numpy(rows[None]), torch.from_numpy(values),
                                         table.shape, check_invariants=True)
        return optimizer.step
    return give


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", type=int, default=500_000, help="rows of the table")
    parser.add_argument("--rows", type=int, default=4096, help="of each gradient, drawn evenly")
    parser.add_argument("--width", type=int, default=64, help="float32 numbers of each row")
    parser.add_argument("--rounds", type=int, default=ROUNDS)


def run(args: argparse.Namespace) -> int:
    rng = np.random.default_rng(0)
    start = rng.standard_normal((args.table, args.width), np.float32)
    makers = {f"fastmom, {plural(n)}": ours(start.copy(), n)
              for n in dict.fromkeys((1, fm.get_num_threads()))}
    makers["NumPy"] = numpy(start.copy())
    if (torch := pytorch(start.copy())) is not None:
        makers[SPARSE] = torch
    times: dict[str, list[float]] = {who: [] for who in makers}
    for _ in range(args.rounds + FIRST):
        rows = rng.integers(0, args.table, args.rows)
        values = rng.standard_normal((args.rows, args.width), np.float32)
        for who in rng.permutation(list(makers)).tolist():
            step = makers[who](rows, values)
            until_asleep()          # threads of the last step
            begun = time.perf_counter()
            step()
            times[who].append(time.perf_counter() - begun)
    own = median(times[f"fastmom, {plural(fm.get_num_threads())}"][FIRST:])
    print(f"Adam, {args.rows} of {args.table} x {args.width} rows, {args.rounds} rounds")
    print(f"{'':28} {'median':>10} {'fastest':>10}")
    for who, all_ in times.items():
        counted = all_[FIRST:]
        print(f"{who:28} {duration(median(counted)):>10} {duration(min(counted)):>10}  "
              f"{median(counted) / own:.1f} x")
    return int(torch is not None and median(times[SPARSE][FIRST:]) < TARGET * own)
