"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastmom.checks import integer
from fastmom.kernels import layers as kernels
from fastmom.nn.activations import get_activation
from fastmom.nn.initializers import get_initializer
from fastmom.nn.layer_base import Layer, Shape, Weight, assign
from fastmom.nn.registered import Check
from fastmom.types import Array

FEWEST = 32     # units below which products that skip zeros gain nothing: less than two vectors


class Dense(Layer):
    """``activation(x @ kernel + bias)``.

    Products run on fastmom's threads, with the same bits for any number of them. Where most of a
    batch is zero, as in images of handwriting, they skip the zeros. As the first layer, below
    nothing but `Flatten` and `Rescaling`, it takes its numbers right from the samples. Builds for
    processors without fused multiply-adds, and batches of one sample, leave dense products to
    NumPy, whose last bits may be others.

    Parameters
    ----------
    units : int
        Size of the output.
    activation : str or fastmom.nn.activations.Activation, optional
        "linear" (as None), "relu", "leaky_relu", "sigmoid", "tanh", "softmax" or "gelu".
    kernel_initializer, bias_initializer : str or callable
        By name, such as "glorot_uniform" (X. Glorot and Y. Bengio, 2010), "he_normal" or "zeros";
        or a callable ``(shape, dtype, rng)`` that returns an array. See
        `fastmom.nn.initializers.get_initializer`.
    input_shape : sequence of int, optional
        Shape of one sample, where this is the first layer.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when it is built, if the samples are not flat.

    Notes
    -----
    A skipped zero also skips what a dense product makes of a zero times an infinite weight: NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom import nn
    >>> layer = nn.Dense(3, activation="relu", kernel_initializer="ones", input_shape=(2,))
    >>> nn.Sequential([layer]).predict(np.array([[1.0, 2.0]], np.float32))
    array([[3., 3., 3.]], dtype=float32)
    """

    arguments: ClassVar[Mapping[str, Check]] = {
        "units": partial(integer, "units", low=1), "activation": get_activation,
        **{name: partial(get_initializer, argument=name)
           for name in ("kernel_initializer", "bias_initializer")}}
    fixed = tuple(arguments)
    buffers = ("batch", "y", "dx", "nonzeros", "numbers")

    kernel: Array
    bias: Array
    batch: Any      # the latest in training: one of the two below
    numbers: Any

    def __init__(self, units: int, activation: Any = None, *,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.units = units
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.activation = activation

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(f"Dense needs flat samples, not of shape {input_shape}; put a Flatten "
                             f"before it")
        return (self.units,)

    def describe_weights(self, input_shape: Shape) -> dict[str, Weight]:
        return {"kernel": Weight((input_shape[0], self.units), self.kernel_initializer),
                "bias": Weight((self.units,), self.bias_initializer)}

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        inputs = len(self.kernel)
        self.y = np.empty((batch, self.units), dtype)
        self.dx = np.empty((batch, inputs), dtype) if needs_dx else None
        self.nonzeros = (kernels.Nonzeros(batch, inputs, self.units, dtype)
                         if self.units >= FEWEST else None)
        self.numbers = kernels.DenseBatch(batch, inputs, self.units, dtype)
        self.activation.allocate(self.y.shape, dtype)

    def forward(self, x: Any, training: bool) -> Array:
        y, batch = self.y[:len(x)], x
        if not isinstance(x, kernels.Batch):
            skip = self.nonzeros is not None and kernels.is_sparse(x)
            batch = self.nonzeros if skip else self.numbers
            batch.load(x)
        keep = training and self.trainable
        batch.product(self.kernel, y, keep)
        if keep:
            assign(self, "batch", batch)
        else:
            batch.release()
        slope = self.activation.slope
        kernels.bias_activation(y, self.bias, 1.0 if slope is None else slope)
        if slope is None:
            self.activation.forward(y, training)
        return y

    def backward(self, dy: Array) -> Array | None:
        y, slope = self.y[:len(dy)], self.activation.slope
        if slope is None:
            self.activation.backward(dy, y)
        kernels.activation_gradient(dy, y, self.grads[1], 1.0 if slope is None else slope)
        if self.trainable:
            self.batch.gradient(dy, self.grads[0])
            self.batch.release()
        if self.dx is None:
            return None
        dx: Array = self.dx[:len(dy)]
        self.numbers.back(dy, self.kernel, dx)
        return dx
