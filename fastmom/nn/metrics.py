"""Metrics: sums over the samples of a batch, from the model's outputs and checked targets."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from fastmom.kernels import layers as kernels
from fastmom.nn.loss_base import Labels, Loss
from fastmom.nn.names import by_name
from fastmom.types import Array

Function: TypeAlias = Callable[[Array, Any], float]


def sparse_categorical_accuracy(outputs: Array, y: Any) -> float:
    """Count samples whose largest output is that of the label."""
    return float(kernels.count_hits(outputs, y))


def categorical_accuracy(outputs: Array, y: Array) -> float:
    """Count samples whose largest output is where the largest target is."""
    return float(np.count_nonzero(outputs.argmax(axis=-1) == y.argmax(axis=-1)))


def binary_accuracy(outputs: Array, y: Array, threshold: float = 0.5) -> float:
    """Sum over the samples the share of outputs on the same side of the threshold as the target.

    With several outputs per sample each counts, as in Keras's metric of this name; its "accuracy"
    compares the largest output with the largest target instead, which ours does only for losses of
    classes. Keras compares the targets themselves with 0 and 1, ours with 0.5.
    """
    right = (outputs > threshold) == (y > 0.5)
    return float(right.reshape(len(y), -1).mean(axis=1).sum())


def sparse_top_k_categorical_accuracy(outputs: Array, y: Labels, k: int = 5) -> float:
    """Count samples whose label's output is among the `k` largest; of equal outputs each counts."""
    own: Any = np.take_along_axis(outputs, y[:, np.newaxis], axis=1)
    larger = outputs.shape[1] - np.count_nonzero(outputs <= own, axis=1)    # a NaN counts as larger
    return float(np.count_nonzero(larger < k))


def top_k_categorical_accuracy(outputs: Array, y: Array, k: int = 5) -> float:
    """Return `sparse_top_k_categorical_accuracy` of the class with the largest target."""
    return sparse_top_k_categorical_accuracy(outputs, y.argmax(axis=-1), k)


def mean_squared_error(outputs: Array, y: Array) -> float:
    """Return the sum of each sample's mean of ``(outputs - y)**2``."""
    return float(np.square(outputs - y).reshape(len(y), -1).mean(axis=1, dtype=np.float64).sum())


def mean_absolute_error(outputs: Array, y: Array) -> float:
    """Return the sum of each sample's mean of ``|outputs - y|``."""
    return float(np.abs(outputs - y).reshape(len(y), -1).mean(axis=1, dtype=np.float64).sum())


def accuracy(outputs: Array, y: Array) -> float:
    """Return accuracy for targets of any kind: binary with one output, else categorical."""
    return (binary_accuracy if outputs.shape[-1] == 1 else categorical_accuracy)(outputs, y)


def dense(function: Function) -> dict[str, Function]:
    return dict.fromkeys(("classes", "binary", "values"), function)


# name: its function for each kind of targets (`Loss.targets`) that it fits
METRICS: dict[str, dict[str, Function]] = {
    "accuracy": {"labels": sparse_categorical_accuracy, "classes": categorical_accuracy,
                 "binary": binary_accuracy, "values": accuracy},
    "sparse_categorical_accuracy": {"labels": sparse_categorical_accuracy},
    "categorical_accuracy": dense(categorical_accuracy),
    "binary_accuracy": {"binary": binary_accuracy, "values": binary_accuracy},
    "sparse_top_k_categorical_accuracy": {"labels": sparse_top_k_categorical_accuracy},
    "top_k_categorical_accuracy": dense(top_k_categorical_accuracy),
    "mean_squared_error": dense(mean_squared_error),
    "mean_absolute_error": dense(mean_absolute_error),
}
METRICS |= {short: METRICS[name] for short, name in (
    ("acc", "accuracy"), ("mse", "mean_squared_error"), ("mae", "mean_absolute_error"))}


def get_metric(given: Any, loss: Loss) -> tuple[str, Function]:
    """Return the label of a metric in logs, its name as given, and its function for this loss.

    Parameters
    ----------
    given : str or callable
        A name: ``"accuracy"`` is what fits the loss. Or a function ``(outputs, y)`` that returns a
        number: the sum over the samples.
    loss : Loss
        Where it gives logits, the threshold of ``"binary_accuracy"`` is 0 instead of 0.5.

    Raises
    ------
    ValueError
        If there is no metric of this name, or it does not fit the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.nn.losses import get_loss
    >>> from fastmom.nn.metrics import get_metric
    >>> label, function = get_metric("accuracy", get_loss("mse"))
    >>> function(np.array([[0.2], [0.9]]), np.array([[1.0], [1.0]]))
    1.0
    """
    if callable(given):
        label = getattr(given, "__name__", type(given).__name__)
        return label, partial(checked, given, label)
    functions = by_name("metrics", given, METRICS, "a callable (outputs, y)")
    if loss.targets not in functions:
        fitting = [name for name, kinds in METRICS.items() if loss.targets in kinds]
        raise ValueError(f"metric {given!r} does not fit the targets of loss {loss.name!r}; it "
                         f"takes {', '.join(map(repr, fitting))}")
    function = functions[loss.targets]
    if function is binary_accuracy and loss.from_logits:
        function = partial(binary_accuracy, threshold=0.0)
    return given, function


def checked(function: Callable[[Array, Any], Any], label: str, outputs: Array, y: Any) -> float:
    """Return the value of a user's function; raises TypeError where it is no number."""
    value = function(outputs, y)
    if not isinstance(value, numbers.Real):
        raise TypeError(f"metric {label!r} must return a number, the sum over the samples, not "
                        f"{value!r}")
    return float(value)
