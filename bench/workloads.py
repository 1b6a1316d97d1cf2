"""Lists of tensor shapes like those people train."""

from __future__ import annotations

from typing import Any

import numpy as np

HYPER = {"lr": 1e-9, "momentum": 0.9}       # the parameters stay where they are
Shapes = list[tuple[int, ...]]


def mlp() -> Shapes:
    """The MNIST network: 4 tensors, 101,770 elements."""
    return [(784, 128), (128,), (128, 10), (10,)]


def resnet50() -> Shapes:
    """Convolutions, batch norms and classifier of a ResNet-50: 161 tensors, 25.6 million."""
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
    """The small GPT-2: 148 tensors, 124 million."""
    d = 768
    block: Shapes = [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,),
                     (d,), (d,), (d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *(12 * block), (d,), (d,)]


def many(count: int = 200, size: int = 1000) -> Shapes:
    """Many small tensors."""
    return [(size,) for _ in range(count)]


LISTS: dict[str, Shapes] = {
    "1 x 10": [(10,)],
    "MNIST MLP": mlp(),
    "200 x 1,000": many(),
    "ResNet-50": resnet50(),
    "GPT-2": gpt2(),
    "1 x 10^7": [(10**7,)],
    "1 x 10^8": [(10**8,)],
}


def arrays(shapes: Shapes, seed: int = 0) -> list[Any]:
    """Normal float32 numbers."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]
