"""Each metric against hand-counted batches, and which losses it fits."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from fastmom.nn.losses import (
    LOSSES,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    get_loss,
)
from fastmom.nn.metrics import METRICS, get_metric

SPARSE, HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"
BINARY = "binary_crossentropy"

P = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.2, 0.7, 0.1]], np.float32)
LABELS = np.array([0, 1, 2, 1])                     # the first and the last are right
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
SIGMOIDS = np.array([[0.9], [0.5], [0.51], [0.2]], np.float32)
BITS = np.array([[1], [1], [0], [0]], np.float32)   # 0.5 counts as 0
PAIRS, PAIR_BITS = SIGMOIDS.reshape(2, 2), BITS.reshape(2, 2)
Z = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
WIDE = np.arange(14.0).reshape(2, 7)                # the five largest are the last five


@pytest.mark.parametrize(("metric", "loss", "outputs", "y", "expected"), [
    ("accuracy", SPARSE, P, LABELS, 2),
    ("acc", HOT, P, ONE_HOT, 2),
    ("accuracy", HOT, P, 0.6 * ONE_HOT + 0.1, 2),
    ("accuracy", BINARY, SIGMOIDS, BITS, 2),
    ("accuracy", BINARY, PAIRS, PAIR_BITS, 1),      # half of each sample
    ("accuracy", BINARY, np.array([[0.9, 0.6, 0.1]]), np.array([[1.0, 0, 0]]), 2 / 3),
    ("accuracy", "mse", SIGMOIDS, BITS, 2),
    ("accuracy", "mse", P, ONE_HOT, 2),
    ("sparse_categorical_accuracy", SPARSE, P, LABELS, 2),
    ("categorical_accuracy", HOT, P, ONE_HOT, 2),
    ("categorical_accuracy", BINARY, P, ONE_HOT, 2),
    ("binary_accuracy", "huber", SIGMOIDS, BITS, 2),
    ("sparse_top_k_categorical_accuracy", SPARSE, WIDE, np.array([2, 1]), 1),
    ("sparse_top_k_categorical_accuracy", SPARSE, WIDE, np.array([6, 3], np.uint8), 2),
    ("sparse_top_k_categorical_accuracy", SPARSE, P, LABELS, 4),        # three classes alone
    ("sparse_top_k_categorical_accuracy", SPARSE, np.ones((1, 9)), np.array([8]), 1),
    ("sparse_top_k_categorical_accuracy", SPARSE, np.full((1, 9), np.nan), np.array([8]), 0),
    ("top_k_categorical_accuracy", HOT, WIDE, np.eye(7)[[2, 1]], 1),
    ("mse", "mae", Z, np.array([[1.0, 0], [0, 0]], np.float32), 4 / 2 + 34 / 2),
    ("mean_squared_error", HOT, Z, Z, 0),
    ("mae", "mse", Z, np.array([[1.0, 0], [0, 0]], np.float32), 2 / 2 + 8 / 2),
    ("mean_absolute_error", BINARY, SIGMOIDS, BITS, 0.1 + 0.5 + 0.51 + 0.2),
    ("topKCategoricalAccuracy", HOT, WIDE, np.eye(7)[[2, 1]], 1),
])
def test_sums_over_the_samples(metric: str, loss: str, outputs: Any, y: Any,
                               expected: float) -> None:
    label, function = get_metric(metric, get_loss(loss))
    before = outputs.copy(), y.copy()
    got = function(outputs, y)
    assert label == metric
    assert type(got) is float
    assert got == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(outputs, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("name", ["accuracy", "binary_accuracy"])
@pytest.mark.parametrize(("from_logits", "expected"), [(False, 1), (True, 2)])
def test_logits_are_thresholded_at_zero(name: str, from_logits: bool, expected: float) -> None:
    _, function = get_metric(name, BinaryCrossentropy(from_logits))
    assert function(np.array([[0.3], [-0.2]]), np.array([[1.0], [0.0]])) == expected


@pytest.mark.parametrize("loss", [SparseCategoricalCrossentropy(from_logits=True),
                                  CategoricalCrossentropy(from_logits=True)])
def test_the_largest_logit_is_the_largest_output(loss: Any) -> None:
    y = LABELS if loss.targets == "labels" else ONE_HOT
    assert get_metric("accuracy", loss)[1](np.log(P), y) == 2


@pytest.mark.parametrize(("metric", "losses"), [
    ("sparse_categorical_accuracy", {SPARSE}),
    ("sparse_top_k_categorical_accuracy", {SPARSE}),
    ("categorical_accuracy", {*LOSSES} - {SPARSE}),
    ("top_k_categorical_accuracy", {*LOSSES} - {SPARSE}),
    ("binary_accuracy", {*LOSSES} - {SPARSE, HOT}),
    ("mean_squared_error", {*LOSSES} - {SPARSE}),
    ("mae", {*LOSSES} - {SPARSE}),
    ("accuracy", {*LOSSES}),
])
def test_which_losses_a_metric_fits(metric: str, losses: set[str]) -> None:
    assert losses
    for name in LOSSES:
        loss = get_loss(name)
        if name in losses:
            assert get_metric(metric, loss)[0] == metric
        else:
            with pytest.raises(ValueError, match=f"metric {metric!r} does not fit the targets of "
                                                 f"loss {loss.name!r}; it takes 'accuracy', "):
                get_metric(metric, loss)


def test_a_callable_is_labelled_by_its_name_and_gives_a_number() -> None:
    def largest(outputs: Any, y: Any) -> Any:
        return outputs.max() if len(y) else "none"

    label, function = get_metric(largest, get_loss("mse"))
    assert label == "largest"
    assert function(Z, Z) == 5
    assert type(function(Z, Z)) is float
    with pytest.raises(TypeError, match="metric 'largest' must return a number, the sum over the "
                                        "samples, not 'none'"):
        function(Z, Z[:0])


@pytest.mark.parametrize("given", ["recall", None, ["acc"], 3])
def test_wrong_names(given: Any) -> None:
    allowed = ", ".join(map(repr, METRICS))
    with pytest.raises(ValueError, match=re.escape(f"metrics must be one of {allowed} or a callable"
                                                   f" (outputs, y), not {given!r}")):
        get_metric(given, get_loss("mse"))
