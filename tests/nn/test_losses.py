"""Each loss alone: values, gradients, extremes, and how it is chosen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmom.nn.activations import get_activation
from fastmom.nn.losses import (
    LOSSES,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Huber,
    Loss,
    SparseCategoricalCrossentropy,
    get_loss,
)

EPS = {dtype: float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}
FLOAT64 = np.dtype(np.float64)

# For tests of all kinds: how to make the loss, and its output shape.
KINDS: dict[str, tuple[Callable[[], Loss], tuple[int, ...]]] = {
    "sparse": (SparseCategoricalCrossentropy, (4,)),
    "sparse, logits": (lambda: SparseCategoricalCrossentropy(from_logits=True), (4,)),
    "categorical": (CategoricalCrossentropy, (4,)),
    "categorical, logits": (lambda: CategoricalCrossentropy(from_logits=True), (4,)),
    "binary": (BinaryCrossentropy, (1,)),
    "binary, several outputs": (BinaryCrossentropy, (2, 3)),
    "binary, logits": (lambda: BinaryCrossentropy(from_logits=True), (3,)),
    "mse": (LOSSES["mse"], (3,)),
    "mse, one output": (LOSSES["mse"], (1,)),
    "mae": (LOSSES["mae"], (2, 2)),
    "huber": (Huber, (3,)),
    "huber, other delta": (lambda: Huber(delta=0.3), (3,)),
}


def allocated(loss: Loss, z: Any, more: int = 0) -> Loss:
    loss.allocate((len(z) + more, *z.shape[1:]), z.dtype)
    return loss


def total(loss: Loss, z: Any, y: Any, weights: Any = None) -> float:
    """The summed loss of `z`, which stays as it is."""
    y = loss.check(y, z.shape[1:], z.dtype)
    return allocated(loss, z).forward(z.copy(), y, weights, training=False)


def targets(loss: Loss, n: int, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    return {"labels": lambda: rng.integers(0, shape[-1], n),
            "classes": lambda: rng.random((n, *shape)),
            "binary": lambda: rng.random((n, *shape)),
            "values": lambda: rng.standard_normal((n, *shape))}[loss.targets]()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str, weighted: bool) -> None:
    make, shape = KINDS[kind]
    rng, n, h, loss = np.random.default_rng(0), 5, 1e-5, make()
    z = rng.standard_normal((n, *shape))
    y = loss.check(targets(loss, n, shape, rng), shape, FLOAT64)
    weights = rng.random(n) if weighted else None
    allocated(loss, z, more=3).forward(z.copy(), y, weights, training=True)
    gradient = loss.dz[:n].copy()
    for i in np.ndindex(z.shape):
        ends = []
        for sign in (1, -1):
            moved = z.copy()
            moved[i] += sign * h
            ends.append(total(make(), moved, y, weights) / n)
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_multiply_each_samples_loss(kind: str) -> None:
    make, shape = KINDS[kind]
    rng, loss = np.random.default_rng(1), make()
    z, weights = rng.standard_normal((3, *shape)), np.array([0.0, 2.0, 0.5])
    y = targets(loss, 3, shape, rng)
    each = [total(make(), z[i:i + 1], y[i:i + 1]) for i in range(3)]
    assert total(loss, z, y) == pytest.approx(sum(each), rel=1e-14)
    assert total(loss, z, y, weights) == pytest.approx(2 * each[1] + 0.5 * each[2], rel=1e-14)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_losses_leave_outputs_in_z_and_others_leave_z(kind: str, training: bool) -> None:
    make, shape = KINDS[kind]
    rng, loss = np.random.default_rng(2), make()
    z = rng.standard_normal((4, *shape))
    expected = z.copy()
    if loss.fused:
        head = get_activation(loss.fused)
        head.allocate(z.shape, FLOAT64)
        head.forward(expected, training=False)
    y = loss.check(targets(loss, 4, shape, rng), shape, FLOAT64)
    allocated(loss, z).forward(z, y, None, training)
    if loss.fused in (None, "linear"):
        np.testing.assert_array_equal(z, expected)
    np.testing.assert_allclose(z, expected, rtol=4 * EPS[np.float64])


@pytest.mark.parametrize("kind", KINDS)
def test_buffers_are_made_once_and_rows_beyond_the_batch_stay(kind: str) -> None:
    make, shape = KINDS[kind]
    rng, loss = np.random.default_rng(3), make()
    z = rng.standard_normal((6, *shape)).astype(np.float32)
    y = loss.check(targets(loss, 6, shape, rng), shape, z.dtype)
    allocated(loss, z).forward(z.copy(), y, None, training=True)
    buffers, before = {k: id(v) for k, v in vars(loss).items()}, loss.dz.copy()
    loss.forward(z[:2].copy(), y[:2], None, training=True)
    assert {k: id(v) for k, v in vars(loss).items()} == buffers
    np.testing.assert_array_equal(loss.dz[2:], before[2:])
    np.testing.assert_allclose(loss.dz[:2], before[:2] * 3, rtol=1e-6)      # divided by 2, not 6


@pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "categorical_crossentropy",
                                  "binary_crossentropy"])
def test_logits_give_the_same_as_the_activation_would(name: str) -> None:
    loss, logits = get_loss(name), type(get_loss(name))(from_logits=True)   # type: ignore[call-arg]
    assert loss.fused in ("softmax", "sigmoid")
    assert logits.fused == "linear"
    rng = np.random.default_rng(4)
    z = rng.standard_normal((5, 3))
    y = loss.check(targets(loss, 5, (3,), rng), (3,), FLOAT64)
    values = [allocated(each, z).forward(z.copy(), y, None, training=True)
              for each in (loss, logits)]
    assert values[0] == values[1]
    np.testing.assert_array_equal(loss.dz, logits.dz)


# Values ---------------------------------------------------------------------------------------

# logits of one sample, its label, and the loss: log(sum(exp(z))) - z[label]
SPARSE = [
    ([0, 0], 0, np.log(2)),
    ([1, 1, 1, 1], 3, np.log(4)),
    ([0, np.log(3)], 1, np.log(4 / 3)),
    ([1e4, 0], 0, 0.0),
    ([1e4, 0], 1, 1e4),
    ([-1e4, -1e4], 0, np.log(2)),
    ([3e38, -3e37], 0, 0.0),
    ([1e30, 1e30, 1e30], 2, np.log(3)),
    ([88.8, 88.8], 1, np.log(2)),       # exp overflows float32
    ([5], 0, 0.0),
]


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("logits", "label", "expected"), SPARSE)
def test_crossentropy_of_a_class(logits: list[float], label: int, expected: float, dtype: Any,
                                 from_logits: bool) -> None:
    z, hot = np.array([logits], dtype), np.eye(len(logits), dtype=dtype)[[label]]
    for kind, y in ((SparseCategoricalCrossentropy, [label]), (CategoricalCrossentropy, hot)):
        assert total(kind(from_logits), z, y) == pytest.approx(expected, rel=2 * EPS[dtype], abs=0)


# the loss, outputs (or logits) and targets of one sample, and its loss
EXACT: list[tuple[Loss, Any, Any, float]] = [
    (BinaryCrossentropy(), [0], [1], np.log(2)),
    (BinaryCrossentropy(), [np.log(3)], [0], np.log(4)),
    (BinaryCrossentropy(), [0, np.log(3)], [0.5, 1], (np.log(2) + np.log(4 / 3)) / 2),
    (BinaryCrossentropy(), [1e4], [1], 0.0),
    (BinaryCrossentropy(), [1e4], [0], 1e4),
    (BinaryCrossentropy(), [-1e4], [1], 1e4),
    (BinaryCrossentropy(), [-1e4], [0], 0.0),
    (BinaryCrossentropy(), [-1e4, 1e4], [0.5, 0.25], (5000 + 7500) / 2),
    (CategoricalCrossentropy(), [0, 0], [1, 2], 3 * np.log(2)),
    (CategoricalCrossentropy(), [1e4, 0], [0.5, 0.5], 5e3),
    (CategoricalCrossentropy(), [3, -7], [0, 0], 0.0),
    (get_loss("mse"), [1, 2, 3], [1, 4, 0], 13 / 3),
    (get_loss("mae"), [1, 2, 3], [1, 4, 0], 5 / 3),
    (Huber(), [0, 0.5, 3], [0, 0, 0], (0.125 + 2.5) / 3),
    (Huber(delta=2.0), [-1, 5], [0, 0], (0.5 + 8) / 2),
    (Huber(), [1], [0], 0.5),
    (Huber(), [-1e4], [0], 9999.5),
]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("loss", "z", "y", "expected"), EXACT)
def test_exact_values(loss: Loss, z: Any, y: Any, expected: float, dtype: Any) -> None:
    got = total(get_loss(loss), np.array([z], dtype), [y])
    assert got == pytest.approx(expected, rel=4 * EPS[dtype], abs=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e4, -1e4, 0])
def test_far_from_zero_gradients_are_finite(kind: str, scale: float) -> None:
    make, shape = KINDS[kind]
    rng, loss = np.random.default_rng(5), make()
    z = (scale * rng.random((8, *shape))).astype(np.float32)
    y = loss.check(targets(loss, 8, shape, rng), shape, z.dtype)
    assert math.isfinite(allocated(loss, z).forward(z, y, None, training=True))
    assert np.isfinite(loss.dz).all()


def reference(logits: Any, y: Any) -> tuple[float, Any]:
    """Mean loss of labels and its gradient, in longdouble."""
    z = logits.astype(np.longdouble)
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    return float(loss), (p / len(y)).astype(np.float64)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("scale", [1e-3, 1, 30])
def test_against_longdouble(scale: float, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    logits, labels = (scale * rng.standard_normal((64, 10))).astype(dtype), rng.integers(0, 10, 64)
    expected, gradient = reference(logits, labels)
    eps = EPS[dtype]
    spread = np.ptp(logits, axis=1).max()       # subtracting the largest logit rounds by this
    for loss, y in ((SparseCategoricalCrossentropy(), labels),
                    (CategoricalCrossentropy(), np.eye(10, dtype=dtype)[labels])):
        got = allocated(loss, logits).forward(logits.copy(), y, None, training=True)
        assert got / 64 == pytest.approx(expected, rel=4 * eps, abs=0)
        np.testing.assert_allclose(loss.dz, gradient, rtol=0, atol=(4 + spread) * eps / 64)


# Choosing -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("given", "name"), [
    *((name, name) for name in LOSSES if name not in ("mse", "mae")),
    ("mse", "mean_squared_error"), ("mae", "mean_absolute_error"),
    ("meanSquaredError", "mean_squared_error"),
    ("sparseCategoricalCrossentropy", "sparse_categorical_crossentropy"),
    (Huber(), "huber"),
])
def test_names(given: Any, name: str) -> None:
    assert get_loss(given).name == name


def test_an_object_keeps_its_arguments_and_shares_no_buffers() -> None:
    given = Huber(delta=3.0)
    first, second = get_loss(given), get_loss(given)
    assert isinstance(first, Huber)
    assert first.delta == 3
    first.allocate((2, 1), FLOAT64)
    second.allocate((5, 1), FLOAT64)
    assert len(first.dz) == 2


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: get_loss("hinge"), ValueError,
     "loss must be one of 'sparse_categorical_crossentropy', 'categorical_crossentropy', "
     "'binary_crossentropy', 'mean_squared_error', 'mean_absolute_error', 'huber', 'mse', 'mae' or "
     "a Loss, not 'hinge'"),
    (lambda: get_loss(["mse"]), ValueError, "not ['mse']"),
    (lambda: get_loss(None), ValueError, "loss must be one of"),
    (lambda: get_loss(Huber), ValueError, "loss must be one of"),
    (lambda: Huber(0), ValueError, "delta must be a finite number > 0, not 0"),
    (lambda: Huber(-1), ValueError, "delta must be a finite number > 0, not -1"),
    (lambda: Huber("1"), TypeError, "delta must be a finite number"),
    (lambda: BinaryCrossentropy(1), TypeError, "from_logits must be True or False, not 1"),
    (lambda: SparseCategoricalCrossentropy("no"), TypeError, "from_logits must be True or False"),
])
def test_wrong_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
