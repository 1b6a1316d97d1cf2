"""The base of all losses, checks of dense targets, outputs or logits."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmom.checks import flag, number
from fastmom.nn.inputs import as_array
from fastmom.types import Array

Labels: TypeAlias = NDArray[np.integer[Any]]
Targets: TypeAlias = Array | Labels
Doubles: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]


class Loss:
    """Base of all losses. A subclass fills `dz` and returns each sample's loss in `samples`.

    Attributes
    ----------
    name : str
    targets : {"labels", "classes", "binary", "values"}
        Its targets: one integer per sample, a share for each class, numbers from 0 to 1 for each
        output, or any.
    fused : str or None
        The activation whose gradient the loss includes: the model's last one has to be that, and
        `forward` takes what would go into it. "linear" where the model gives logits
        (``from_logits=True``). None: any activation, and `forward` takes its output.
    from_logits : bool
    dz : ndarray
        After `forward` in training its first rows hold the gradient by `z`.
    """

    name: ClassVar[str]
    targets: ClassVar[str]
    fused: str | None = None
    from_logits = False
    label_smoothing = 0.0
    arguments: ClassVar[tuple[str, ...]] = ()   # the constructor's, kept as attributes

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name in self.arguments
                 if (value := getattr(self, name)) != getattr(type(self), name, None)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def check(self, y: Any, output_shape: Shape, dtype: np.dtype[Any]) -> Targets:
        """Return the targets as a C-contiguous array as `forward` takes it, ; raises naming y.

        Targets of shape (samples,) are accepted where the model has one output.
        """
        return dense(y, output_shape, dtype)

    def allocate(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        """Make buffers for outputs of this shape, whose first axis is the largest batch."""
        self.dz: Array = np.empty(shape, dtype)

    def forward(self, z: Array, y: Any, weights: Array | None, training: bool) -> float:
        """Return the sum of the samples' losses, each times its weight.

        Parameters
        ----------
        z : ndarray of shape (n, *output_shape), C-contiguous
            Overwritten with the model's outputs if the loss is fused with softmax or sigmoid.
        y : ndarray
            Rows of what `check` returned.
        weights : ndarray of shape (n,), or None for ones
        training : bool
            Whether to fill ``dz[:n]`` with the gradient of the returned sum over `n`. (So with
            weights too the sum is divided by the number of samples, as in Keras.)
        """
        losses, n = self.samples(z, y), len(z)
        if training:
            self.dz[:n] /= n
            if weights is not None:
                self.dz[:n] *= weights.reshape(n, *(1,) * (z.ndim - 1))
        return float(losses.sum() if weights is None else losses @ weights)

    def samples(self, z: Array, y: Any) -> Doubles:
        """Return each sample's loss, and fill ``dz[:n]`` with its gradient by that row of `z`."""
        raise NotImplementedError


class FromOutputsOrLogits(Loss):
    """Base of the losses that are fused with an activation, be it the model's or their own.

    Parameters
    ----------
    from_logits : bool, default False
        False: the model ends in the activation. True: it ends in a linear layer, and its outputs
        are the logits.
    label_smoothing : float, default 0
        From 0 to below 1: the targets are ``(1 - label_smoothing) * y + label_smoothing / k``, with
        k classes, or 2 for each output of a binary loss (C. Szegedy et al., 2016). Metrics see `y`
        itself.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    """

    activation: ClassVar[str]
    arguments = ("from_logits", "label_smoothing")

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = flag("from_logits", from_logits)
        self.label_smoothing = number("label_smoothing", label_smoothing, 0.0, 1.0, open_high=True)
        self.fused = "linear" if self.from_logits else self.activation

    def allocate(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        super().allocate(shape, dtype)
        if self.label_smoothing:
            self.soft: Array = np.empty(shape, dtype)

    def smoothed(self, y: Array, classes: int) -> Array:
        """Return the targets that the loss compares with."""
        if not self.label_smoothing:
            return y
        soft = np.multiply(y, 1 - self.label_smoothing, out=self.soft[:len(y)])
        soft += self.label_smoothing / classes
        return soft

    def outputs(self, z: Array) -> Array:
        """Return where to put probabilities: over `z`, unless that is the model's output."""
        if not self.from_logits:
            return z
        np.copyto(self.dz[:len(z)], z)
        return self.dz[:len(z)]


def dense(y: Any, output_shape: Shape, dtype: np.dtype[Any], low: float = -math.inf,
          high: float = math.inf) -> Array:
    """Return targets of the output's shape, finite and in range, in the dtype; raises naming y."""
    y = as_array("y", y)
    if y.dtype.kind not in "fiub":
        raise TypeError(f"y must hold real numbers, not {y.dtype}")
    if y.ndim == 1 and output_shape == (1,):
        y = y[:, np.newaxis]
    if y.ndim == 0 or y.shape[1:] != output_shape:
        raise ValueError(f"y must have shape (samples, {', '.join(map(str, output_shape))}), not "
                         f"{y.shape}")
    with np.errstate(over="ignore"):    # told by the next check
        result: Array = np.ascontiguousarray(y, dtype)
    least, most = (result.min(), result.max()) if result.size else (0.0, 0.0)
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError(f"y has a NaN or an infinity; all values must be finite as {dtype}")
    if least < low or most > high:
        allowed = f">= {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"y has {least if least < low else most}; all values must be {allowed}")
    return result
