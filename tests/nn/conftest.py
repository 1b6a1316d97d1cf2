"""What the tests of the network share: a small problem, and models for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fastmom import nn

INPUT, CLASSES = (4, 5), 3


def small_layers(units: int = 8, activation: str = "relu", rate: float = 0.2) -> list[nn.Layer]:
    return [nn.Flatten(input_shape=INPUT), nn.Dense(units, activation=activation),
            nn.Dropout(rate), nn.Dense(CLASSES, activation="softmax")]


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """BLAS's threads wait by spinning: where another process wants the cores, steps take 50x."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def make() -> Callable[..., nn.Sequential]:
    """Return a function that makes and compiles a small model."""
    def make(layers: list[nn.Layer] | None = None, optimizer: Any = "sgd", seed: int = 0,
             dtype: str = "float32", **compiling: Any) -> nn.Sequential:
        model = nn.Sequential(small_layers() if layers is None else layers, seed=seed, dtype=dtype)
        model.compile(optimizer, **{"metrics": ["accuracy"], **compiling})
        return model
    return make


@pytest.fixture
def problem() -> Callable[..., tuple[Any, Any]]:
    """Return a function that draws samples and labels."""
    def problem(n: int, dtype: Any = np.float32, seed: int = 0,
                shape: tuple[int, ...] = INPUT, classes: int = CLASSES) -> tuple[Any, Any]:
        rng = np.random.default_rng(seed)
        return rng.standard_normal((n, *shape)).astype(dtype), rng.integers(0, classes, n)
    return problem


@pytest.fixture
def state() -> Callable[[nn.Sequential], list[Any]]:
    """Return a function that copies all that training changes."""
    def state(model: nn.Sequential) -> list[Any]:
        velocity = model.optimizer.state if model.optimizer else []
        return [*(p.copy() for p in model.params),
                *(v.copy() for buffers in velocity for v in buffers.values())]
    return state
