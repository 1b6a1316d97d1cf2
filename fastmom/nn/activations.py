"""Activation functions, in place on a layer's output buffer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmom.types import Array


class Activation:
    """An elementwise function; the identity itself.

    `forward` overwrites ``z`` with the output. `backward` overwrites ``dy``, the gradient with
    respect to the output ``y``, with the gradient with respect to the input.
    """

    def forward(self, z: Array) -> None:
        pass

    def backward(self, dy: Array, y: Array) -> None:
        pass


class ReLU(Activation):
    """``max(z, 0)``; its derivative at 0 is taken as 0."""

    def forward(self, z: Array) -> None:
        np.maximum(z, 0, out=z)

    def backward(self, dy: Array, y: Array) -> None:
        np.multiply(dy, y > 0, out=dy)


class Softmax(Activation):
    """``exp(z_i) / sum_j exp(z_j)`` over the last axis, without overflow."""

    def forward(self, z: Array) -> None:
        z -= z.max(axis=-1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=-1, keepdims=True)

    def backward(self, dy: Array, y: Array) -> None:
        dy -= (dy * y).sum(axis=-1, keepdims=True)
        dy *= y


ACTIVATIONS: dict[str, type[Activation]] = {
    "linear": Activation, "relu": ReLU, "softmax": Softmax,
}


def get_activation(name: Any) -> Activation:
    """The activation of this name (None means linear)."""
    name = "linear" if name is None else name
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))} or None, "
                         f"not {name!r}")
    return ACTIVATIONS[name]()
