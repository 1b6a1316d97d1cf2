"""The matrix products of an epoch alone, in NumPy's BLAS."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.workloads import Run, Task, blas_limits, blas_threads

VERSIONS = f"numpy {np.__version__}"
NOTE = "products alone; the ratio is fastmom's share of its rate"


class Products:
    """Forward, weight-gradient and input-gradient products; the first layer has no last one."""

    def __init__(self, task: Task, threads: int | None) -> None:
        self.threads, batch = threads, task.setting.batch
        self.steps = -(-len(task.y) // batch)
        rng = np.random.default_rng(0)
        self.products: dict[str, tuple[Any, Any, Any]] = {}
        for i, (inputs, outputs) in enumerate(task.widths):
            x, dy, w = (rng.standard_normal(shape, np.float32) for shape in
                        ((batch, inputs), (batch, outputs), (inputs, outputs)))
            pairs = {"forward": (x, w), "weights": (x.T, dy), "input": (dy, w.T)}
            for what, (a, b) in pairs.items():
                if i or what != "input":
                    self.products[f"{inputs}x{outputs} {what}"] = (
                        a, b, np.empty((len(a), b.shape[1]), np.float32))

    def epoch(self) -> dict[str, Any]:
        """Return the rate of each product."""
        rates = {}
        with blas_threads(self.threads):
            for name, (a, b, out) in self.products.items():
                start = time.perf_counter()
                for _ in range(self.steps):
                    np.matmul(a, b, out=out)
                seconds = time.perf_counter() - start
                rates[name] = 2 * self.steps * a.size * b.shape[1] / seconds / 1e9
        return {"gflops": rates}

    def accuracy(self) -> None:
        return None


def variants(task: Task) -> dict[str, Run]:
    return {name: Products(task, threads) for name, threads in blas_limits().items()}
