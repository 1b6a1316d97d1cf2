"""Check and convert samples, targets and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmom.checks import integer, number
from fastmom.types import Array

GATHERED = (np.uint8, np.float32, np.float64)       # dtypes that a batch is gathered from as it is


def as_array(name: str, given: Any) -> Any:
    """Return an array-like, or a table with ``to_numpy`` such as a DataFrame, as an array."""
    if type(given) is np.ndarray:
        return given
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array; fill it or leave samples out")
    if hasattr(given, "to_numpy"):
        given = given.to_numpy()
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array, but has no shape: {error}") from None


def check_input(x: Any, dtype: np.dtype[Any]) -> Any:
    """Return `x` C-contiguous and of a dtype that batches are gathered from; raises naming it.

    Integers and float16 are converted as a whole, to the model's dtype.
    """
    x = as_array("x", x)
    if x.dtype.kind not in "uifb":
        raise TypeError(f"x must be an array of real numbers, not {x.dtype}")
    if x.ndim < 2:
        raise ValueError(f"x must have shape (samples, ...), not {x.shape}")
    if x.dtype.kind == "f":
        low, high = x.min(initial=0), x.max(initial=0)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("x has a NaN or an infinity; all values must be finite")
        if max(-low, high) > np.finfo(dtype).max:
            raise ValueError(f"x has a value too large for the model's {dtype}")
    return np.ascontiguousarray(x, x.dtype if x.dtype in GATHERED else dtype)


def class_weights(given: Any, y: Any, targets: str, classes: int) -> NDArray[np.float64]:
    """Return each sample's weight by the class of its target.

    Raises
    ------
    TypeError, ValueError
        If `given` is no dict of classes and weights, or the targets are no classes.
    """
    if targets not in ("labels", "classes"):
        raise ValueError("class_weight needs a loss of classes (sparse_categorical_crossentropy or "
                         "categorical_crossentropy)")
    if not isinstance(given, dict):
        raise TypeError(f"class_weight must be a dict {{class: weight}}, not {given!r}")
    labels = y if targets == "labels" else y.argmax(axis=1)
    weights = np.ones(len(y))
    for label, weight in given.items():
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise TypeError(f"class_weight must have integers as classes, not {label!r}")
        if not 0 <= label < classes:
            raise ValueError(f"class_weight has class {label}, expected 0 to {classes - 1}, one "
                             f"per output of the model")
        weights[labels == label] = number(f"class_weight[{label}]", weight, 0)
    return weights


def sample_weights(given: Any, samples: int, dtype: np.dtype[Any]) -> Array:
    """Return the weights of the samples in this dtype; raises naming them."""
    weights = as_array("sample_weight", given)
    if weights.dtype.kind not in "uif" or weights.shape != (samples,):
        raise ValueError(f"sample_weight must be {samples} numbers, one per sample, not "
                         f"{weights.dtype} of shape {weights.shape}")
    weights = np.ascontiguousarray(weights, dtype)
    if weights.size and not (weights.min() >= 0 and np.isfinite(weights.max())):
        raise ValueError("sample_weight must be finite and >= 0")
    return weights


def split(data: tuple[Any, Any, Any], share: float) -> tuple[Any, Any]:
    """Hold out the last samples; return what is left and what is held out, or None."""
    share = number("validation_split", share, 0.0, 1.0)
    n = len(data[0])
    kept = int(n * (1 - share))
    if share and not 0 < kept < n:
        raise ValueError(f"validation_split={share!r} of {n} samples leaves {kept} to train on "
                         f"and {n - kept} to evaluate; both must be at least one")
    if not share:
        return data, None
    parts = [tuple(None if a is None else a[part] for a in data)
             for part in (slice(kept), slice(kept, n))]
    return parts[0], parts[1]


def to_categorical(y: Any, num_classes: int | None = None) -> NDArray[np.float32]:
    """Return a row per label with a 1 in the column of its class, as Keras's function does.

    Parameters
    ----------
    y : array-like of int, shape (samples,) or (samples, 1)
        Classes from 0.
    num_classes : int, optional
        By default one more than the largest label.

    Returns
    -------
    ndarray of float32, shape (samples, num_classes)

    Raises
    ------
    TypeError, ValueError
        If a label is no integer from 0 to ``num_classes - 1``.

    Examples
    --------
    >>> from fastmom import nn
    >>> nn.to_categorical([2, 0])
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    labels = whole_numbers(as_array("y", y))
    if labels is None or labels.ndim != 1:
        raise ValueError(f"y must be one integer label per sample, not {as_array('y', y)!r}")
    most = int(labels.max(initial=-1))
    classes = most + 1 if num_classes is None else integer("num_classes", num_classes, 1)
    if labels.size and not (labels.min() >= 0 and most < classes):
        wrong = labels.min() if labels.min() < 0 else most
        raise ValueError(f"y has label {wrong}, expected 0 to {classes - 1}")
    rows = np.zeros((len(labels), classes), np.float32)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def whole_numbers(y: Any) -> Any:
    """Return labels of shape (samples,) or (samples, 1) as int64; None where one is not whole."""
    if y.ndim > 1 and y.shape[1:] == (1,):
        y = y[:, 0]
    if y.dtype.kind == "f":
        doubles = y.astype(np.float64)
        if (np.abs(doubles) < 2.0 ** 62).all() and (doubles == np.floor(doubles)).all():
            y = doubles.astype(np.int64)
    return y if y.dtype.kind in "iu" else None
