"""Fit what a step costs to stored results, and predict what larger ones would cost.

    seconds = call + tensor * tensors + team + traffic * bytes / bandwidth(working set)

"call", "tensor", "team" (a team of threads is woken, for steps of 32,768 elements or more) and
"traffic" are fitted to the stored steps, non-negative and with the least squares of relative
errors. The bandwidth is the best that the in-place scale and triad in C reach over as many bytes or
more with as many threads or fewer: what is smaller is not slower, unless it was disturbed. Bytes
are what the formula names; clipping reads the gradients once more.

Beyond what was measured stand predictions, not measurements: on one machine the model goes on with
the bandwidth of its memory, whether it has as much memory or not; on several, each holds and steps
its share, and gradients are summed and parameters collected in a ring, 2 (N - 1) messages of 1/N of
all bytes, each with a latency alpha and at a bandwidth beta that are assumed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import results
from bench.results import Results, duration, table, typical

TEAM_FROM = 32_768      # elements: SERIAL_BELOW of fastmom/kernels/sweep.pyx
STATE = {"SGD": 1, "AdamW": 2}
TERMS = ["call", "tensor", "team", "traffic"]
ALPHA, BETA = 10e-6, 12.5e9     # s, B/s: assumed, as of Ethernet with 100 Gb/s
PARAMETERS = [10**9, 10**10, 10**11, 10**12]
MACHINES = [1, 8, 64, 1024]


class Kind(NamedTuple):
    """Steps with one set of coefficients."""

    optimizer: str
    clip: float | None
    threads: int

    def __str__(self) -> str:
        return (f"{self.optimizer}{', clipped' if self.clip else ''}, {self.threads} "
                f"thread{'s' if self.threads > 1 else ''}")

    def bytes_of(self, elements: float) -> float:
        return 4 * elements * (3 + 2 * STATE[self.optimizer] + (self.clip is not None))

    def working_set(self, elements: float) -> float:
        return 4 * elements * (2 + STATE[self.optimizer])


class Model:
    """Coefficients of one kind of step."""

    def __init__(self, kind: Kind, results: Results) -> None:
        self.kind, self.kernels = kind, results["bandwidth"]["kernels"]
        self.cases, self.seconds = [], []
        name = "fastmom" if kind.threads > 1 else "fastmom, 1 thread"
        for row in results["steps"]["rows"]:
            if (row["optimizer"], row["clip"]) == (kind.optimizer, kind.clip) and name in row.get(
                    "seconds", {}):
                self.cases.append(row)
                self.seconds.append(typical(row["seconds"][name]))
        columns = np.array([self.columns(row["tensors"], row["elements"]) for row in self.cases])
        self.coefficients = nonnegative(columns / np.array(self.seconds)[:, None])

    def bandwidth(self, working_set: float, threads: int) -> float:
        """Return bytes per second, between measured sizes on a straight line of logarithms."""
        sizes = sorted({row["working_set"] for row in self.kernels})
        rates = [max(row["bytes"] / typical(row["seconds"]) for row in self.kernels
                     if row["working_set"] >= size and row["threads"] <= threads) for size in sizes]
        return float(np.exp(np.interp(np.log(working_set), np.log(sizes), np.log(rates))))

    def columns(self, tensors: int, elements: float) -> list[float]:
        team = self.kind.threads > 1 and elements >= TEAM_FROM
        rate = self.bandwidth(self.kind.working_set(elements), self.kind.threads if team else 1)
        return [1, tensors, team, self.kind.bytes_of(elements) / rate]

    def predict(self, tensors: int, elements: float) -> float:
        return float(np.dot(self.columns(tensors, elements), self.coefficients))

    def errors(self) -> Iterator[tuple[str, float, float]]:
        """Yield workload, measured and predicted seconds."""
        for row, seconds in zip(self.cases, self.seconds, strict=True):
            yield row["workload"], seconds, self.predict(row["tensors"], row["elements"])


def nonnegative(columns: Any) -> Any:
    """Return the x >= 0 with the least ``|columns x - 1|``: the best of all choices of columns.

    They are few, so that trying them all is the simplest way to be exact.
    """
    best, least = np.zeros(columns.shape[1]), math.inf
    for count in range(1, columns.shape[1] + 1):
        for chosen in map(list, itertools.combinations(range(columns.shape[1]), count)):
            x = np.linalg.lstsq(columns[:, chosen], np.ones(len(columns)), rcond=None)[0]
            error = float(np.linalg.norm(columns[:, chosen] @ x - 1))
            if (x >= 0).all() and error < least:
                best, least = np.zeros(columns.shape[1]), error
                best[chosen] = x
    return best


def models(results: Results) -> list[Model]:
    threads = sorted({row["threads"] for row in results["bandwidth"]["kernels"]}, reverse=True)
    kinds = {(row["optimizer"], row["clip"]) for row in results["steps"]["rows"]}
    return [Model(Kind(optimizer, clip, count), results) for count in threads
            for optimizer, clip in sorted(kinds, key=str, reverse=True)]


def allreduce(size: float, machines: int, alpha: float, beta: float) -> float:
    """Return the seconds of a ring: gradients are reduced and scattered, parameters gathered."""
    return 2 * (machines - 1) * (alpha + size / machines / beta)


# Reporting: each returns the head and the rows of a table ----------------------------------------

Table = tuple[list[str], list[list[str]]]


def coefficients_table(fitted: list[Model]) -> Table:
    rows = []
    for model in fitted:
        *seconds, traffic = model.coefficients
        off = [abs(predicted / measured - 1) for _, measured, predicted in model.errors()]
        rows.append([str(model.kind), *(f"{1e6 * s:.3f} us" for s in seconds), f"{traffic:.2f}",
                     f"{np.median(off):.0%}", f"{max(off):.0%}"])
    return ["step", *TERMS, "median error", "largest error"], rows


def errors_table(fitted: list[Model]) -> Table:
    rows = [[str(model.kind), workload, duration(measured), duration(predicted),
             f"{predicted / measured - 1:+.0%}"]
            for model in fitted for workload, measured, predicted in model.errors()]
    return ["step", "case", "measured", "model", "error"], rows


def predictions_table(model: Model, alpha: float, beta: float, machines: list[int]) -> Table:
    rows = []
    for parameters in PARAMETERS:
        for count in machines:
            share = parameters / count
            step = model.predict(1, share)
            ring = allreduce(4 * parameters, count, alpha, beta)
            memory = f"{model.kind.working_set(share) / 1e9:,.1f} GB"
            rows.append([f"{parameters:.0e}", str(count), memory, duration(step), duration(ring),
                         duration(step + ring)])
    return ["parameters", "machines", "memory of each", "step", "ring", "sum"], rows


def chosen(fitted: list[Model]) -> list[Model]:
    """Return the models for predictions: unclipped and with all threads."""
    most = max(model.kind.threads for model in fitted)
    return [m for m in fitted if m.kind.clip is None and m.kind.threads == most]


def chapter(found: Results, alpha: float = ALPHA, beta: float = BETA,
            machines: list[int] = MACHINES) -> str:
    """Return the model, its errors and predictions in Markdown."""
    fitted = models(found)
    parts = [f"```\n{(__doc__ or '').partition(chr(10))[2].strip()}\n```",
             table(*coefficients_table(fitted)), table(*errors_table(fitted))]
    for model in chosen(fitted):
        parts += [f"**Prediction, not measured**, {model.kind}; ring with alpha {1e6 * alpha:g} us "
                  f"and beta {beta / 1e9:g} GB/s, both assumed:",
                  table(*predictions_table(model, alpha, beta, machines))]
    return "\n\n".join(parts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("results", type=Path, nargs="?", default=results.FILE)
    add("--alpha", type=float, default=ALPHA, help="seconds per message (default: %(default)g)")
    add("--beta", type=float, default=BETA, help="bytes per second (default: %(default)g)")
    add("--machines", type=int, nargs="+", default=MACHINES)


def run(args: argparse.Namespace) -> int:
    if not (args.alpha >= 0 and args.beta > 0 and min(args.machines) >= 1):
        print("--alpha must be at least 0, --beta above 0, --machines at least 1", file=sys.stderr)
        return 2
    print(chapter(results.load(args.results), args.alpha, args.beta, args.machines))
    return 0
