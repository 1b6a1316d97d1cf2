"""Every optimizer against plain NumPy and PyTorch: ``python -m bench.optimizers``.

The optimizers are those of `fastmom.optim.OPTIMIZERS`; PyTorch's of the same name, where there is
one, steps with each implementation it offers. All use their defaults, which are the same, but for
the `HYPER` below. Candidates take turns; times are minima, and beside those of others stands how
many times ours they are. ``--large`` names the optimizers that also step the 124 million
parameters of GPT-2, which takes 11 GB of memory for AdamW. PyTorch's Muon is for matrices only, so
its fused AdamW steps the rest, as fastmom's Muon does by itself.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine import Row, microseconds
from bench.timing import interleaved
from bench.workloads import LISTS, arrays
from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.optim.reference import Reference

Run = Callable[[], object]
Times = Mapping[str, list[float]]

LR = 1e-9       # keeps the parameters where they are, however many steps are timed
HYPER: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}}
FORMS: dict[str, dict[str, bool]] = {       # of PyTorch's optimizers
    "fused": {"fused": True}, "foreach": {"foreach": True}, "single": {"foreach": False}}
SMALL = ["MNIST MLP", "200 x 1,000"]
LARGE = "GPT-2"
FUSED_TARGETS = {("AdamW", "MNIST MLP"): 5.0, ("AdamW", "200 x 1,000"): 25.0,
                 ("AdamW", LARGE): 1.15}
BEST_TARGET = 1.0
COLUMNS = ["NumPy", *FORMS]


def in_numpy(optimizer: Optimizer, grads: list[Any]) -> Run:
    """The rule of the reference, without its passes for clipping, which nobody asked for here."""
    reference = Reference(optimizer, np.float32)
    hyper = [group.at(0) for group in reference.hyper]

    def run() -> None:
        for p, g, s, h in zip(reference.params, grads, reference.state, hyper, strict=True):
            reference.rule(p, g, s, h, 1, 1)    # always the second step: NAdam's cost grows
    return run


def in_torch(name: str, shapes: list[tuple[int, ...]], grads: list[Any]) -> dict[str, Run]:
    """The step of each form that PyTorch has of this optimizer."""
    try:
        import torch
    except ImportError:
        return {}
    make = getattr(torch.optim, name, None)
    matrices_only = name == "Muon"
    if make is None or (matrices_only and not any(len(shape) == 2 for shape in shapes)):
        return {}
    known = inspect.signature(make).parameters
    runs: dict[str, Run] = {}
    for form, options in FORMS.items():
        offered = {key: value for key, value in options.items() if key in known}
        if not offered and form != "single":
            continue
        params = [torch.from_numpy(a).requires_grad_() for a in arrays(shapes)]
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(g)
        mine = [p for p in params if p.ndim == 2 or not matrices_only]
        rest = [p for p in params if p.ndim != 2 and matrices_only]
        runs[form] = make(mine, lr=LR, **HYPER.get(name, {}), **offered).step
        if rest:
            runs[form] = both(runs[form], torch.optim.AdamW(rest, lr=LR, fused=True).step)
    return runs


def both(first: Run, second: Run) -> Run:
    def run() -> None:
        first()
        second()
    return run


def measure(cls: type[Optimizer], workload: str, rounds: int) -> dict[str, list[float]]:
    """Seconds per step of each candidate in each round."""
    name, shapes = cls.__name__, LISTS[workload]
    grads = arrays(shapes, 1)
    make: Any = cls     # each optimizer has arguments of its own
    optimizer: Optimizer = make(arrays(shapes), lr=LR, **HYPER.get(name, {}))
    candidates: dict[str, Run] = {"fastmom": lambda: optimizer.step(grads),
                                  "NumPy": in_numpy(optimizer, grads),
                                  **in_torch(name, shapes, grads)}
    return interleaved(candidates, rounds)


def rows_of(name: str, workload: str, times: Times) -> list[Row]:
    """What is asked for: the fused target where there is one, and to lose to no form of PyTorch."""
    ours, torch = times["fastmom"], [form for form in FORMS if form in times]
    if not torch:
        return []
    best = min(torch, key=lambda form: min(times[form]))
    rows = [Row(f"{name}, {workload}: the best of torch", ours, times[best], BEST_TARGET)]
    fused = FUSED_TARGETS.get((name, workload))
    if fused is not None:
        rows.insert(0, Row(f"{name}, {workload}: torch fused", ours, times["fused"], fused))
    return rows


def report(name: str, workload: str, times: Times) -> str:
    best = {who: min(seconds) for who, seconds in times.items()}
    ours = best["fastmom"]
    cells = [f"{microseconds(best[who]):>15} {best[who] / ours:6.2f}x" if who in best else 23 * " "
             for who in COLUMNS]
    rows = rows_of(name, workload, times)
    targets = ", ".join(f"{row.what.rpartition(' ')[2]} {row.target:g}" for row in rows)
    targets = targets.replace("torch", "best")
    met = ("yes" if all(row.met for row in rows) else "NO") if rows else ""
    line = f"{name:9} {workload:12} {microseconds(ours):>14}{''.join(cells)}  {targets:21} {met}"
    return line.rstrip()


def measure_all(keys: Iterable[str], large: Collection[str],
                rounds: int) -> list[tuple[str, str, dict[str, list[float]]]]:
    """Optimizer, list of tensors and seconds, printed as they come."""
    heads = [f"{head if head == 'NumPy' else 'torch ' + head:>23}" for head in COLUMNS]
    print(f"{'':22} {'fastmom':>14}{''.join(heads)}  {'targets, torch / ours':21} met")
    results = []
    for key in keys:
        cls = OPTIMIZERS[key]
        for workload in [*SMALL, *([LARGE] if key in large else [])]:
            times = measure(cls, workload, rounds)
            print(report(cls.__name__, workload, times), flush=True)
            results.append((cls.__name__, workload, times))
    return results


def main() -> None:
    names = list(OPTIMIZERS)
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=names)
    parser.add_argument("--large", nargs="*", choices=names, default=["adamw"],
                        help="these also step GPT-2 (default: adamw; none if no name follows)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    results = measure_all([args.only] if args.only else names, args.large, args.rounds)
    if args.json:
        keys = "optimizer", "workload", "seconds"
        args.json.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in results]))


if __name__ == "__main__":
    main()
