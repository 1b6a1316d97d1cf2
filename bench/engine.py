"""The engine's targets, measured: ``python -m bench.engine``.

Ratios are of minima over rounds in which the candidates take turns. PyTorch, where it is
installed, runs its fused optimizer with its default settings.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmom as fm
from bench.timing import interleaved
from bench.workloads import LISTS, Shapes

HYPER = {"lr": 1e-9, "momentum": 0.9}
BYTES = 20      # per float32 element of a momentum step: read p, g, v; write p, v


class Row(NamedTuple):
    """One line of the report."""

    what: str
    ours: float
    peer: float
    target: float       # of peer / ours, or the most seconds of ours where there is no peer

    def __str__(self) -> str:
        if math.isnan(self.peer):
            ratio, met = "", self.ours <= self.target
            target = f"<= {1e6 * self.target:.2f} us"
        else:
            value = self.peer / self.ours
            ratio, met, target = f"{value:.2f}", value >= self.target, f">= {self.target:g}"
        return (f"{self.what:58} {microseconds(self.ours):>12} {microseconds(self.peer):>12} "
                f"{ratio:>7} {target:>11} {'yes' if met else 'NO':>4}")


def microseconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{1e6 * seconds:,.2f} us"


def arrays(shapes: Shapes, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


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


def c_scale(elements: int, threads: int) -> Callable[[], object]:
    """``x *= a`` over as many bytes as a momentum step of so many elements moves."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "scale.so")
        subprocess.run(["cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", library,
                        Path(__file__).with_name("scale.c")], check=True)
        scale = ctypes.CDLL(str(library)).scale
    scale.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_float, ctypes.c_int]
    x = np.ones(elements * BYTES // 8, np.float32)
    return lambda: scale(x.ctypes.data, x.size, 1.0, threads)


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
    best = {name: min(times) for name, times in interleaved(candidates, rounds).items()}
    row = Row(what, best["ours"], best.get("peer", math.nan), target)
    print(row, flush=True)
    return row


def against_torch(rounds: int) -> None:
    lists = {"MNIST MLP": (4, 8), "200 x 1,000": (25, None), "ResNet-50": (1.15, 1.8),
             "GPT-2": (1.15, 1.8), "1 x 10^8": (1.15, None)}
    for name, (step, clipped) in lists.items():
        shapes = LISTS[name]
        pair(f"{name}: torch fused", ours(shapes), torch_fused(shapes), step, rounds)
        if clipped:
            pair(f"{name}: torch clip_grad_norm_ + fused, clipping", ours(shapes, clip_norm=1.0),
                 torch_fused(shapes, 1.0), clipped, rounds)


def against_memory(rounds: int) -> None:
    threads = fm.get_num_threads()
    for elements in (10**7, 10**8):
        shapes = [(elements,)]
        mine = ours(shapes)
        row = pair(f"{elements:.0e} elements: C scale of the same bytes, {threads} threads", mine,
                   c_scale(elements, threads), 1, rounds)
        print(f"    {elements * BYTES / row.ours / 1e9:.1f} GB/s, "
              f"C {elements * BYTES / row.peer / 1e9:.1f} GB/s")

        def single(mine: Callable[[], object] = mine) -> None:
            with fm.num_threads(1):
                mine()
        pair(f"{elements:.0e} elements: 1 thread", mine, single, 1.7, rounds)
        pair(f"{elements:.0e} elements: the C scale's own 1 thread", c_scale(elements, threads),
             c_scale(elements, 1), 1.7, rounds)


def against_numpy(rounds: int) -> None:
    for power in range(1, 9):
        shape = (10**power,)
        best = {name: min(times) for name, times in interleaved(
            {"ours": ours([shape]), "out": numpy_out(shape), "naive": numpy_naive(shape)},
            rounds).items()}
        print(Row(f"10^{power} elements: NumPy out=", best["ours"], best["out"],
                  4 if power >= 7 else 1))
        print(Row(f"10^{power} elements: NumPy naive", best["ours"], best["naive"], 1), flush=True)


def against_subnormals(rounds: int) -> None:
    """One step from velocities that are all subnormal, over one from normal ones."""
    import torch

    n = 10**6
    for name, make in {"ours": stepper_ours, "NumPy out=": stepper_numpy,
                       "torch fused": lambda n: stepper_torch(n, torch)}.items():
        velocity, step = make(n)
        best = {1e-39: math.inf, 1e-3: math.inf}
        for _ in range(20 * rounds):
            for value in best:
                velocity[:] = value
                start = time.perf_counter()
                step()
                best[value] = min(best[value], time.perf_counter() - start)
        slow, normal = best.values()
        target = ", target <= 1.05" if name == "ours" else ""
        print(f"10^6 subnormal velocities: {name:12} {microseconds(slow)} against "
              f"{microseconds(normal)}: {slow / normal:.2f}{target}")


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


def against_import(rounds: int) -> None:
    def run(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    times = interleaved({"fastmom": run("fastmom"), "numpy": run("numpy")}, 3 * rounds)
    ours, numpy = min(times["fastmom"]), min(times["numpy"])
    print(f"import: fastmom {ours * 1e3:.1f} ms, numpy {numpy * 1e3:.1f} ms: "
          f"{ours / numpy:.3f}, target <= 1.15")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["small", "torch", "memory", "numpy", "subnormal",
                                             "import"])
    args = parser.parse_args()
    print(f"{'':58} {'ours':>12} {'peer':>12} {'ratio':>7} {'target':>11}  met")
    parts: dict[str, Callable[[int], object]] = {
        "small": lambda rounds: pair("1 x 10: a step", ours(LISTS["1 x 10"]), None, 1.5e-6, rounds),
        "torch": against_torch, "memory": against_memory, "numpy": against_numpy,
        "subnormal": against_subnormals, "import": against_import}
    for name, part in parts.items():
        if args.only in (None, name):
            part(args.rounds)


if __name__ == "__main__":
    main()
