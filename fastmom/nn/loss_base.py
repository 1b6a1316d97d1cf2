"""What the losses share: the protocol, checks of dense targets, outputs or logits."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
        What `y` holds: one integer per sample, a share for each class, numbers from 0 to 1 for each
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

    def check(self, y: Any, output_shape: Shape, dtype: np.dtype[Any]) -> Targets:
        """Return the targets as a C-contiguous array as `forward` takes it, or raise naming y.

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
    """Base of the losses that are fused with an activation, be it the model's or their own."""

    activation: ClassVar[str]

    def __init__(self, from_logits: bool = False) -> None:
        if not isinstance(from_logits, (bool, np.bool_)):
            raise TypeError(f"from_logits must be True or False, not {from_logits!r}")
        self.from_logits = bool(from_logits)
        self.fused = "linear" if from_logits else self.activation

    def outputs(self, z: Array) -> Array:
        """Where to put probabilities: over `z`, but logits that are the model's output stay."""
        if not self.from_logits:
            return z
        np.copyto(self.dz[:len(z)], z)
        return self.dz[:len(z)]


def dense(y: Any, output_shape: Shape, dtype: np.dtype[Any], low: float = -math.inf,
          high: float = math.inf) -> Array:
    """Return targets of the output's shape, finite and in range, in the dtype, or raise."""
    y = np.asarray(y)
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
