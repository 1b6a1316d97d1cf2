"""Numbers at the ends of their type: no factor of a step is lost on the way to the kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm

HUGE = {np.float32: 1e38, np.float64: 1e307}
TINY = {np.float32: 1e-37, np.float64: 1e-307}
DTYPES = [np.float32, np.float64]


def relative(dtype: Any) -> float:
    return float(8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", ["clip_norm", "clip_norm_per_tensor"])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("more", [{}, {"clip_value": 0.02}, {"maximize": True}], ids=str)
def test_clipping_huge_gradients(dtype: Any, clip: str, parts: int, more: dict[str, Any]) -> None:
    """Also where their norm is beyond the type, or beyond float64."""
    n = 10_000
    p = np.zeros(n, dtype)
    g = np.full(n, HUGE[dtype], dtype)
    g[::2] *= -1
    optimizer = fm.SGD([p], lr=1.0, nonfinite="raise", **{clip: 4.0}, **more)
    assert optimizer._engine is not None
    optimizer._engine.parts = parts
    assert optimizer.step([g])
    size = min(more.get("clip_value", 1.0), 0.04)
    expected = (1 if "maximize" in more else -1) * size * np.sign(g)
    np.testing.assert_allclose(p, expected, rtol=relative(dtype))
    norm = abs(float(g[0])) * 100
    assert optimizer.grad_norm == (pytest.approx(norm) if math.isfinite(norm) else math.inf)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e30, 1e38, 1e45, 1e300, 1e-30, 1e-38, 1e-45, 1e-300])
def test_any_grad_scale(dtype: Any, scale: float) -> None:
    """Gradients scaled by 10^38 or 10^-300 come out as they were."""
    true = np.array([0.0, 1.0, -3.0, 1e-3, 100.0])
    with np.errstate(over="ignore", under="ignore"):
        g = (true * scale).astype(dtype)
        # what is subnormal, infinite or 0 in the type itself cannot come back
        there = (np.abs(g) >= np.finfo(dtype).smallest_normal) & np.isfinite(g)
        p = np.zeros(5, dtype)
        assert fm.SGD([p], lr=1.0, grad_scale=scale).step([np.where(there, g, 0).astype(dtype)])
    np.testing.assert_allclose(p, np.where(there, -true, 0), rtol=relative(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_survive_a_rescaled_gradient(dtype: Any) -> None:
    p = np.zeros(4, dtype)
    g = np.array([np.nan, np.inf, -np.inf, 1.0], dtype)
    fm.SGD([p], lr=1.0, grad_scale=float(np.finfo(dtype).max)).step([g])
    np.testing.assert_array_equal(p[:3], [np.nan, -np.inf, np.inf])
    assert abs(p[3]) <= np.finfo(dtype).smallest_normal


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-150, 1e150, 1e160, 1e300])
def test_norms_of_float64(size: float) -> None:
    """Their squares overflow, or are lost; the norm and what is clipped by it are not."""
    a, b = np.full(5000, 3 * size), np.full(7000, 4 * size)
    b[3] = 1e-3 * size
    p, q = np.zeros(5000), np.zeros(7000)
    optimizer = fm.SGD([p, q], lr=1.0, clip_norm=10 * size)
    assert optimizer.step([a, b])
    scaled = math.hypot(float(np.linalg.norm(a / size)), float(np.linalg.norm(b / size)))
    assert optimizer.grad_norm == pytest.approx(scaled * size, rel=1e-13)
    np.testing.assert_allclose(p, -a * 10 / scaled, rtol=1e-13)
    np.testing.assert_allclose(q, -b * 10 / scaled, rtol=1e-13)


def test_norm_of_small_and_large_together() -> None:
    """Each counts for what it is worth."""
    a, b = np.full(4096, 1e-170), np.full(3 * 4096, 1e-160)
    b[:4096] = 1e-170
    optimizer = fm.SGD([np.zeros(4096), np.zeros(3 * 4096)], clip_norm=1.0)
    optimizer.step([a, b])
    assert optimizer.grad_norm == pytest.approx(1e-160 * math.sqrt(2 * 4096), rel=1e-13)
    b[-1] = 3.0
    optimizer.step([a, b])
    assert optimizer.grad_norm == pytest.approx(3, rel=1e-15)
    b[-1] = 1e200
    optimizer.step([a, b])
    assert optimizer.grad_norm == pytest.approx(1e200, rel=1e-15)


@pytest.mark.parametrize("make", [
    lambda p: fm.LARS([p], lr=0.5, momentum=0.0, trust_coefficient=0.25),
    lambda p: fm.LARS([p], lr=0.5, momentum=0.0, trust_coefficient=0.25, eps=1e-300),
    lambda p: fm.LAMB([p], lr=0.125, eps=1e-30)], ids=["LARS", "LARS-eps", "LAMB"])
@pytest.mark.parametrize(("dtype", "p0", "g0"), [
    (np.float64, 1e160, 1.0), (np.float64, 1.0, 1e140), (np.float64, 1e160, 1e-100),
    (np.float64, 1e-160, 1e140), (np.float64, 1e-170, 1e-100), (np.float64, 1e-200, 1.0),
    (np.float32, 1e30, 1e15), (np.float32, 1e-30, 1.0), (np.float32, 1e-15, 1e15)])
def test_trust_ratios(make: Any, dtype: Any, p0: float, g0: float) -> None:
    """The step is an eighth of the parameter, however long parameter and gradient are."""
    p, g = np.full(5000, p0, dtype), np.full(5000, g0, dtype)
    assert make(p).step([g])
    np.testing.assert_allclose(p, 0.875 * p0, rtol=relative(dtype))


@pytest.mark.parametrize(("p0", "g0"), [(1e5, 1e-37), (1e-8, 1e38), (1e30, 1e-37), (1e-30, 1e38)])
def test_trust_ratio_beyond_float32(p0: float, g0: float) -> None:
    p, g = np.full(5000, p0, np.float32), np.full(5000, g0, np.float32)
    fm.LARS([p], lr=0.5, momentum=0.0, trust_coefficient=0.25).step([g])
    np.testing.assert_allclose(p, 0.875 * p0, rtol=1e-6)


WITH_EPS = [case for case in OPTIMIZERS if "eps" in case[0]._group_hypers]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WITH_EPS, ids=label)
def test_eps_is_never_flushed_to_zero(case: Any, dtype: Any) -> None:
    """It keeps 0 / 0 away, however small it is."""
    kind, hyper = case
    p = np.array([[1.0, -2.0], [0.0, 3.0]], dtype)
    q = p[0].copy()
    optimizer = kind([p, q], **{**hyper, "eps": 1e-320, "weight_decay": 0.0})
    for _ in range(3):
        optimizer.step([np.array([[0.0, 0.0], [0.0, 1.0]], dtype), np.zeros(2, dtype)])
    assert np.isfinite(p).all()
    assert np.isfinite(q).all()


def test_coefficients_beyond_float32_are_refused() -> None:
    p, q = np.ones(3, np.float32), np.ones(3)
    wide = fm.SGD([{"params": [q], "lr": 1e39}, {"params": [p]}], lr=0.5)
    assert wide.step([np.full(3, 1e-39), np.ones(3, np.float32)])
    np.testing.assert_allclose(q, 0, atol=1e-15)
    np.testing.assert_allclose(p, 0.5)
    for hyper in ({"lr": 1e39}, {"lr": 1e39, "momentum": 0.9}, {"weight_decay": 1e39}):
        optimizer = fm.SGD([q, p], **hyper)
        before = q.copy(), p.copy()
        with pytest.raises(ValueError, match=r"1e\+39.*float32.*params\[1\]"):
            optimizer.step([np.ones(3), np.ones(3, np.float32)])
        np.testing.assert_array_equal(before[0], q)
        np.testing.assert_array_equal(before[1], p)
        assert optimizer.iterations == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_centered_rmsprop_of_steady_gradients(dtype: Any, momentum: float) -> None:
    """The mean square less the squared mean is 0, and rounding may leave it below."""
    rng = np.random.default_rng(0)
    p = np.zeros(1000, dtype)
    g = rng.standard_normal(1000).astype(dtype)
    optimizer = fm.RMSprop([p], lr=1e-3, centered=True, momentum=momentum)
    for _ in range(3000):
        optimizer.step([g])
    assert np.isfinite(p).all()
