"""Dense products: in every build, against NumPy in float64, and at their limits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from builds import using

import fastmom as fm
from fastmom import nn
from fastmom.kernels import isa

EPS = {np.float32: 2.0 ** -23, np.float64: 2.0 ** -52}
THREADS = (1, 2, 3, 5, 8)


def numbers(dtype: Any, *shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def products(k: Any, x: Any, width: int) -> tuple[Any, Any, Any]:
    """x @ w, x.T @ dy and dy @ w.T."""
    batch = k.DenseBatch(*x.shape, width, x.dtype)
    batch.load(x)
    return all_of(batch, x.shape[1], width, x.dtype)


def all_of(batch: Any, n: int, width: int, dtype: Any) -> tuple[Any, Any, Any]:
    rows, w = len(batch), numbers(dtype, n, width)
    dy = numbers(dtype, rows, width)
    y, dw, dx = (np.full(shape, np.nan, dtype) for shape in ((rows, width), (n, width), (rows, n)))
    batch.product(w, y, True)
    batch.gradient(dy, dw)
    batch.back(dy, w, dx)
    return y, dw, dx


def check(x: Any, width: int, got: tuple[Any, Any, Any]) -> None:
    """Compare the products with NumPy's in float64."""
    (rows, n), dtype = x.shape, got[0].dtype.type
    w, dy = numbers(dtype, n, width), numbers(dtype, rows, width)
    for result, a, b in zip(got, (x, x.T, dy), (w, dy, w.T), strict=True):
        a, b = a.astype(np.float64), b.astype(np.float64)
        bound = EPS[dtype] * (np.abs(a) @ np.abs(b)) * (2 + a.shape[1])
        assert (np.abs(result - a @ b) <= bound).all()


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return [each.tobytes() for each in a] == [each.tobytes() for each in b]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 32])
def test_every_width(k: Any, rows: int, dtype: Any) -> None:
    x = numbers(dtype, rows, 21)
    for width in range(1, 100):
        check(x, width, products(k, x, width))


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("n", [*range(1, 20), 31, 32, 33, 63, 64, 65, 784])
def test_every_length_of_a_row(k: Any, n: int, dtype: Any) -> None:
    for rows in (1, 7, 8, 33):
        x = numbers(dtype, rows, n)
        for width in (1, 10, 32, 50):
            check(x, width, products(k, x, width))


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("rows", "n", "width"), [
    (9, 511, 3), (9, 513, 37), (9, 1025, 16), (511, 9, 3), (513, 9, 37), (1025, 9, 16), (9, 3, 511),
    (9, 37, 513), (9, 16, 1025), (600, 700, 70)])
def test_sums_longer_than_a_block(k: Any, rows: int, n: int, width: int, dtype: Any) -> None:
    x = numbers(dtype, rows, n)
    check(x, width, products(k, x, width))


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("rows", "n", "width"), [
    (32, 784, 128), (7, 784, 128), (20, 800, 200), (40, 300, 333), (128, 70, 90), (1, 900, 130)])
def test_any_number_of_threads_gives_the_same_bits(k: Any, rows: int, n: int, width: int,
                                                   dtype: Any) -> None:
    """Slices of the weights, ranges that divide evenly and others; also through a gather."""
    x, order = numbers(dtype, rows, n), np.arange(rows)[::-1].copy()
    expected = None
    for threads in THREADS:
        with fm.num_threads(threads):
            batch = k.DenseBatch(rows, n, width, dtype)
            for _ in range(3):      # the first is serial, to know the pace
                batch.load(x)
                got = all_of(batch, n, width, dtype)
                batch.load(x, order)
                gathered = all_of(batch, n, width, dtype)[0]
                check(x, width, got)
                expected = expected or (*got, gathered)
                assert same((*got, gathered), expected)
    assert isa.in_use() == "baseline" or (expected[0][::-1] == expected[3]).all()


@pytest.mark.skipif("avx512" not in isa.available(), reason="there is one build with own products")
@pytest.mark.parametrize("dtype", EPS)
def test_width_of_vectors_does_not_change_bits(dtype: Any) -> None:
    from fastmom.kernels import layers
    results = []
    for name in ("avx2", "avx512"):
        with using(name):
            results.append(products(layers, numbers(dtype, 21, 790), 130))
    assert same(*results)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
def test_rows_of_any_source_in_any_order(k: Any, source: Any, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 255, (50, 800)).astype(source)
    order, ahead = rng.permutation(50)[:12], rng.permutation(50)
    batch = k.DenseBatch(12, 800, 100, dtype)
    batch.load(x, order, 1 / 255, -0.5, ahead)
    got = all_of(batch, 800, 100, dtype)
    check(x[order].astype(dtype) * dtype(1 / 255) + dtype(-0.5), 100, got)
    for wrong in ([0, 50], [-1, 3]):
        for where in ("order", "ahead"):
            with pytest.raises(IndexError, match=r"row (50|-1) of 50"):
                batch.load(x, **({"order": order, "ahead": ahead} | {where: np.array(wrong)}))
    assert same(all_of(batch, 800, 100, dtype), got)        # still the one before


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_goes_where_it_does_in_blas(k: Any, dtype: Any) -> None:
    rows, n, width = 9, 37, 21
    for value in (np.nan, np.inf):
        x, w, dy = (np.zeros(shape, dtype) for shape in ((rows, n), (n, width), (rows, width)))
        w[3, 4] = dy[5, 6] = value      # times a zero it is NaN
        batch = k.DenseBatch(rows, n, width, dtype)
        batch.load(x)
        y, dw, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(x)
        batch.product(w, y, True)
        batch.gradient(dy, dw)
        batch.back(dy, w, dx)
        for got, a, b in ((y, x, w), (dw, x.T, dy), (dx, dy, w.T)):
            np.testing.assert_array_equal(got, a @ b)
            assert np.isnan(got).any()


@pytest.mark.skipif(not isa.available()[1:], reason="NumPy's products know no flushing")
def test_subnormals_are_flushed() -> None:
    from fastmom.kernels import layers
    tiny = np.full((4, 5), 1e-39, np.float32)
    for flush in (True, False):
        fm.set_flush_subnormals(flush)
        try:
            batch, w = layers.DenseBatch(4, 5, 3, np.float32), np.ones((5, 3), np.float32)
            batch.load(tiny)
            y = np.empty((4, 3), np.float32)
            batch.product(w, y, False)
        finally:
            fm.set_flush_subnormals(True)
        assert y.any() != flush


@pytest.mark.parametrize("dtype", EPS)
def test_batches_of_any_size_up_to_the_largest(k: Any, dtype: Any) -> None:
    batch = k.DenseBatch(9, 37, 35, dtype)
    for rows in (9, 1, 0, 4, 9, 2):
        x = numbers(dtype, rows, 37)
        batch.load(x)
        check(x, 35, all_of(batch, 37, 35, dtype))
    with pytest.raises(ValueError, match="10 rows where there is room for 9"):
        batch.load(numbers(dtype, 10, 37))
    check(x, 35, all_of(batch, 37, 35, dtype))


def test_in_the_wrong_order_or_shape(k: Any) -> None:
    batch, x = k.DenseBatch(9, 37, 4, np.float32), numbers(np.float32, 9, 37)
    w, y, dy = numbers(np.float32, 37, 4), np.empty((9, 4), np.float32), numbers(np.float32, 9, 4)
    with pytest.raises(ValueError, match="a batch to be loaded before the product"):
        batch.product(w, np.empty((0, 4), np.float32), True)
    for step in (lambda: None, lambda: batch.load(x), lambda: batch.product(w, y, False),
                 lambda: batch.product(w, y, True) or batch.release()):
        step()
        with pytest.raises(ValueError, match="a product in training before the gradient"):
            batch.gradient(dy, w)
    with pytest.raises(ValueError, match="a batch to be loaded before the product"):
        batch.product(w, y, True)
    batch.load(x)
    batch.product(w, y, True)
    for wrong in (w[:-1], w.astype(np.float64)):
        with pytest.raises((ValueError, TypeError), match="a kernel was given"):
            batch.product(wrong, y, True)
        batch.product(w, y, True)
        with pytest.raises((ValueError, TypeError), match="a kernel was given"):
            batch.back(dy, wrong, x)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        batch.product(w, y, True)
    with pytest.raises(ValueError, match="an offset of 1"):
        k.Nonzeros(9, 37, 4, np.float32).load(x, offset=1)


@pytest.mark.parametrize("call", ["load", "product", "gradient", "back"])
def test_a_second_thread_is_refused(k: Any, call: str) -> None:
    rows, n, width = 400, 2000, 1000        # long enough to be met at it
    batch, x = k.DenseBatch(rows, n, width, np.float32), np.ones((rows, n), np.float32)
    w, y = numbers(np.float32, n, width), np.empty((rows, width), np.float32)
    batch.load(x)
    batch.product(w, y, True)
    before = y.copy()
    calls = {"load": lambda: batch.load(x),
             "product": lambda: batch.product(w, np.empty_like(y), True),
             "gradient": lambda: batch.gradient(y, np.empty_like(w)),
             "back": lambda: batch.back(y, w, np.empty_like(x))}

    def meet() -> None:
        for _ in range(20):
            with ThreadPoolExecutor(1) as pool:
                working = pool.submit(batch.product, w, y, True)
                while not working.done():
                    calls[call]()

    with fm.num_threads(1), pytest.raises(RuntimeError, match="in use in another thread"):
        meet()
    np.testing.assert_array_equal(y, before)
    batch.gradient(y, np.empty_like(w))     # as if nothing had been


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_is_as_with_numpy(dtype: str) -> None:
    """The losses of builds with products of their own and of the one that leaves them to NumPy."""
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 20, 10)), rng.integers(0, 10, 300)
    losses = []
    for name in isa.available():
        with using(name):
            model = nn.Sequential([
                nn.Rescaling(2.0, -1.0, input_shape=(20, 10)), nn.Flatten(),
                nn.Dense(70, activation="relu"), nn.Dense(33, activation="tanh"),
                nn.Dense(10, activation="softmax")], dtype=dtype, seed=1)
            model.compile("sgd", lr=0.05, momentum=0.9, loss="sparse_categorical_crossentropy")
            losses.append(model.fit(x, y, epochs=3, batch_size=32, verbose=0).history["loss"])
    for each in losses:
        np.testing.assert_allclose(each, losses[0], rtol=1e-4 if dtype == "float32" else 1e-12)
        assert each[-1] < each[0]
