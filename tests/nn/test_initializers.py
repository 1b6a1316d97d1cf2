"""Initial values: their distributions, their draws, and what is refused."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from fastmom.nn.initializers import INITIALIZERS, Constant, get_initializer

FLOAT64 = np.dtype(np.float64)
SHAPES = [(300, 200), (3, 3, 40, 60)]       # of a dense layer, and a convolution


def draw(given: Any, shape: tuple[int, ...], dtype: Any = FLOAT64, seed: int = 0) -> Any:
    return get_initializer(given)(shape, np.dtype(dtype), np.random.default_rng(seed))


def scales(shape: tuple[int, ...]) -> dict[str, float]:
    """The variance of each random kind by its definition."""
    field = math.prod(shape[:-2])
    fan_in, fan_out = field * shape[-2], field * shape[-1]
    return {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}


RANDOM = [name for name in INITIALIZERS if name.endswith(("_uniform", "_normal"))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", RANDOM)
def test_moments_and_bounds(name: str, shape: tuple[int, ...]) -> None:
    kind, uniform = name.rsplit("_", 1)[0], name.endswith("uniform")
    variance = 0.05 ** 2 / (3 if uniform else 1) if kind == "random" else scales(shape)[kind]
    x = draw(name, shape)
    assert x.shape == shape
    assert abs(x.mean()) < 5 * math.sqrt(variance / x.size)
    # a square's variance is at most twice its squared mean, that of the normal distribution
    assert abs(x.var() - variance) < 5 * variance * math.sqrt(2 / x.size)
    bound = math.sqrt(3 * variance) if uniform else 2 * math.sqrt(variance) / 0.87962566103423978
    if name == "random_normal":         # not truncated
        assert np.abs(x).max() > 3.5 * math.sqrt(variance)
    else:
        assert 0.99 * bound < np.abs(x).max() <= bound * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_dtype_and_seed(name: str, dtype: Any) -> None:
    x = draw(name, (6, 4), dtype)
    assert x.dtype == dtype
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, draw(name, (6, 4), dtype))
    constant = name in ("zeros", "ones")
    assert (x.tobytes() == draw(name, (6, 4), dtype, seed=1).tobytes()) == constant
    np.testing.assert_array_equal(x, draw(name, (6, 4)).astype(dtype))


def test_glorot_uniform_is_one_call_of_the_generator() -> None:
    bound = math.sqrt(6 / (784 + 10))
    expected = np.random.default_rng(0).uniform(-bound, bound, (784, 10)).astype(np.float32)
    np.testing.assert_array_equal(draw("glorot_uniform", (784, 10), np.float32), expected)


@pytest.mark.parametrize(("given", "value"), [("zeros", 0), ("ones", 1), (Constant(-2.5), -2.5)])
def test_constants(given: Any, value: float) -> None:
    np.testing.assert_array_equal(draw(given, (2, 3)), np.full((2, 3), value))


@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (4, 9), (2, 3, 4), (1, 7)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    q = draw("orthogonal", shape).reshape(-1, shape[-1])
    product = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(product, np.eye(min(q.shape)), atol=1e-14)


def test_orthogonal_has_no_preferred_sign() -> None:
    corners = [draw("orthogonal", (3, 3), seed=seed)[0, 0] for seed in range(200)]
    assert abs(np.mean(corners)) < 5 * math.sqrt(1 / 3 / 200)


@pytest.mark.parametrize("name", RANDOM)
def test_one_axis_is_both_fans(name: str) -> None:
    x = draw(name, (20000,))
    variance = {"glorot": 1, "lecun": 1, "he": 2}.get(name.split("_")[0])
    if variance is not None:
        assert x.var() == pytest.approx(variance / 20000, rel=0.05)


def test_names_in_camel_case() -> None:
    np.testing.assert_array_equal(draw("heNormal", (4, 4)), draw("he_normal", (4, 4)))


def test_a_callable_gets_shape_dtype_and_generator_and_its_result_is_copied() -> None:
    kept = np.arange(6).reshape(2, 3)

    def fixed(shape: Any, dtype: Any, rng: Any) -> Any:
        assert (shape, dtype, rng.random()) == ((2, 3), FLOAT64, np.random.default_rng(0).random())
        return kept

    x = draw(fixed, (2, 3))
    assert x.dtype == FLOAT64
    np.testing.assert_array_equal(x, kept)
    assert not np.shares_memory(x, kept)


def returning(value: Any) -> Any:
    def custom(shape: Any, dtype: Any, rng: Any) -> Any:
        return value
    return custom


@pytest.mark.parametrize(("given", "error", "message"), [
    ("xavier", ValueError, "initializer must be one of 'zeros', 'ones', 'glorot_uniform', "),
    ("xavier", ValueError, "'orthogonal' or a callable (shape, dtype, rng), not 'xavier'"),
    (0, ValueError, "initializer must be one of"),
    (None, ValueError, "initializer must be one of"),
    (returning([[1.0] * 3] * 2), TypeError,
     "initializer 'custom' must return a real array of shape (2, 3), not list"),
    (returning(np.zeros((2, 3), complex)), TypeError, "of shape (2, 3), not complex128"),
    (returning(np.zeros((2, 3), bool)), TypeError, "of shape (2, 3), not bool"),
    (returning(np.zeros((3, 2))), ValueError, "of shape (2, 3), not (3, 2)"),
    (returning(np.full((2, 3), np.nan)), ValueError, "all finite as float32; it has a NaN"),
    (returning(np.full((2, 3), 1e300)), ValueError, "all finite as float32; it has a NaN"),
    (Constant(1e300), ValueError, "initializer 'constant' must return"),
])
def test_what_is_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        draw(given, (2, 3), np.float32)


def test_the_error_calls_the_argument_by_its_name() -> None:
    with pytest.raises(ValueError, match="bias_initializer must be one of"):
        get_initializer("x", "bias_initializer")


@pytest.mark.parametrize(("value", "error"), [(math.inf, ValueError), ("1", TypeError)])
def test_constant_takes_a_finite_number(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="value must be a finite number, not"):
        Constant(value)


def test_orthogonal_needs_a_matrix() -> None:
    with pytest.raises(ValueError, match=re.escape("two dimensions or more, not the shape (3,)")):
        draw("orthogonal", (3,))
