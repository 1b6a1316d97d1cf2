"""What tests run in other processes: importable there, unlike the tests themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastmom as fm

N = 1_000_000       # large enough for a team of threads


def train(steps: int = 20, parts: int = 0) -> bytes:
    rng = np.random.default_rng(0)
    p, g = rng.standard_normal((2, N), np.float32)
    optimizer = fm.SGD([np.ascontiguousarray(p)], lr=0.1, momentum=0.9, clip_norm=1.0)
    assert optimizer._engine is not None
    optimizer._engine.parts = parts
    for _ in range(steps):
        optimizer.step([g])
    return bytes(optimizer.param_groups[0]["params"][0].tobytes())


def child(queue: Any) -> None:
    queue.put((train(), fm.get_num_threads()))
