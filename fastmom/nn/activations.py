"""Activation functions, in place on a layer's output buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastmom.checks import number
from fastmom.kernels import layers as kernels
from fastmom.nn.names import by_name, name_and_arguments
from fastmom.types import Array


class Activation:
    """Base of all activations; an object belongs to one layer, whose outputs its buffers fit.

    Attributes
    ----------
    name : str
    slope : float or None
        For a function that is ``z`` where ``z > 0`` and ``slope * z`` elsewhere, that factor.
    in_use : bool
        Whether a layer has it already.
    buffers : tuple of str
        Attributes that a pass assigns; they are not stored in a pickle.
    """

    name: str
    buffers: ClassVar[tuple[str, ...]] = ()
    slope: float | None = None
    in_use = False

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Make buffers for outputs of this shape, whose first axis is the largest batch."""

    def forward(self, z: Array, training: bool) -> None:
        """Overwrite `z`, of as many rows as allocated or fewer, with the output."""
        raise NotImplementedError

    def backward(self, dy: Array, y: Array) -> None:
        """Overwrite `dy`, the gradient by the output, with the gradient by the input.

        `y` is what the latest `forward`, in training, has made.
        """
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self.buffers}

    def describe(self) -> Any:
        """Return what `get_activation` makes it from again: its name, or {name: argument}."""
        if ACTIVATIONS.get(self.name) is not type(self):
            raise TypeError(f"activation {self.name!r} cannot be stored: it is none of the "
                            f"library's")
        return self.name

    def __repr__(self) -> str:
        return repr(self.name)


class Linear(Activation):
    """``z`` itself."""

    name = "linear"
    slope = 1.0

    def forward(self, z: Array, training: bool) -> None:
        pass

    def backward(self, dy: Array, y: Array) -> None:
        pass


class LeakyReLU(Activation):
    """``z`` where positive, else ``negative_slope * z``; at 0 the derivative is `negative_slope`.

    Parameters
    ----------
    negative_slope : float, default 0.2
        A finite number >= 0; 0.2 is Keras's default, torch's is 0.01.

    Raises
    ------
    TypeError, ValueError
        If `negative_slope` is none.

    References
    ----------
    A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve neural network acoustic
    models", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.nn.activations import LeakyReLU
    >>> z, activation = np.array([[-1.0, 2.0]]), LeakyReLU(negative_slope=0.1)
    >>> activation.allocate(z.shape, z.dtype)
    >>> activation.forward(z, training=False)
    >>> z
    array([[-0.1,  2. ]])
    """

    name = "leaky_relu"
    buffers = ("negative", "scaled")

    def __init__(self, negative_slope: float = 0.2) -> None:
        self._slope = number("negative_slope", negative_slope, 0)

    @property
    def slope(self) -> float:       # type: ignore[override]    # cannot change: layers are copied
        return self._slope

    def describe(self) -> dict[str, float]:
        return {self.name: self.slope}

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope!r})"

    def forward(self, z: Array, training: bool) -> None:
        kernels.bias_activation(z, slope=self.slope)

    def backward(self, dy: Array, y: Array) -> None:
        # the output has its input's sign, or is 0 where that is negative
        kernels.activation_gradient(dy, y, slope=self.slope)


class ReLU(Activation):
    """``max(z, 0)``; its derivative at 0 is taken as 0."""

    name = "relu"
    buffers = ("positive",)
    slope = 0.0

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.positive = np.empty(shape, np.bool_)

    def forward(self, z: Array, training: bool) -> None:
        np.maximum(z, 0, out=z)

    def backward(self, dy: Array, y: Array) -> None:
        dy *= np.greater(y, 0, out=self.positive[:len(y)])


def sigmoid(z: Array) -> None:
    """Overwrite `z` with ``1 / (1 + exp(-z))``, accurate in both tails."""
    np.negative(z, out=z)
    with np.errstate(over="ignore"):    # exp gives inf, and its reciprocal is the 0 it should be
        np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)


class Sigmoid(Activation):
    """``1 / (1 + exp(-z))``."""

    name = "sigmoid"
    buffers = ("derivative",)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.derivative = np.empty(shape, dtype)

    def forward(self, z: Array, training: bool) -> None:
        sigmoid(z)

    def backward(self, dy: Array, y: Array) -> None:
        derivative = np.subtract(1, y, out=self.derivative[:len(y)])
        derivative *= y
        dy *= derivative


class Tanh(Activation):
    """The hyperbolic tangent."""

    name = "tanh"
    buffers = ("derivative",)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.derivative = np.empty(shape, dtype)

    def forward(self, z: Array, training: bool) -> None:
        np.tanh(z, out=z)

    def backward(self, dy: Array, y: Array) -> None:
        derivative = np.square(y, out=self.derivative[:len(y)])
        dy *= np.subtract(1, derivative, out=derivative)


def shift_rows(z: Array, column: Array) -> None:
    """Subtract from each row (the last axis) its maximum, so that `exp` cannot overflow."""
    z -= np.max(z, axis=-1, keepdims=True, out=column)


def softmax_rows(z: Array, column: Array) -> None:
    """Overwrite shifted rows with their softmax, and `column` with the sums of the exponentials."""
    np.exp(z, out=z)
    z /= np.sum(z, axis=-1, keepdims=True, out=column)


class Softmax(Activation):
    """``exp(z_i) / sum_j exp(z_j)`` over the last axis, without overflow."""

    name = "softmax"
    buffers = ("column",)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.column = np.empty((*shape[:-1], 1), dtype)

    def forward(self, z: Array, training: bool) -> None:
        kernels.softmax_cross_entropy(z.reshape(-1, z.shape[-1]))

    def backward(self, dy: Array, y: Array) -> None:
        column = self.column[:len(y)]
        np.vecdot(dy, y, out=column[..., 0])
        dy -= column
        dy *= y


class GELU(Activation):
    """``z * Phi(z)`` with ``Phi`` the standard normal distribution, exact: not by tanh.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016.
    """

    name = "gelu"
    buffers = ("derivative",)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.derivative = np.empty(shape, dtype)

    def forward(self, z: Array, training: bool) -> None:
        kernels.gelu(z, self.derivative[:len(z)] if training else None)

    def backward(self, dy: Array, y: Array) -> None:
        dy *= self.derivative[:len(dy)]


ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    kind.name: kind for kind in (Linear, ReLU, LeakyReLU, Sigmoid, Tanh, Softmax, GELU)}


def get_activation(given: Any) -> Activation:
    """Return the activation for a layer, now in use; a layer calls it after its other checks.

    Parameters
    ----------
    given : str, None, Activation or dict
        A name, None for linear, an object of its own, or as files have it ``{name: argument}``.

    Raises
    ------
    ValueError
        If there is none of this name, or another layer has the object.
    """
    if isinstance(given, Activation):
        if given.in_use:
            raise ValueError(f"activation {given.name!r} is in use by another layer; make a new "
                             f"{type(given).__name__} for each")
        activation = given
    else:
        name, arguments = name_and_arguments("linear" if given is None else given)
        activation = by_name("activation", name, ACTIVATIONS, "None or an Activation")(*arguments)
    activation.in_use = True
    return activation
