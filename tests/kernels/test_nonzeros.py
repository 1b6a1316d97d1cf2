"""Products that skip zeros: in every build, against NumPy in float64, and at their limits."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from fastmom import nn
from fastmom.kernels import isa

EPS = {np.float32: 2.0 ** -23, np.float64: 2.0 ** -52}
BUILDS = {name: import_module(f"fastmom.kernels.layers_{name}") for name in isa.available()}
ROWS, N = 9, 37


@pytest.fixture(params=BUILDS)
def k(request: pytest.FixtureRequest) -> Any:
    """The functions of a build."""
    return BUILDS[request.param]


def batch(dtype: Any, rows: int = ROWS, n: int = N, share: float = 0.2, seed: int = 0) -> Any:
    """Mostly zeros."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, n)) * (rng.random((rows, n)) < share)).astype(dtype)


def dense(dtype: Any, *shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def products(nonzeros: Any, rows: int, width: int, dtype: Any, n: int = N) -> tuple[Any, Any]:
    """x @ w and x.T @ dy for the `dense` w and dy."""
    y, dw = np.full((rows, width), np.nan, dtype), np.full((n, width), np.nan, dtype)
    nonzeros.product(dense(dtype, n, width), y)
    nonzeros.gradient(dense(dtype, rows, width), dw)
    return y, dw


def check(nonzeros: Any, x: Any, width: int) -> None:
    """Compare both products with NumPy's."""
    (rows, n), dtype = x.shape, x.dtype.type
    for got, a, b in zip(products(nonzeros, rows, width, dtype, n), (x, x.T),
                         (dense(dtype, n, width), dense(dtype, rows, width)), strict=True):
        a, b = a.astype(np.float64), b.astype(np.float64)
        bound = EPS[dtype] * (np.abs(a) @ np.abs(b)) * max(1, (a != 0).sum(axis=1).max(initial=0))
        assert (np.abs(got - a @ b) <= bound).all()


@pytest.mark.parametrize("dtype", EPS)
def test_every_width(k: Any, dtype: Any) -> None:
    x, reference = batch(dtype), BUILDS["baseline"].Nonzeros(ROWS, N, dtype)
    nonzeros = k.Nonzeros(ROWS, N, dtype)
    assert nonzeros.load(x) is reference.load(x) is True
    for width in range(1, 301):
        check(nonzeros, x, width)
        for a, b in zip(products(nonzeros, ROWS, width, dtype),
                        products(reference, ROWS, width, dtype), strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 784])
def test_every_length_of_a_row(k: Any, n: int, dtype: Any) -> None:
    for seed, rows in enumerate((1, 2, 40)):
        x, nonzeros = batch(dtype, rows, n, 0.1, seed), k.Nonzeros(rows, n, dtype)
        x[:, -1] = 0
        if rows > 1:
            x[0] = 0
            x[1, :n // 8] = 1
        assert nonzeros.load(x) == ((x != 0).sum() <= 0.3 * x.size)
        assert nonzeros.density == (x != 0).sum() / x.size
        if nonzeros.density <= 0.3:
            check(nonzeros, x, 33)


@pytest.mark.parametrize("dtype", EPS)
def test_density_limit(k: Any, dtype: Any) -> None:
    nonzeros = k.Nonzeros(10, 20, dtype)
    for rows in (10, 5):
        for more in (0, 1):
            x = np.zeros((rows, 20), dtype)
            x.flat[:6 * rows + more] = 1      # 0.3 of all, at one end: full rows and empty ones
            assert nonzeros.load(x) == (more == 0)
            assert nonzeros.density == pytest.approx(0.3 + more / x.size, rel=1e-12)
            if not more:
                check(nonzeros, x, 40)
                x = x[::-1].copy()
                assert nonzeros.load(x)
                check(nonzeros, x, 40)


@pytest.mark.parametrize("dtype", EPS)
def test_nothing_but_zeros(k: Any, dtype: Any) -> None:
    nonzeros, x = k.Nonzeros(ROWS, N, dtype), np.zeros((ROWS, N), dtype)
    x[2] = -0.0
    assert nonzeros.load(batch(dtype))      # what was there before is gone
    assert nonzeros.load(x)
    assert nonzeros.density == 0
    for result in products(nonzeros, ROWS, 50, dtype):
        assert not result.any()


@pytest.mark.parametrize("dtype", EPS)
def test_values_that_are_not_finite_are_no_zeros(k: Any, dtype: Any) -> None:
    nonzeros, x = k.Nonzeros(ROWS, N, dtype), np.zeros((ROWS, N), dtype)
    x[1, 3], x[4, 20], x[5, 36] = np.nan, np.inf, 1
    assert nonzeros.load(x)
    assert nonzeros.density == 3 / x.size
    y, dw = products(nonzeros, ROWS, 33, dtype)
    assert (np.isnan(y).all(axis=1) == (np.arange(ROWS) == 1)).all()
    assert (np.isinf(y).all(axis=1) == (np.arange(ROWS) == 4)).all()
    assert (np.isnan(dw).all(axis=1) == (np.arange(N) == 3)).all()
    assert (np.isinf(dw).all(axis=1) == (np.arange(N) == 20)).all()


@pytest.mark.parametrize("dtype", EPS)
def test_batches_of_any_size_up_to_the_largest(k: Any, dtype: Any) -> None:
    nonzeros = k.Nonzeros(ROWS, N, dtype)
    for rows in (ROWS, 1, 4, ROWS, 2):
        x = batch(dtype, rows, seed=rows)
        assert nonzeros.load(x)
        check(nonzeros, x, 35)
        check(nonzeros, x, 7)       # the gradient once more, from what was sorted before
    assert not nonzeros.load(batch(dtype, ROWS + 1, share=0.01))


@pytest.mark.parametrize("dtype", EPS)
def test_a_batch_that_was_not_taken_leaves_the_one_before(k: Any, dtype: Any) -> None:
    nonzeros, x = k.Nonzeros(ROWS, N, dtype), batch(dtype)
    assert nonzeros.load(x)
    assert not nonzeros.load(dense(dtype, ROWS, N))
    assert nonzeros.density == 1
    check(nonzeros, x, 40)


def test_before_any_batch(k: Any) -> None:
    nonzeros = k.Nonzeros(ROWS, N, np.float32)
    nonzeros.product(np.ones((N, 4), np.float32), np.empty((0, 4), np.float32))
    with pytest.raises(ValueError, match="where 0 elements in a row are needed"):
        nonzeros.product(np.ones((N, 4), np.float32), np.empty((ROWS, 4), np.float32))
    with pytest.raises(ValueError, match="where 0 elements in a row are needed"):
        nonzeros.gradient(np.ones((ROWS, 4), np.float32), np.empty((N, 4), np.float32))
    with pytest.raises(TypeError, match="a kernel was given int32"):
        k.Nonzeros(ROWS, N, np.int32)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("activation", ["relu", "softmax"])
def test_a_dense_layer_gives_the_same_either_way(activation: str, dtype: Any) -> None:
    x, dy, results = batch(dtype, 20, 100), dense(dtype, 20, 64), []
    for skip in (True, False):
        layer: Any = nn.Dense(64, activation=activation)
        layer.build((100,), np.dtype(dtype), np.random.default_rng(3))
        layer.allocate(20, np.dtype(dtype), needs_dx=True)
        assert layer.nonzeros is not None
        if not skip:
            layer.nonzeros = None
        y = layer.forward(x, training=True).copy()
        assert layer.sparse == skip
        results.append([y, layer.backward(dy.copy()), *layer.grads])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=100 * EPS[dtype], atol=100 * EPS[dtype])


def test_which_layers_skip_zeros() -> None:
    for units, zeros, skips in ((31, 0.9, False), (32, 0.9, True), (32, 0.5, False)):
        layer: Any = nn.Dense(units)
        layer.build((50,), np.dtype(np.float32), np.random.default_rng(3))
        layer.allocate(40, np.dtype(np.float32), needs_dx=False)
        layer.forward(batch(np.float32, 40, 50, 1 - zeros), training=False)
        assert layer.sparse == skips
