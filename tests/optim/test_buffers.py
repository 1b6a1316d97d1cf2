"""Where state lies."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim.buffers import LARGE, LINE, PAGE, zeros_beside

OPTIMIZERS = {"SGD": {"momentum": 0.9}, "AdamW": {}, "AdamW amsgrad": {"amsgrad": True}, "Adan": {}}


def address(array: Any) -> int:
    return int(array.ctypes.data)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_arrays_are_apart_in_a_page(name: str, dtype: Any) -> None:
    """So no load waits for a store to the same place of another page."""
    sizes = [30_000, 17, 20_001, 123_457, 1, 50_000]
    memory = np.empty(sum(sizes) + 100, dtype)
    params, start = [], 3
    for size in sizes:
        params.append(memory[start:start + size])
        start += size
    kind: Any = getattr(fm, name.split()[0])
    optimizer = kind(params, **OPTIMIZERS[name])
    for param, state in zip(params, optimizer.state, strict=True):
        for array in state.values():
            assert (address(array) - address(param)) % LINE == 0
        if param.nbytes >= LARGE:
            places = [address(a) % PAGE for a in (param, *state.values())]
            apart = [min((a - b) % PAGE, (b - a) % PAGE) for a, b in combinations(places, 2)]
            assert min(apart) >= PAGE // (len(places)) - LINE


def test_memory_beyond_what_is_needed() -> None:
    params = [np.zeros(size, np.float32) for size in (LARGE // 4, 1000, 10, LARGE)]
    buffers = zeros_beside(params, [[(p.shape, p.dtype)] * 2 for p in params])
    base: Any = buffers[0][0]
    while base.base is not None:
        base = base.base
    needed = sum(2 * p.nbytes for p in params)
    assert needed <= base.nbytes <= needed + 4 * PAGE + 8 * LINE + 4 * LINE
    assert not any(array.any() for own in buffers for array in own)
