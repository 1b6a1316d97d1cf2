"""NovoGrad's norms: what they follow, and gradients at the ends of the range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmom as fm


def test_state_is_one_array_and_one_number() -> None:
    optimizer = fm.NovoGrad([np.ones((3, 4), np.float32), np.ones(5)])
    optimizer.step([np.full((3, 4), 2.0, np.float32), None])
    first, second = optimizer.state
    assert {name: array.shape for name, array in first.items()} == {"mean": (3, 4), "norm": ()}
    assert first["norm"] == np.sqrt(np.float32(48))
    assert second["norm"] == 0              # it had no gradient, and its first step is to come
    optimizer.step([None, np.ones(5)])
    assert second["norm"] == np.sqrt(5)


@pytest.mark.parametrize(("option", "norm"), [
    ({}, 5.0), ({"grad_scale": 2.0}, 2.5), ({"clip_norm": 1.0}, 1.0), ({"maximize": True}, 5.0),
    ({"clip_value": 2.0}, np.sqrt(8)), ({"clip_value": 1.0, "grad_scale": 2.0}, np.sqrt(2)),
    ({"clip_norm_per_tensor": 10.0}, 5.0)], ids=str)
def test_norm_is_of_the_clipped_gradient(option: dict[str, Any], norm: float) -> None:
    p = np.zeros(2)
    optimizer = fm.NovoGrad([p], lr=1.0, eps=1e-30, **option)
    optimizer.step([np.array([3.0, -4.0])])
    assert optimizer.state[0]["norm"] == pytest.approx(norm, rel=1e-15)
    assert np.linalg.norm(p) == pytest.approx(1.0, rel=1e-15)
    assert (p[0] < 0) != bool(option.get("maximize"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.9, 1e-30, 0.0])
def test_gradients_of_any_size(dtype: Any, share: float) -> None:
    """The norm may be beyond the dtype, and the gradient zero."""
    p = np.zeros(100, dtype)
    optimizer = fm.NovoGrad([p], lr=1.0, eps=1e-30)
    g = np.full(100, share * np.finfo(dtype).max, dtype)
    for _ in range(3):
        optimizer.step([g])
    assert np.isfinite(p).all()
    assert np.isfinite(optimizer.state[0]["norm"])
    if share == 1e-30:
        np.testing.assert_allclose(p, -0.1 * (1 + 1.9 + 2.71), rtol=1e-6)


def test_nan_stays_in_its_tensor() -> None:
    params = [np.ones(3), np.ones(3)]
    optimizer = fm.NovoGrad(params)
    optimizer.step([np.array([1.0, np.nan, 1.0]), np.ones(3)])
    assert np.isnan(params[0]).all()
    assert np.isfinite(params[1]).all()


def test_rejected_step_changes_nothing() -> None:
    p = np.ones(3, np.float32)
    optimizer = fm.NovoGrad([p])
    optimizer.step([np.ones(3, np.float32)])
    before = repr((p, optimizer.state_dict()["state"]))
    optimizer.lr = 1e39
    with pytest.raises(ValueError, match="lr=1e\\+39"):
        optimizer.step([np.full(3, 2.0, np.float32)])
    optimizer.lr, optimizer.nonfinite = 1.0, "skip"
    assert not optimizer.step([np.full(3, np.nan, np.float32)])
    assert not optimizer.step([None])
    assert repr((p, optimizer.state_dict()["state"])) == before
