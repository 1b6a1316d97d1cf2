"""The layers' kernels given wrong arrays write nothing; subnormal numbers come out as zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builds import functions

import fastmom as fm
from fastmom.kernels import layers, system

ROWS, N, WIDTH = 6, 8, 40
DTYPES = [np.float32, np.float64]


def loaded(k: Any, dtype: Any, kind: str = "Nonzeros") -> Any:
    batch = getattr(k, kind)(ROWS, N, WIDTH, dtype)
    batch.load(np.eye(ROWS, N, dtype=dtype))
    return batch


def trained(k: Any, kind: str) -> Any:
    batch = loaded(k, np.float32, kind)
    batch.product(np.ones((N, WIDTH), np.float32), np.empty((ROWS, WIDTH), np.float32), True)
    return batch


def calls_of(kind: str) -> dict[str, tuple[Callable[..., Any], list[Any]]]:
    """The methods of a kind of batch."""
    return {
        f"{kind}.load": (
            lambda k, x, order, ahead: loaded(k, np.float32, kind).load(x, order, ahead=ahead),
            [(ROWS, N), np.array([3, 0]), np.array([1, 1, 2])]),
        f"{kind}.product": (
            lambda k, w, out: loaded(k, np.float32, kind).product(w, out, True),
            [(N, WIDTH), (ROWS, WIDTH)]),
        f"{kind}.gradient": (lambda k, dy, out: trained(k, kind).gradient(dy, out),
                             [(ROWS, WIDTH), (N, WIDTH)])}


# name: (how it is called, shapes of its arrays of reals), then its other arguments
CALLS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "gather": (lambda k, x, out, order: k.gather(x, order, out),
               [(4, N), (ROWS, N), np.array([3, 0, 1, 1, 2, 3])]),
    "bias_activation": (lambda k, y, bias: k.bias_activation(y, bias, 0.5), [(ROWS, N), (N,)]),
    "activation_gradient": (lambda k, dy, y, db: k.activation_gradient(dy, y, db, 0.5),
                            [(ROWS, N), (ROWS, N), (N,)]),
    "gelu": (lambda k, z, slopes: k.gelu(z, slopes), [(ROWS, N), (ROWS, N)]),
    "dropout": (lambda k, x, y, kept: k.dropout(x, y, kept, 0.5, 1, 2),
                [(ROWS, N), (ROWS, N), np.zeros((ROWS, N), np.uint8)]),
    "dropout_gradient": (lambda k, dy, kept: k.dropout_gradient(dy, kept, 0.5),
                         [(ROWS, N), np.zeros((ROWS, N), np.uint8)]),
    "softmax_cross_entropy": (
        lambda k, z, w, dz, labels: k.softmax_cross_entropy(z, labels, w, dz),
        [(ROWS, N), (ROWS,), (ROWS, N), np.arange(ROWS)]),
    "count_hits": (lambda k, p, labels: k.count_hits(p, labels), [(ROWS, N), np.arange(ROWS)]),
    **calls_of("Nonzeros"), **calls_of("DenseBatch"),
    "DenseBatch.back": (lambda k, dy, w, out: trained(k, "DenseBatch").back(dy, w, out),
                        [(ROWS, WIDTH), (N, WIDTH), (ROWS, N)])}

# what may be None
OPTIONAL = {("bias_activation", 1), ("activation_gradient", 2), ("gelu", 1),
            *((f"{kind}.load", i) for kind in ("Nonzeros", "DenseBatch") for i in (1, 2)),
            *(("softmax_cross_entropy", i) for i in (1, 2, 3))}

WRONG: dict[str, Callable[[Any], Any]] = {
    "dtype": lambda a: a.astype(np.int16), "byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "size": lambda a: a.ravel()[:-1].copy(), "strides": lambda a: np.repeat(a, 2, axis=0)[::2],
    "order": lambda a: np.asfortranarray(a), "no axes": lambda a: np.array(a.flat[0]),
    "scalar": lambda a: a.flat[0], "list": lambda a: a.tolist(), "None": lambda a: None}


def arrays(name: str, dtype: Any = np.float32) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.random(a).astype(dtype) if isinstance(a, tuple) else a.copy()
            for a in CALLS[name][1]]


def test_every_kernel_is_tested() -> None:
    assert {name.partition(".")[0] for name in CALLS} == functions(layers) - {
        "random_words", "is_sparse", "Batch"}   # is_sparse takes any array: see test_nonzeros.py


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("name", CALLS)
def test_wrong_arrays(name: str, how: str, k: Any) -> None:
    call, tried = CALLS[name][0], 0
    call(k, *arrays(name))
    for i in range(len(arrays(name))):
        given = arrays(name)
        if how == "None" and (name, i) in OPTIONAL:
            continue
        if how == "size" and name.endswith(".load") and i > 0:
            continue    # a batch may have any number of rows
        if (how, given[i].ndim) == ("order", 1) or (how, given[i].itemsize) == ("byte order", 1):
            continue    # no other than there is
        given[i] = WRONG[how](given[i])
        before = [np.array(a).tobytes() for a in given]
        with pytest.raises((TypeError, ValueError), match="a kernel was given"):
            call(k, *given)
        assert [np.array(a).tobytes() for a in given] == before
        tried += 1
    assert tried


@pytest.mark.parametrize("bad", [-1, N, 2 ** 40, -2 ** 63])
def test_labels_out_of_range(k: Any, bad: int) -> None:
    z, w, dz, labels = arrays("softmax_cross_entropy")
    before = z.copy(), dz.copy()
    labels[-1] = bad
    with pytest.raises(IndexError, match=f"label {bad} of {N} classes"):
        k.softmax_cross_entropy(z, labels, w, dz)
    np.testing.assert_array_equal((z, dz), before)


@pytest.mark.parametrize("bad", [-1, 4, 2 ** 40, -2 ** 63])
def test_rows_out_of_range(k: Any, bad: int) -> None:
    x, out, order = arrays("gather")
    before = out.copy()
    order[-1] = bad
    with pytest.raises(IndexError, match=f"row {bad} of 4"):
        k.gather(x, order, out)
    with pytest.raises(IndexError, match=r"row \d of 0"):
        k.gather(x[:0], np.zeros(3, np.int64), np.empty(0, np.float32))
    np.testing.assert_array_equal(out, before)


def test_no_rows(k: Any) -> None:
    none = np.empty((0, N), np.float32)
    k.gather(np.ones((4, N)), np.empty(0, np.int64), none)
    k.bias_activation(none, np.ones(N, np.float32))
    sums = np.ones(N, np.float32)
    k.activation_gradient(none, none, sums)
    assert not sums.any()
    assert k.softmax_cross_entropy(none, np.empty(0, np.int64)) == 0
    assert k.count_hits(none, np.empty(0, np.int64)) == 0


# Subnormals ---------------------------------------------------------------------------------------

TINY = {np.float32: np.float32(1e-39), np.float64: np.float64(1e-310)}


def gather(k: Any, tiny: Any) -> list[Any]:
    out = np.ones((2, N), tiny.dtype)
    k.gather(np.full((2, N), tiny), np.arange(2), out)
    return [out]


def bias(k: Any, tiny: Any) -> list[Any]:
    y = np.full((ROWS, N), -tiny)
    k.bias_activation(y, np.zeros(N, y.dtype), 0.5)
    return [y]


def gradient(k: Any, tiny: Any) -> list[Any]:
    dy, y, db = np.full((ROWS, N), tiny), np.zeros((ROWS, N), tiny.dtype), np.ones(N, tiny.dtype)
    k.activation_gradient(dy, y, db, 0.5)
    return [dy, db]


def gelu(k: Any, tiny: Any) -> list[Any]:
    z = np.full(N, tiny)
    k.gelu(z)
    return [z]


def dropout(k: Any, tiny: Any) -> list[Any]:
    x, y, kept = np.full(300, tiny), np.empty(300, tiny.dtype), np.empty(300, np.uint8)
    k.dropout(x, y, kept, 0.1, 1, 2)
    k.dropout_gradient(x, kept, 0.1)
    return [x, y]


def softmax(k: Any, tiny: Any) -> list[Any]:
    if tiny.dtype == np.float32:    # a smallest exponential, divided by four
        z = np.array([[0, 0, 0, 0, -87]], np.float32)
    else:
        z = np.array([[0.0, -710.0]])
    k.softmax_cross_entropy(z)
    return [z[:, -1]]


def product(k: Any, tiny: Any) -> list[Any]:
    nonzeros, y, dw = loaded(k, tiny.dtype), np.ones((ROWS, 40), tiny.dtype), np.ones((N, 40))
    dw = dw.astype(tiny.dtype)
    nonzeros.product(np.full((N, 40), tiny), y, True)
    nonzeros.gradient(np.full((ROWS, 40), tiny), dw)
    return [y, dw]


@pytest.mark.skipif(not system.flush_register, reason="this processor has no known switch")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [gather, bias, gradient, gelu, dropout, softmax, product])
def test_subnormals_are_flushed(k: Any, kernel: Any, dtype: Any) -> None:
    tiny = TINY[dtype]
    assert all(not result.any() for result in kernel(k, tiny))
    try:
        fm.set_flush_subnormals(False)
        kept = kernel(k, tiny)
    finally:
        fm.set_flush_subnormals(True)
    for result in kept:
        assert (result[result != 0] < np.finfo(dtype).smallest_normal).all()
        assert result.any()
    assert (np.full(10, tiny) / 2 > 0).all()    # this thread still computes with them
