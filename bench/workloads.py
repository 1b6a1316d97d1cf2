"""Workloads, for this process and for the peers: tensors to step, networks to train.

It needs NumPy alone, as it is imported by interpreters that have no fastmom.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

PIXELS = 784
LR = 1e-9       # of the steps: the parameters stay where they are
HYPER: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}}     # besides lr; else the defaults
Shapes = list[tuple[int, ...]]


# Tensors to step ----------------------------------------------------------------------------------

def mlp() -> Shapes:
    """Return the shapes of the MNIST network: 4 tensors, 101,770 elements."""
    return [(784, 128), (128,), (128, 10), (10,)]


def resnet50() -> Shapes:
    """Return the shapes of a ResNet-50: 161 tensors, 25.6 million."""
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, inputs, 1, 1), (width,), (width,),
                       (width, width, 3, 3), (width,), (width,),
                       (4 * width, width, 1, 1), (4 * width,), (4 * width,)]
            if block == 0:
                shapes += [(4 * width, inputs, 1, 1), (4 * width,), (4 * width,)]
            inputs = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2() -> Shapes:
    """Return the shapes of the small GPT-2: 148 tensors, 124 million."""
    d = 768
    block: Shapes = [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,),
                     (d,), (d,), (d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *(12 * block), (d,), (d,)]


def many(count: int = 200, size: int = 1000) -> Shapes:
    """Return the shapes of many small tensors."""
    return [(size,) for _ in range(count)]


LISTS: dict[str, Shapes] = {
    **{f"1 x 10^{power}": [(10**power,)] for power in range(1, 9)},
    "MNIST MLP": mlp(), "200 x 1,000": many(), "ResNet-50": resnet50(), "GPT-2": gpt2()}


def filled(block: Any, shape: Sequence[int]) -> Any:
    """Return an array that owns its memory, with the block over and over."""
    made = np.empty(shape, np.float32)
    flat = made.reshape(-1)
    for start in range(0, flat.size, len(block)):
        part = flat[start:start + len(block)]
        part[:] = block[:len(part)]
    return made


class Case(NamedTuple):
    """A step to be timed; arrives as JSON."""

    optimizer: str              # the name of its class
    shapes: list[list[int]]
    clip: float | None = None   # the largest global norm

    @property
    def hyper(self) -> dict[str, Any]:
        return {"lr": LR} | HYPER.get(self.optimizer, {})

    def tensors(self) -> tuple[list[Any], list[Any]]:
        """Return parameters and gradients: a block of normal numbers, over and over."""
        rng = np.random.default_rng(0)
        blocks = rng.standard_normal((2, 2**16), np.float32)
        params, grads = ([filled(block, shape) for shape in self.shapes] for block in blocks)
        return params, grads

    @property
    def elements(self) -> int:
        return sum(map(math.prod, self.shapes))


# Networks to train -----------------------------------------------------------------------------

class Setting(NamedTuple):
    """The network and its training; arrives as JSON."""

    data: str                   # a directory of x_train, y_train, x_test, y_test: plain bytes
    hidden: list[int]
    dropout: float              # after each hidden layer; 0 for none
    batch: int
    lr: float
    momentum: float             # Nesterov's
    decay: float                # lr / (1 + decay * step)
    seed: int


class Task:
    """A setting and its data."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def labels(self, part: str) -> Any:
        return np.fromfile(Path(self.setting.data, f"y_{part}"), np.uint8)

    def images(self, part: str) -> Any:
        """Return images of 8 bits a pixel."""
        return np.fromfile(Path(self.setting.data, f"x_{part}"), np.uint8).reshape(-1, 28, 28)

    def pixels(self, part: str) -> Any:
        images = self.images(part).reshape(-1, PIXELS)
        return np.multiply(images, np.float32(1 / 255), dtype=np.float32)

    @cached_property
    def x(self) -> Any:
        """Return float32 from 0 to 1, a row per image."""
        return self.pixels("train")

    @cached_property
    def x_test(self) -> Any:
        return self.pixels("test")

    @cached_property
    def y(self) -> Any:
        return self.labels("train")

    @cached_property
    def y_test(self) -> Any:
        return self.labels("test")

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Return inputs and outputs of each dense layer."""
        sizes = [PIXELS, *self.setting.hidden, 10]
        return list(pairwise(sizes))


class Run(Protocol):
    """One candidate: a model that trains on."""

    def epoch(self) -> dict[str, Any]:
        """Train for an epoch, and return its metrics: ``loss``, the mean over the epoch."""

    def accuracy(self) -> float | None:
        """Return the accuracy on the test images."""


def thread_counts() -> list[int]:
    """Return one, and two where there are as many cores."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:      # not Linux
        cores = os.cpu_count() or 1
    return [1, 2][:cores]


def available_bytes() -> float:
    """Return the memory that may be used; infinity where nothing tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def plural(threads: int, what: str = "thread") -> str:
    return f"{threads} {what}{'s' if threads > 1 else ''}"


def blas_limits() -> dict[str, Any]:
    """Return numbers of BLAS threads to try; None, the default, without threadpoolctl."""
    try:
        import threadpoolctl  # noqa: F401
    except ImportError:
        return {"BLAS threads as they are": None}
    return {plural(n, "BLAS thread"): n for n in thread_counts()}


def blas_threads(limit: int | None) -> Any:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    if limit is None:
        return nullcontext()
    return threadpool_limits(limit, user_api="blas")
