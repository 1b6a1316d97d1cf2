"""Products that skip zeros: in every build, against NumPy in float64, and at their limits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from builds import using

import fastmom as fm
from fastmom import nn

EPS = {np.float32: 2.0 ** -23, np.float64: 2.0 ** -52}
ROWS, N = 9, 37


def batch(dtype: Any, rows: int = ROWS, n: int = N, share: float = 0.2, seed: int = 0) -> Any:
    """Mostly zeros."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, n)) * (rng.random((rows, n)) < share)).astype(dtype)


def dense(dtype: Any, *shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def products(k: Any, x: Any, width: int, dtype: Any) -> tuple[Any, Any]:
    """x @ w and x.T @ dy for the `dense` w and dy."""
    nonzeros = k.Nonzeros(*x.shape, width, dtype)
    nonzeros.load(x)
    return both(nonzeros, x.shape[1], width, dtype)


def both(nonzeros: Any, n: int, width: int, dtype: Any) -> tuple[Any, Any]:
    rows = len(nonzeros)
    y, dw = np.full((rows, width), np.nan, dtype), np.full((n, width), np.nan, dtype)
    nonzeros.product(dense(dtype, n, width), y, True)
    nonzeros.gradient(dense(dtype, rows, width), dw)
    return y, dw


def check(x: Any, width: int, got: tuple[Any, Any]) -> None:
    """Compare both products with NumPy's."""
    (rows, n), dtype = x.shape, got[0].dtype.type
    for result, a, b in zip(got, (x, x.T), (dense(dtype, n, width), dense(dtype, rows, width)),
                            strict=True):
        a, b = a.astype(np.float64), b.astype(np.float64)
        bound = EPS[dtype] * (np.abs(a) @ np.abs(b)) * (2 + (a != 0).sum(axis=1).max(initial=0))
        assert (np.abs(result - a @ b) <= bound).all()


@pytest.mark.parametrize("dtype", EPS)
def test_every_width(k: Any, dtype: Any) -> None:
    x = batch(dtype)
    for width in range(1, 301):
        got = products(k, x, width, dtype)
        check(x, width, got)
        with using("baseline"):
            expected = products(k, x, width, dtype)
        for a, b in zip(got, expected, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 784])
def test_every_length_of_a_row(k: Any, n: int, dtype: Any) -> None:
    for seed, rows in enumerate((1, 2, 40)):
        x = batch(dtype, rows, n, 0.1, seed)
        x[:, -1] = 0
        if rows > 1:
            x[0] = 0
            x[1] = 1        # as dense as can be, though `is_sparse` would not have it
        check(x, 33, products(k, x, 33, dtype))


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("width", [90, 130, 600])
def test_several_slices_on_any_number_of_threads(k: Any, width: int, dtype: Any) -> None:
    x = batch(dtype, 20, 800)
    with using("baseline"):
        expected = products(k, x, width, dtype)
    check(x, width, expected)
    for threads in (1, 2, 3):
        with fm.num_threads(threads):
            nonzeros = k.Nonzeros(20, 800, width, dtype)
            nonzeros.load(x)
            for _ in range(3):      # the first is serial, to know the pace
                for a, b in zip(both(nonzeros, 800, width, dtype), expected, strict=True):
                    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
def test_rows_of_any_source_in_any_order(k: Any, source: Any, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x = (rng.integers(1, 255, (50, 70)) * (rng.random((50, 70)) < 0.2)).astype(source)
    order, ahead = rng.permutation(50)[:12], rng.permutation(50)
    nonzeros = k.Nonzeros(12, 70, 40, dtype)
    nonzeros.load(x, order, 1 / 255, ahead=ahead)
    got = both(nonzeros, 70, 40, dtype)
    check(x[order].astype(dtype) * dtype(1 / 255), 40, got)
    for wrong in ([0, 50], [-1, 3]):
        for where in ("order", "ahead"):
            with pytest.raises(IndexError, match=r"row (50|-1) of 50"):
                nonzeros.load(x, **({"order": order, "ahead": ahead} | {where: np.array(wrong)}))
    for a, b in zip(both(nonzeros, 70, 40, dtype), got, strict=True):       # still the one before
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_what_counts_as_sparse(k: Any, dtype: Any) -> None:
    for size in (10, 1000, 5000, 12345):
        x = np.zeros(size, dtype)
        x[:3 * size // 10] = 1
        assert k.is_sparse(x)
        x[3 * size // 10] = 1
        assert not k.is_sparse(x)
    with pytest.raises(TypeError, match="a kernel was given int32"):
        k.is_sparse(np.zeros(3, np.int32))


@pytest.mark.parametrize("dtype", EPS)
def test_nothing_but_zeros(k: Any, dtype: Any) -> None:
    nonzeros, x = k.Nonzeros(ROWS, N, 50, dtype), np.zeros((ROWS, N), dtype)
    x[2] = -0.0
    nonzeros.load(batch(dtype))      # what was there before is gone
    both(nonzeros, N, 50, dtype)
    nonzeros.load(x)
    for result in both(nonzeros, N, 50, dtype):
        assert not result.any()


@pytest.mark.parametrize("dtype", EPS)
def test_values_that_are_not_finite_are_no_zeros(k: Any, dtype: Any) -> None:
    x = np.zeros((ROWS, N), dtype)
    x[1, 3], x[4, 20], x[5, 36] = np.nan, np.inf, 1
    y, dw = products(k, x, 33, dtype)
    assert (np.isnan(y).all(axis=1) == (np.arange(ROWS) == 1)).all()
    assert (np.isinf(y).all(axis=1) == (np.arange(ROWS) == 4)).all()
    assert (np.isnan(dw).all(axis=1) == (np.arange(N) == 3)).all()
    assert (np.isinf(dw).all(axis=1) == (np.arange(N) == 20)).all()


@pytest.mark.parametrize("dtype", EPS)
def test_batches_of_any_size_up_to_the_largest(k: Any, dtype: Any) -> None:
    nonzeros = k.Nonzeros(ROWS, N, 35, dtype)
    for rows in (ROWS, 1, 4, ROWS, 2):
        x = batch(dtype, rows, seed=rows)
        nonzeros.load(x)
        check(x, 35, both(nonzeros, N, 35, dtype))
    with pytest.raises(ValueError, match="10 rows where there is room for 9"):
        nonzeros.load(batch(dtype, ROWS + 1))
    check(x, 35, both(nonzeros, N, 35, dtype))


def test_in_the_wrong_order_or_shape(k: Any) -> None:
    nonzeros, x = k.Nonzeros(ROWS, N, 4, np.float32), batch(np.float32)
    w, y, dy = dense(np.float32, N, 4), dense(np.float32, ROWS, 4), dense(np.float32, ROWS, 4)
    with pytest.raises(ValueError, match="a product in training before the gradient"):
        nonzeros.gradient(np.empty((0, 4), np.float32), w)
    nonzeros.load(x)
    with pytest.raises(ValueError, match="a product in training before the gradient"):
        nonzeros.gradient(dy, w)
    nonzeros.product(w, y, False)
    with pytest.raises(ValueError, match="a product in training before the gradient"):
        nonzeros.gradient(dy, w)
    for wrong in (w[:-1], w.astype(np.float64)):
        with pytest.raises((ValueError, TypeError), match="a kernel was given"):
            nonzeros.product(wrong, y, True)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        nonzeros.product(w, y, True)
    with pytest.raises(TypeError, match="a kernel was given int32"):
        k.Nonzeros(ROWS, N, 4, np.int32)


@pytest.mark.parametrize(("rows", "n", "width"), [(-1, 1, 1), (1, 0, 1), (1, 1, 0), (1, -1, 1)])
def test_impossible_sizes(k: Any, rows: int, n: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"given {rows} rows of {n} for weights of width {width}"):
        k.Nonzeros(rows, n, width, np.float32)


# Threads ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call", ["load", "product", "gradient"])
def test_a_second_thread_is_refused(k: Any, call: str) -> None:
    rows, n, width = 200, 2000, 1000        # long enough to be met at it
    nonzeros, x = k.Nonzeros(rows, n, width, np.float32), np.ones((rows, n), np.float32)
    w, dw = dense(np.float32, n, width), np.empty((n, width), np.float32)
    y = np.empty((rows, width), np.float32)
    nonzeros.load(x)
    nonzeros.product(w, y, True)
    before = y.copy()
    calls = {"load": lambda: nonzeros.load(x),
             "product": lambda: nonzeros.product(w, np.empty_like(y), True),
             "gradient": lambda: nonzeros.gradient(y, np.empty_like(dw))}

    def meet() -> None:
        for _ in range(20):
            with ThreadPoolExecutor(1) as pool:
                working = pool.submit(nonzeros.product, w, y, True)
                while not working.done():
                    calls[call]()

    with fm.num_threads(1), pytest.raises(RuntimeError, match="in use in another thread"):
        meet()
    np.testing.assert_array_equal(y, before)
    nonzeros.gradient(y, dw)        # as if nothing had been


def test_threads_that_share_nonzeros_cannot_crash(k: Any) -> None:
    nonzeros = k.Nonzeros(64, 300, 64, np.float32)
    w, results = dense(np.float32, 300, 64), []

    def work(seed: int) -> None:
        for i in range(200):
            x = batch(np.float32, 64, 300, seed=seed)      # gone before the next
            try:
                nonzeros.load(x)
                y = np.empty((64, 64), np.float32)
                nonzeros.product(w, y, i % 2 == 0)
                nonzeros.gradient(y, np.empty_like(w))
                results.append(y)
            except (RuntimeError, ValueError):
                continue

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(work, seed) for seed in range(4)]:
            each.result()
    assert results


# In a layer ---------------------------------------------------------------------------------------

def skips_zeros(layer: Any) -> bool:
    """Return whether its latest forward pass took a batch's nonzeros."""
    return layer.nonzeros is not None and len(layer.nonzeros) > 0


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
        assert skips_zeros(layer) == skip
        results.append([y, layer.backward(dy.copy()), *layer.grads])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=100 * EPS[dtype], atol=100 * EPS[dtype])


def test_which_layers_skip_zeros() -> None:
    for units, zeros, skips in ((31, 0.9, False), (32, 0.9, True), (32, 0.5, False)):
        layer: Any = nn.Dense(units)
        layer.build((50,), np.dtype(np.float32), np.random.default_rng(3))
        layer.allocate(40, np.dtype(np.float32), needs_dx=False)
        layer.forward(batch(np.float32, 40, 50, 1 - zeros), training=False)
        assert skips_zeros(layer) == skips
