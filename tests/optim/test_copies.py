"""Copies of the parameters in 16 bits are what NumPy would round them to, after each step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm

ml_dtypes = pytest.importorskip("ml_dtypes")

F = np.float32
BF16 = np.dtype(ml_dtypes.bfloat16)
HALF = np.dtype(np.float16)
SHAPES = [(0,), (), (7, 3), (1025,), (33, 1000)]
FORMATS = [BF16, BF16, HALF, None, BF16]


def problem() -> tuple[list[Any], list[Any], np.random.Generator]:
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape).astype(F) for shape in SHAPES]
    copies = [None if dtype is None else np.zeros(shape, dtype)
              for shape, dtype in zip(SHAPES, FORMATS, strict=True)]
    return params, copies, rng


def check(params: list[Any], copies: list[Any]) -> None:
    for p, copy in zip(params, copies, strict=True):
        if copy is not None:
            assert copy.tobytes() == p.astype(copy.dtype).tobytes()


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_equal_to_rounded_parameters(case: tuple[type[fm.Optimizer], dict[str, Any]],
                                     parts: int) -> None:
    cls, hyper = case
    params, copies, rng = problem()
    plain = [p.copy() for p in params]
    with_copies, without = cls(**hyper), cls(plain, **hyper)
    with_copies.bind(params, copies)
    check(params, copies)
    assert with_copies._engine is not None
    with_copies._engine.parts = parts
    for step in range(3):
        grads = [rng.standard_normal(shape).astype(F) for shape in SHAPES]
        if step == 1:
            grads[2] = None
        with_copies.step(grads)
        without.step(grads)
        check(params, copies)
    for p, q in zip(params, plain, strict=True):
        assert p.tobytes() == q.tobytes()


@pytest.mark.parametrize("dtype", [BF16, HALF], ids=str)
def test_every_rounding(dtype: Any) -> None:
    """Halves go to even, beyond the largest number is infinite, a NaN stays one."""
    bits = np.arange(0, 1 << 32, 4099, dtype=np.uint64).astype(np.uint32)
    middle = np.arange(1 << 16, dtype=np.uint32) << 16
    p = np.concatenate([bits, middle + 0x8000, middle + 0x7fff, middle + 0x8001,
                        middle + 0x1000]).view(F)
    copy = np.zeros(p.size, dtype)
    opt = fm.SGD(lr=0.0)
    opt.bind([p], [copy])
    copy[:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fm.set_flush_subnormals(False)
        try:
            opt.step([np.zeros(p.size, F)])
        finally:
            fm.set_flush_subnormals(True)
        np.testing.assert_array_equal(copy.astype(F), p.astype(dtype).astype(F))


def test_with_an_average_and_more_groups() -> None:
    params, copies, rng = problem()
    opt = fm.Adam()
    opt.bind(params, copies)
    more = np.ones(9, F)
    opt.add_param_group({"params": [more]})
    average = fm.EMA([*params, more], optimizer=opt)
    for _ in range(2):
        opt.step([rng.standard_normal(p.shape).astype(F) for p in (*params, more)])
        check(params, copies)
    assert average.averages[3].any()


def read_only() -> Any:
    a = np.zeros(8, BF16)
    a.flags.writeable = False
    return a


BAD: list[tuple[str, Callable[[Any], Any], str]] = [
    ("an array", lambda p: np.zeros(8, BF16), "copies must be a list"),
    ("too many", lambda p: [None, None], "copies has 2 entries, expected 1"),
    ("a list inside", lambda p: [[0] * 8], r"copies\[0\] must be a NumPy array"),
    ("single", lambda p: [np.zeros(8, F)], r"copies\[0\] is float32.*expected float16 or bfloat16"),
    ("integers", lambda p: [np.zeros(8, np.int16)], r"copies\[0\] has dtype int16"),
    ("shape", lambda p: [np.zeros((2, 4), BF16)], r"copies\[0\] has shape \(2, 4\)"),
    ("strided", lambda p: [np.zeros(16, BF16)[::2]], r"copies\[0\] is not C-contiguous"),
    ("read-only", lambda p: [read_only()], r"copies\[0\] is read-only"),
    ("the parameter", lambda p: [p.view(BF16)[:8]], r"(copies|params)\[0\] overlaps"),
]


@pytest.mark.parametrize(("make", "message"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_refused(make: Callable[[Any], Any], message: str) -> None:
    p = np.ones(8, F)
    opt = fm.SGD(lr=1.0)
    with pytest.raises((TypeError, ValueError), match=message):
        opt.bind([p], make(p))
    good = np.zeros(8, BF16)
    opt.bind([p], [good])
    assert opt.step([np.zeros(8, F)])
    assert (good == 1).all()


def test_of_double_is_refused() -> None:
    with pytest.raises(TypeError, match=r"copies\[0\] is bfloat16 and params\[0\] float64"):
        fm.SGD().bind([np.zeros(8)], [np.zeros(8, BF16)])


# What Python code can do to a copy, and the error of the next step (None: it still fits)
CHANGES: list[tuple[str, Callable[[Any], None], str | None]] = [
    ("shrink", lambda a: a.resize(500, refcheck=False), "shape"),
    ("move", lambda a: (a.resize(10 ** 6, refcheck=False), a.resize(10 ** 5, refcheck=False))[0],
     None),
    ("freeze", lambda a: a.setflags(write=False), "read-only"),
]


@pytest.mark.parametrize(("change", "error"), [r[1:] for r in CHANGES], ids=[r[0] for r in CHANGES])
def test_changed_copy(change: Callable[[Any], None], error: str | None) -> None:
    p, copy, g = np.zeros(10 ** 5, F), np.zeros(10 ** 5, BF16), np.ones(10 ** 5, F)
    opt = fm.SGD(lr=1.0)
    opt.bind([p], [copy])
    assert opt.step([g])
    with pytest.raises(ValueError, match=r"grads\[0\] overlaps copies\[0\]"):
        opt.step([copy])
    change(copy)
    if error is None:
        assert opt.step([g])
        assert (copy == -2).all()
    else:
        with pytest.raises(ValueError, match=rf"copies\[0\].*{error}"):
            opt.step([g])
        assert (p == -1).all()
