"""Each activation alone: values, gradients, buffers, and how it is chosen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmom.kernels import layers as kernels
from fastmom.nn.activations import ACTIVATIONS, Activation, LeakyReLU, Softmax, get_activation

EPS = {dtype: float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}
POINTS = [0.0, 1e-3, 0.5, 1.0, 3.0, 6.0, 20.0, 88.8, 1e4]

# of one number; written differently from the library's where that matters
SCALAR: dict[str, Callable[[float], float]] = {
    "linear": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.2 * z,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z)),
    "tanh": math.tanh,
    "gelu": lambda z: z * math.erfc(-z / math.sqrt(2)) / 2,
}


def allocated(activation: Any, shape: tuple[int, ...], dtype: Any = np.float64) -> Activation:
    activation = get_activation(activation)
    activation.allocate(shape, np.dtype(dtype))
    return activation


def test_every_name_is_tested() -> None:
    assert {*SCALAR, "softmax"} == set(ACTIVATIONS)
    assert all(get_activation(name).name == name for name in ACTIVATIONS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("name", SCALAR)
def test_values(name: str, dtype: Any, training: bool) -> None:
    z = np.array([[s * p for p in POINTS] for s in (1, -1)], dtype)
    expected = np.vectorize(SCALAR[name])(z.astype(np.float64))
    allocated(name, z.shape, dtype).forward(z, training)
    # relative in both tails, but what is subnormal has fewer digits; GELU's lower tail is absolute
    atol = EPS[dtype] if name == "gelu" else np.finfo(dtype).tiny
    np.testing.assert_allclose(z, expected, rtol=8 * EPS[dtype], atol=atol)


@pytest.mark.parametrize(("name", "z", "expected"), [
    ("gelu", 1.0, 0.8413447460685429),
    ("gelu", -3.0, -0.004049694095),
    ("sigmoid", 2.0, 0.8807970779778823),
    ("tanh", 0.5, 0.46211715726000973),
    ("leaky_relu", -5.0, -1.0),
])
def test_known_values(name: str, z: float, expected: float) -> None:
    a = np.array([[z]])
    allocated(name, (1, 1)).forward(a, training=False)
    assert a[0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("row", [[0, 0], [1e4, 0], [-1e4, -1e4], [88.8, 88.8, -3], [3e38, -3e37],
                                 [5], [-3, 2, 0.5, 1]])
def test_softmax(row: list[float], dtype: Any) -> None:
    z = np.array([row, row[::-1]], dtype)
    wide = z.astype(np.longdouble)
    expected = np.exp(wide - wide.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    allocated("softmax", z.shape, dtype).forward(z, training=False)
    # in float32 no exponential is below e^-87, so that none is subnormal
    np.testing.assert_allclose(z, expected.astype(np.float64), rtol=4 * EPS[dtype],
                               atol=math.exp(-86.9) if dtype is np.float32 else 1e-307)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (1, 1)])
@pytest.mark.parametrize("given", [*ACTIVATIONS, LeakyReLU(0.1), LeakyReLU(3)],
                         ids=lambda given: getattr(given, "slope", given))
def test_gradients(given: Any, shape: tuple[int, ...]) -> None:
    activation = allocated(given if isinstance(given, str) else LeakyReLU(given.slope),
                           (shape[0] + 3, *shape[1:]))      # fewer rows than allocated
    rng = np.random.default_rng(0)
    z, dy, h = rng.standard_normal(shape), rng.standard_normal(shape), 1e-6
    assert np.abs(z).min() > h      # no kink between the differences
    y = z.copy()
    activation.forward(y, training=True)
    got = dy.copy()
    activation.backward(got, y)
    for i in np.ndindex(shape):
        ends = []
        for sign in (1, -1):
            moved = z.copy()
            moved[i] += sign * h
            activation.forward(moved, training=False)
            ends.append(np.vdot(moved, dy))
        assert got[i] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if get_activation(name).slope
                                  is not None])
def test_slope_says_what_the_activation_does(name: str) -> None:
    activation, z = allocated(name, (2, 4)), np.array([[-2.0, 3, -0.0, 0], [1, -1, 5, -7]])
    y, dy = z.copy(), np.ones_like(z)
    activation.forward(y, training=True)
    activation.backward(dy, y)
    np.testing.assert_array_equal(y, np.where(z > 0, z, activation.slope * z))
    np.testing.assert_array_equal(dy, np.where(z > 0, 1, activation.slope))


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("given", ["linear", "relu", "leaky_relu", {"leaky_relu": 0.0}])
def test_a_dense_layer_agrees_where_values_are_not_finite(given: Any, dtype: Any) -> None:
    values = np.array([-np.inf, -1, 0, 1, np.inf, np.nan], dtype)
    z, dy = map(np.ascontiguousarray, np.meshgrid(values, values, indexing="ij"))
    activation = allocated(given, z.shape, dtype)
    y, dz, bias, sums = z.copy(), dy.copy(), np.zeros(len(z), dtype), np.empty(len(z), dtype)
    with np.errstate(invalid="ignore"):
        activation.forward(y, True)
        activation.backward(dz, y)
    assert not np.isnan(y[:-1]).any()
    kernels.bias_activation(z, bias, activation.slope)
    kernels.activation_gradient(dy, z, sums, activation.slope)
    np.testing.assert_array_equal(z, y)
    np.testing.assert_array_equal(dy, dz)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_buffers_are_made_once_and_evaluation_leaves_them(name: str) -> None:
    activation, rng = allocated(name, (5, 3), np.float32), np.random.default_rng(0)
    buffers = {key: id(value) for key, value in vars(activation).items()}
    y = rng.standard_normal((5, 3)).astype(np.float32)
    activation.forward(y, training=True)
    once, again = np.ones_like(y), np.ones_like(y)
    activation.backward(once, y)
    activation.forward(rng.standard_normal((2, 3)).astype(np.float32), training=False)
    activation.backward(again, y)
    np.testing.assert_array_equal(once, again)
    assert {key: id(value) for key, value in vars(activation).items()} == buffers


@pytest.mark.parametrize(("given", "kind"), [(None, "linear"), ("leakyRelu", "leaky_relu"),
                                             ("leaky_relu", "leaky_relu"), ("relu", "relu")])
def test_names(given: Any, kind: str) -> None:
    assert get_activation(given).name == kind


def test_an_object_belongs_to_one_layer() -> None:
    activation = LeakyReLU(negative_slope=0.3)
    assert get_activation(activation) is activation
    with pytest.raises(ValueError, match="'leaky_relu' is in use by another layer; make a new "
                                         "LeakyReLU for each"):
        get_activation(activation)
    assert not Softmax().in_use


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: get_activation("swish"), ValueError,
     "activation must be one of 'linear', 'relu', 'leaky_relu', 'sigmoid', 'tanh', 'softmax', "
     "'gelu' or None or an Activation, not 'swish'"),
    (lambda: get_activation("Relu"), ValueError, "not 'Relu'"),
    (lambda: get_activation(max), ValueError, "activation must be one of"),
    (lambda: get_activation(LeakyReLU), ValueError, "activation must be one of"),
    (lambda: get_activation(["relu"]), ValueError, "not ['relu']"),
    (lambda: LeakyReLU(-0.1), ValueError, "negative_slope must be a finite number >= 0, not -0.1"),
    (lambda: LeakyReLU(math.nan), ValueError, "negative_slope must be a finite number >= 0"),
    (lambda: LeakyReLU("0.1"), TypeError, "negative_slope must be a finite number >= 0"),
    (lambda: LeakyReLU(True), TypeError, "negative_slope must be a finite number >= 0, not True"),
])
def test_wrong_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
