"""Gradients of 16 bits for float32 parameters: exactly as if they had been converted before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import COMMON, OPTIMIZERS, label

import fastmom as fm

ml_dtypes = pytest.importorskip("ml_dtypes")

F = np.float32
BF16 = np.dtype(ml_dtypes.bfloat16)
FORMATS = [np.dtype(np.float16), BF16, np.dtype(F)]
SHAPES = [(0,), (), (1,), (7, 3), (1023,), (1025,), (4097,), (33, 1000)]


def gradients(rng: np.random.Generator, step: int) -> list[Any]:
    """One of each shape, in formats that change from step to step."""
    return [(10 * rng.standard_normal(shape)).astype(FORMATS[(i + step) % 3])
            for i, shape in enumerate(SHAPES)]


def trained(cls: type[fm.Optimizer], hyper: dict[str, Any],
            convert: Callable[[Any], Any], parts: int = 0) -> tuple[Any, ...]:
    """All that four steps have changed, as bytes."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape).astype(F) for shape in SHAPES]
    opt = cls(params, **hyper)
    assert opt._engine is not None
    opt._engine.parts = parts
    for step in range(4):
        assert opt.step([convert(g) for g in gradients(rng, step)])
    state = [array.tobytes() for own in opt.state for array in own.values()]
    return (*(p.tobytes() for p in params), *state, opt.grad_norm)


def widened(g: Any) -> Any:
    return g.astype(F)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_as_if_converted_before(case: tuple[type[fm.Optimizer], dict[str, Any]]) -> None:
    wanted = trained(*case, widened)
    for parts in (1, 2):
        np.testing.assert_equal(trained(*case, lambda g: g, parts), wanted)


@pytest.mark.parametrize("common", COMMON, ids=str)
def test_clipping_and_scaling_read_them(common: dict[str, Any]) -> None:
    for cls in (fm.SGD, fm.LAMB, fm.Adafactor):
        np.testing.assert_equal(trained(cls, common, lambda g: g), trained(cls, common, widened))


@pytest.mark.parametrize("dtype", FORMATS[:2], ids=str)
def test_every_number(dtype: Any) -> None:
    """All 65,536 of a format, subnormals and infinities among them."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    p = np.zeros(1 << 16, F)
    fm.set_flush_subnormals(False)
    try:
        fm.SGD([p], lr=1.0, maximize=True).step([numbers])
    finally:
        fm.set_flush_subnormals(True)
    np.testing.assert_array_equal(p, numbers.astype(F))


@pytest.mark.parametrize("dtype", FORMATS[:2], ids=str)
def test_what_is_not_finite(dtype: Any) -> None:
    p = np.zeros((2, 3), F)
    g = np.ones((2, 3), dtype)
    g[1, 2] = np.inf
    opt = fm.SGD([p], nonfinite="raise")
    with pytest.raises(FloatingPointError, match=r"grads\[0\] is inf at index \(1, 2\)"):
        opt.step([g])
    opt.nonfinite = "skip"
    assert not opt.step([g])
    assert not p.any()


@pytest.mark.parametrize("dtype", FORMATS[:2], ids=str)
def test_scalars_and_accumulation(dtype: Any) -> None:
    p = np.zeros((), F)
    opt = fm.SGD([p], lr=1.0)
    assert opt.step([dtype.type(1.5)])
    batches = fm.GradientAccumulation(opt, 2)
    assert [batches.step([np.array(x, dtype)]) for x in (1, 2)] == [False, True]
    assert p == -3


REFUSED: list[tuple[str, Any, Callable[[], Any], str]] = [
    ("double for single", F, lambda: np.ones(8),
     r"grads\[0\] has dtype float64, expected float32, float16 or bfloat16 as params\[0\] is f"),
    ("half for double", np.float64, lambda: np.ones(8, np.float16),
     r"grads\[0\] has dtype float16, expected float64 as params\[0\]"),
    ("bfloat16 for double", np.float64, lambda: np.ones(8, BF16), "dtype bfloat16, expected f"),
    ("swapped bytes", F, lambda: np.ones(8, ">f2"), "dtype >f2"),
    ("two bytes of another kind", F, lambda: np.ones(8, np.int16), "dtype int16"),
    ("a pair of bytes", F, lambda: np.ones(8, "V2"), "dtype"),
    ("strided", F, lambda: np.ones(16, BF16)[::2], "C-contiguous"),
    ("misaligned", F, lambda: np.zeros(17, np.uint8)[1:].view(np.float16), "not aligned"),
    ("shape", F, lambda: np.ones((8, 1), BF16), r"shape \(8, 1\)"),
    ("as many bytes", F, lambda: np.ones(16, BF16), r"shape \(16,\)"),
]


@pytest.mark.parametrize(("dtype", "make", "message"), [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])
def test_refused(dtype: Any, make: Callable[[], Any], message: str) -> None:
    p = np.zeros(8, dtype)
    opt = fm.SGD([p])
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=message):
            opt.step([make()])
        assert opt.step([np.zeros(8, dtype)])
    assert not p.any()


@pytest.mark.parametrize("dtype", FORMATS[:2], ids=str)
def test_memory_that_is_written(dtype: Any) -> None:
    """A gradient may fill the gap between two parameters to its last byte, and no more."""
    memory = np.zeros(64, F)
    opt = fm.SGD([memory[:8], memory[12:20]])
    between = memory[8:12].view(dtype)
    assert opt.step([between, None])
    for bad in (memory[7:11], memory[9:13], memory[:4], memory[16:20]):
        for good in (between, memory[20:24].view(dtype)):
            with pytest.raises(ValueError, match=r"grads\[1\] overlaps params"):
                opt.step([good, bad.view(dtype)])


def test_a_single_gradient_does_not_load_ml_dtypes() -> None:
    script = ("import sys, numpy as np, fastmom as fm\n"
              "p = np.zeros(3, np.float32)\n"
              "o = fm.SGD([p])\n"
              "for t in ('f4', 'f2'): o.step([np.ones(3, t)])\n"
              "try: o.step([np.ones(3)])\n"
              "except TypeError: print(p[0] < 0, 'ml_dtypes' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout + done.stderr == "True False\n"
