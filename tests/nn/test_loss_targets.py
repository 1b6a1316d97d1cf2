"""Which targets each loss takes, and what it makes of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from fastmom.nn.losses import LOSSES, SparseCategoricalCrossentropy, get_loss

FLOAT64 = np.dtype(np.float64)


@pytest.mark.parametrize("y", [[0, 2], np.array([[0], [2]]), np.array([0, 2], np.uint8),
                               np.array([[0, 1], [2, 1]], np.int16)[:, 0]])
def test_labels_become_int64(y: Any) -> None:
    labels = SparseCategoricalCrossentropy().check(y, (3,), FLOAT64)
    assert labels.dtype == np.int64
    assert labels.flags.c_contiguous
    np.testing.assert_array_equal(labels, [0, 2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "y", "shape", "expected"), [
    ("mse", [1, 2], (1,), [[1.0], [2.0]]),
    ("mse", np.array([[1], [2]]), (1,), [[1.0], [2.0]]),
    ("huber", np.arange(4.0).reshape(2, 2).T, (2,), [[0.0, 2.0], [1.0, 3.0]]),
    ("binary_crossentropy", [True, False], (1,), [[1.0], [0.0]]),
    ("categorical_crossentropy", np.eye(2, dtype=np.uint8), (2,), [[1.0, 0.0], [0.0, 1.0]]),
])
def test_dense_targets_are_converted(name: str, y: Any, shape: Any, expected: Any,
                                     dtype: Any) -> None:
    got = get_loss(name).check(y, shape, np.dtype(dtype))
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_fitting_targets_are_not_copied(name: str) -> None:
    loss = get_loss(name)
    y: Any = np.zeros(3, np.int64) if loss.targets == "labels" else np.zeros((3, 2))
    assert np.shares_memory(loss.check(y, (2,), FLOAT64), y)


ONE = np.ones((2, 3))


@pytest.mark.parametrize(("name", "y", "shape", "error", "message"), [
    ("sparse_categorical_crossentropy", [0.0, 1.5], (3,), ValueError,
     "y must be one integer label per sample, not float64 of shape (2,)"),
    ("sparse_categorical_crossentropy", [True, False], (3,), ValueError, "not bool of shape (2,)"),
    ("sparse_categorical_crossentropy", [[0, 1]], (3,), ValueError, "not int64 of shape (1, 2)"),
    ("sparse_categorical_crossentropy", 1, (3,), ValueError, "not int64 of shape ()"),
    ("sparse_categorical_crossentropy", [0, 3], (3,), ValueError,
     "y has label 3, expected 0 to 2, one per output of the model"),
    ("sparse_categorical_crossentropy", [-1, 0], (3,), ValueError, "y has label -1, expected"),
    ("sparse_categorical_crossentropy", [0], (3, 3), ValueError,
     "needs a model with outputs of shape (classes,), not (3, 3)"),
    ("categorical_crossentropy", ONE, (2, 3), ValueError,
     "needs a model with outputs of shape (classes,), not (2, 3)"),
    ("categorical_crossentropy", [0, 1], (3,), ValueError,
     "y must have shape (samples, 3), not (2,)"),
    ("categorical_crossentropy", -ONE, (3,), ValueError, "y has -1.0; all values must be >= 0"),
    ("binary_crossentropy", [0.5, 1.5], (1,), ValueError,
     "y has 1.5; all values must be from 0 to 1"),
    ("binary_crossentropy", [-0.5, 1], (1,), ValueError, "y has -0.5; all values must be from"),
    ("binary_crossentropy", [0, 1], (2,), ValueError, "y must have shape (samples, 2), not (2,)"),
    ("mse", ONE, (4,), ValueError, "y must have shape (samples, 4), not (2, 3)"),
    ("mse", 1.0, (1,), ValueError, "y must have shape (samples, 1), not ()"),
    ("mae", [np.nan], (1,), ValueError, "y has a NaN or an infinity"),
    ("huber", [-np.inf], (1,), ValueError, "y has a NaN or an infinity"),
    ("mse", [1e300], (1,), ValueError, "all values must be finite as float32"),
    ("mse", ["1"], (1,), TypeError, "y must hold real numbers, not <U1"),
    ("mse", [1j], (1,), TypeError, "y must hold real numbers, not complex128"),
])
def test_wrong_targets(name: str, y: Any, shape: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        get_loss(name).check(y, shape, np.dtype(np.float32))
