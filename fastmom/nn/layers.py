"""Layers: their parameters, gradients and activations live in buffers allocated once.

A layer is built for a largest batch; smaller batches use the first rows of its buffers. What
`forward` and `backward` return is such a buffer: the next call overwrites it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastmom.checks import integer, number
from fastmom.kernels import layers as kernels
from fastmom.nn.activations import get_activation
from fastmom.optim.hyper import Number
from fastmom.types import Array

Shape = tuple[int, ...]


class Layer:
    """Base of all layers: no parameters, output shaped like the input.

    A subclass keeps its arguments as attributes of the same names, which `arguments` lists.

    Attributes
    ----------
    params, grads : list of ndarray
        Aligned; `backward` overwrites the gradients, the optimizer updates the parameters.
    state : list of ndarray
        What is saved with the parameters but not trained, such as moving averages.
    activation : Activation, optional
        Of a layer that ends in one. A loss that includes its gradient has it left out.
    """

    arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, input_shape: Sequence[int] | None = None) -> None:
        if input_shape is not None and not (isinstance(input_shape, Sequence) and input_shape):
            raise TypeError(f"input_shape must be a sequence of integers >= 1, not {input_shape!r}")
        self.input_shape: Shape | None = None
        if input_shape is not None:
            self.input_shape = tuple(integer("input_shape", n, 1) for n in input_shape)
        self.output_shape: Shape = ()
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.state: list[Array] = []
        self.activation: Any = None
        self.activated = True
        self.in_use = False     # by a model: layers own their parameters and cannot be shared

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        """Create the parameters for samples of this shape and return the output's shape."""
        return input_shape

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        """Make buffers for batches of up to this many samples."""

    def forward(self, x: Array, training: bool) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array | None:
        """Fill `grads` from the gradient of the output, and return that of the input.

        May overwrite ``dy``. None where nobody needs the input's gradient.
        """
        raise NotImplementedError


class Flatten(Layer):
    """Each sample as one row; a view, nothing is copied."""

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        self.inner = input_shape
        return (math.prod(input_shape),)

    def forward(self, x: Array, training: bool) -> Array:
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(len(dy), *self.inner)


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

    arguments = ("scale", "offset")

    def __init__(self, scale: float, offset: float = 0.0, *,
                 input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.scale, self.offset = number("scale", scale), number("offset", offset)

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        self.shape = input_shape
        return input_shape

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, *self.shape), dtype)

    def forward(self, x: Array, training: bool) -> Array:
        y = np.multiply(x, self.scale, out=self.y[:len(x)])
        y += self.offset
        return y

    def backward(self, dy: Array) -> Array:
        dy *= self.scale
        return dy


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

    arguments = ("activation",)

    def __init__(self, activation: Any, *, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.activation = get_activation(activation)

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        self.shape = input_shape
        return input_shape

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, *self.shape), dtype)
        self.activation.allocate(self.y.shape, dtype)

    def forward(self, x: Array, training: bool) -> Array:
        y = self.y[:len(x)]
        np.copyto(y, x)
        if self.activated:
            self.activation.forward(y, training)
        return y

    def backward(self, dy: Array) -> Array:
        if self.activated:
            self.activation.backward(dy, self.y[:len(dy)])
        return dy


class Rate:
    """An argument with its check."""

    rate = Number(0.0, 0.0, 1.0, open_high=True)


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

    arguments = ("rate",)

    def __init__(self, rate: float, *, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.rate: float = Rate.rate.check_number(rate)
        self.step = 0

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        self.shape = input_shape
        self.key = int(rng.integers(2 ** 64, dtype=np.uint64))
        return input_shape

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, *self.shape), dtype)
        self.kept = np.empty(self.y.shape, np.uint8)

    def forward(self, x: Array, training: bool) -> Array:
        self.dropped = training and self.rate > 0
        if not self.dropped:
            return x
        y = self.y[:len(x)]
        kernels.dropout(x, y, self.kept[:len(x)], self.rate, self.key, self.step)
        self.step += 1
        return y

    def backward(self, dy: Array) -> Array:
        if self.dropped:
            kernels.dropout_gradient(dy, self.kept[:len(dy)], self.rate)
        return dy
