"""The layers without weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastmom.checks import number
from fastmom.kernels import layers as kernels
from fastmom.nn.activations import get_activation
from fastmom.nn.layer_base import Layer, Shape, assign
from fastmom.nn.registered import Check
from fastmom.types import Array


class Flatten(Layer):
    """Make each sample one row: a view, nothing is copied."""

    buffers = ()
    is_view = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def forward(self, x: Array, training: bool) -> Array:
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(len(dy), *self.shape)


class Rescaling(Layer):
    """``scale * x + offset``.

    As the first layer it costs nothing: a batch is scaled while it is gathered, so that 8-bit
    images stay what they are in memory.

    Parameters
    ----------
    scale : float
    offset : float, default 0
    input_shape : sequence of int, optional
        Shape of one sample, where this is the first layer.

    Raises
    ------
    TypeError, ValueError
        If an argument is no finite number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom import nn
    >>> model = nn.Sequential([nn.Rescaling(1 / 255, input_shape=(2,))])
    >>> model.predict(np.array([[0, 255]], np.uint8))
    array([[0., 1.]], dtype=float32)
    """

    arguments: ClassVar[Mapping[str, Check]] = {
        name: partial(number, name) for name in ("scale", "offset")}
    buffers = ("y",)

    def __init__(self, scale: float, offset: float = 0.0, *,
                 input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.scale, self.offset = scale, offset

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, *self.shape), dtype)

    def forward(self, x: Array, training: bool) -> Array:
        y = np.multiply(x, self.scale, out=self.y[:len(x)])
        y += self.offset
        return y

    def backward(self, dy: Array) -> Array:
        dy *= self.scale
        return dy

    def scaling(self) -> tuple[float, float]:
        return self.scale, self.offset


class Activation(Layer):
    """An activation function as a layer of its own.

    Parameters
    ----------
    activation : str or fastmom.nn.activations.Activation
        "linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax" or "gelu".
    input_shape : sequence of int, optional
        Shape of one sample, where this is the first layer.

    Raises
    ------
    ValueError
        If there is none of this name, or another layer has the object.
    """

    arguments: ClassVar[Mapping[str, Check]] = {"activation": get_activation}
    fixed = ("activation",)
    buffers = ("y",)

    def __init__(self, activation: Any, *, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.activation = activation

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, *self.shape), dtype)
        self.activation.allocate(self.y.shape, dtype)

    def forward(self, x: Array, training: bool) -> Array:
        y = self.y[:len(x)]
        np.copyto(y, x)
        self.activation.forward(y, training)
        return y

    def backward(self, dy: Array) -> Array:
        self.activation.backward(dy, self.y[:len(dy)])
        return dy


class Dropout(Layer):
    """Set a random share of the inputs to zero while training, and scale the others up.

    The survivors are divided by ``1 - rate`` so that the expected sum is that of evaluation, which
    passes its input through (N. Srivastava et al., 2014). Masks are a function of the model's seed
    and the number of the batch alone: Philox4x32-10 (J. K. Salmon et al., 2011).

    Parameters
    ----------
    rate : float
        Share of inputs to drop, from 0 up to but excluding 1.
    input_shape : sequence of int, optional
        Shape of one sample, where this is the first layer.

    Attributes
    ----------
    step : int
        Batches trained on so far.
    """

    arguments: ClassVar[Mapping[str, Check]] = {
        "rate": partial(number, "rate", low=0.0, high=1.0, open_high=True)}
    buffers = ("y", "kept", "dropped")
    counters = ("key", "step")
    dropped: bool

    def __init__(self, rate: float, *, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.rate = rate
        self.step = 0

    def seed(self, rng: np.random.Generator) -> None:
        self.key = int(rng.integers(2 ** 64, dtype=np.uint64))

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, *self.shape), dtype)
        self.kept = np.empty(self.y.shape, np.uint8)

    def forward(self, x: Array, training: bool) -> Array:
        dropped = training and self.rate > 0
        assign(self, "dropped", dropped)
        if not dropped:
            return x
        y = self.y[:len(x)]
        kernels.dropout(x, y, self.kept[:len(x)], self.rate, self.key, self.step)
        assign(self, "step", self.step + 1)
        return y

    def backward(self, dy: Array) -> Array:
        if self.dropped:
            kernels.dropout_gradient(dy, self.kept[:len(dy)], self.rate)
        return dy
