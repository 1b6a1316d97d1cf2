"""The engine's targets, measured: ``python -m bench.engine``.

Ratios are of minima over rounds in which the candidates take turns. PyTorch, where it is
installed, runs its fused optimizer with its default settings.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmom as fm
from bench.bandwidth import MOMENTUM_BYTES
from bench.bandwidth import scaling as c_scale
from bench.timing import interleaved
from bench.workloads import HYPER, LISTS, Shapes, arrays


class Row(NamedTuple):
    """One line of the report, with the seconds of each round."""

    what: str
    ours: list[float]
    peer: list[float]           # empty where there is none
    target: float = math.nan    # of the ratio, or the most seconds of ours; none for a yardstick
    at_most: bool = False       # the ratio is ours / peer and bounded from above

    @property
    def measured(self) -> float:
        """What the target is of: a ratio of minima, or seconds."""
        best = [min(seconds) for seconds in (self.ours, self.peer) if seconds]
        if len(best) == 1:
            return best[0]
        return best[0] / best[1] if self.at_most else best[1] / best[0]

    @property
    def met(self) -> bool | None:
        if math.isnan(self.target):
            return None
        below = self.at_most or not self.peer
        return self.measured <= self.target if below else self.measured >= self.target

    @property
    def bound(self) -> str:
        """The target, in words."""
        if self.met is None:
            return ""
        if not self.peer:
            return f"<= {1e6 * self.target:.2f} us"
        return f"{'<=' if self.at_most else '>='} {self.target:g}"

    def __str__(self) -> str:
        seconds = [microseconds(min(times, default=math.nan)) for times in (self.ours, self.peer)]
        value = f"{self.measured:.2f}" if self.peer else ""
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return (f"{self.what:58} {seconds[0]:>12} {seconds[1]:>12} "
                f"{value:>7} {self.bound:>11} {met:>4}").rstrip()


def microseconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{1e6 * seconds:,.2f} us"


def ours(shapes: Shapes, **hyper: Any) -> Callable[[], object]:
    grads = arrays(shapes, 1)
    optimizer = fm.SGD(arrays(shapes), **HYPER, **hyper)
    return lambda: optimizer.step(grads)


def torch_fused(shapes: Shapes, clip: float | None = None) -> Callable[[], object]:
    import torch

    params = [torch.from_numpy(a).requires_grad_() for a in arrays(shapes)]
    for p, g in zip(params, arrays(shapes, 1), strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = torch.optim.SGD(params, **HYPER, fused=True)
    if clip is None:
        return optimizer.step

    def run() -> None:
        torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
    return run


def numpy_out(shape: tuple[int, ...]) -> Callable[[], object]:
    """What a careful NumPy user writes."""
    p, g = arrays([shape]) + arrays([shape], 1)
    return numpy_step(p, g, np.zeros_like(p), np.empty_like(p))


def numpy_step(p: Any, g: Any, v: Any, scratch: Any) -> Callable[[], object]:
    lr, m = np.float32(HYPER["lr"]), np.float32(HYPER["momentum"])

    def run() -> None:
        np.multiply(v, m, out=v)
        np.add(v, g, out=v)
        np.multiply(v, lr, out=scratch)
        np.subtract(p, scratch, out=p)
    return run


def numpy_naive(shape: tuple[int, ...]) -> Callable[[], object]:
    """What one writes first."""
    p, g = arrays([shape]) + arrays([shape], 1)
    v = np.zeros_like(p)

    def run() -> None:
        nonlocal p, v
        v = HYPER["momentum"] * v + g
        p = p - HYPER["lr"] * v
    return run


def pair(what: str, mine: Callable[[], object], peer: Callable[[], object] | None, target: float,
         rounds: int) -> Row:
    candidates = {"ours": mine} | ({"peer": peer} if peer else {})
    times = interleaved(candidates, rounds)
    return shown(Row(what, times["ours"], times.get("peer", []), target))


def shown(row: Row) -> Row:
    print(row, flush=True)
    return row


def against_clock(rounds: int) -> list[Row]:
    return [pair("1 x 10: a step", ours(LISTS["1 x 10"]), None, 1.5e-6, rounds)]


def against_torch(rounds: int) -> list[Row]:
    lists = {"MNIST MLP": (4, 8), "200 x 1,000": (25, None), "ResNet-50": (1.15, 1.8),
             "GPT-2": (1.15, 1.8), "1 x 10^8": (1.15, None)}
    rows = []
    for name, (step, clipped) in lists.items():
        shapes = LISTS[name]
        rows.append(pair(f"{name}: torch fused", ours(shapes), torch_fused(shapes), step, rounds))
        if clipped:
            rows.append(pair(f"{name}: torch clip_grad_norm_ + fused, clipping",
                             ours(shapes, clip_norm=1.0), torch_fused(shapes, 1.0), clipped,
                             rounds))
    return rows


def against_memory(rounds: int) -> list[Row]:
    threads, rows = fm.get_num_threads(), []
    for elements in (10**7, 10**8):
        shapes = [(elements,)]
        mine = ours(shapes)
        row = pair(f"{elements:.0e} elements: C scale of the same bytes, {threads} threads", mine,
                   c_scale(elements, threads), 1, rounds)
        rates = [elements * MOMENTUM_BYTES / min(seconds) / 1e9 for seconds in (row.ours, row.peer)]
        print(f"    {rates[0]:.1f} GB/s, C {rates[1]:.1f} GB/s")

        def single(mine: Callable[[], object] = mine) -> None:
            with fm.num_threads(1):
                mine()
        rows += [row, pair(f"{elements:.0e} elements: 1 thread", mine, single, 1.7, rounds),
                 pair(f"{elements:.0e} elements: the C scale's own 1 thread",
                      c_scale(elements, threads), c_scale(elements, 1), math.nan, rounds)]
    return rows


def against_numpy(rounds: int) -> list[Row]:
    rows = []
    for power in range(1, 9):
        shape = (10**power,)
        times = interleaved(
            {"ours": ours([shape]), "out=": numpy_out(shape), "naive": numpy_naive(shape)}, rounds)
        targets = {"out=": 4 if power >= 7 else 1, "naive": 1}
        rows += [shown(Row(f"10^{power} elements: NumPy {how}", times["ours"], times[how], target))
                 for how, target in targets.items()]
    return rows


def against_subnormals(rounds: int) -> list[Row]:
    """One step from velocities that are all subnormal, over one from normal ones."""
    import torch

    n, rows = 10**6, []
    for name, make in {"ours": stepper_ours, "NumPy out=": stepper_numpy,
                       "torch fused": lambda n: stepper_torch(n, torch)}.items():
        velocity, step = make(n)
        times: dict[float, list[float]] = {1e-39: [], 1e-3: []}
        for _ in range(20 * rounds):
            for value, seconds in times.items():
                velocity[:] = value
                start = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - start)
        rows.append(shown(Row(f"10^6 subnormal velocities over normal ones: {name}",
                              times[1e-39], times[1e-3], 1.05 if name == "ours" else math.nan,
                              at_most=True)))
    return rows


def stepper_ours(n: int) -> tuple[Any, Callable[[], object]]:
    zero = [np.zeros(n, np.float32)]
    optimizer = fm.SGD([np.ones(n, np.float32)], **HYPER)
    return optimizer.state[0]["velocity"], lambda: optimizer.step(zero)


def stepper_numpy(n: int) -> tuple[Any, Callable[[], object]]:
    p, g, v, scratch = (np.zeros(n, np.float32) for _ in range(4))
    return v, numpy_step(p, g, v, scratch)


def stepper_torch(n: int, torch: Any) -> tuple[Any, Callable[[], object]]:
    p = torch.ones(n, requires_grad=True)
    p.grad = torch.zeros(n)
    optimizer = torch.optim.SGD([p], **HYPER, fused=True)
    optimizer.step()
    return optimizer.state[p]["momentum_buffer"].numpy(), optimizer.step


def against_import(rounds: int) -> list[Row]:
    def run(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    times = interleaved({"fastmom": run("fastmom"), "numpy": run("numpy")}, 3 * rounds)
    return [shown(Row("import fastmom over import numpy", times["fastmom"], times["numpy"], 1.15,
                      at_most=True))]


PARTS: dict[str, Callable[[int], list[Row]]] = {
    "small": against_clock, "torch": against_torch, "memory": against_memory,
    "numpy": against_numpy, "subnormal": against_subnormals, "import": against_import}


def measure(parts: Iterable[str], rounds: int) -> list[Row]:
    """The rows of these parts, printed as they come; a part whose peer is missing says so."""
    print(f"{'':58} {'ours':>12} {'peer':>12} {'ratio':>7} {'target':>11}  met")
    rows: list[Row] = []
    for part in parts:
        try:
            rows += PARTS[part](rounds)
        except ImportError as error:
            print(f"{part}: skipped, {error}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    rows = measure([args.only] if args.only else PARTS, args.rounds)
    if args.json:
        args.json.write_text(json.dumps([row._asdict() for row in rows]))


if __name__ == "__main__":
    main()
