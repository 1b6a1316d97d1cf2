"""Adaptive restart of the velocity: when, of what, and what it gains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmom as fm


def steps_needed(**hyper: Any) -> int:
    """Steps to within 1e-8 of the optimum of a quadratic with condition number 1,000."""
    curvature, p = np.geomspace(1, 1000, 30), np.ones(30)
    optimizer = fm.SGD([p], lr=1e-3, momentum=0.999, nesterov=True, **hyper)
    while np.linalg.norm(p) > 1e-8 and optimizer.iterations < 20_000:
        optimizer.step([curvature * p])
    return optimizer.iterations


def test_too_much_momentum_costs_less() -> None:
    """Where it is far above the best, restarts make the oscillations end."""
    assert steps_needed(restart=True) < steps_needed() / 5


@pytest.mark.parametrize("convention", ["torch", "keras", "ema"])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_after_a_step_along_which_the_gradient_rises(convention: Any, maximize: bool,
                                                     dtype: Any) -> None:
    p, q = np.zeros(5000, dtype), np.zeros(3, dtype)
    optimizer = fm.SGD([p, q], lr=0.1, momentum=0.9, convention=convention, maximize=maximize,
                       restart=True)
    g = np.ones(5000, dtype)
    optimizer.step([g, np.ones(3, dtype)])
    optimizer.step([-0.5 * g, np.full(3, 100, dtype)])      # q's own gradient goes on
    assert all(state["velocity"].all() for state in optimizer.state)
    optimizer.step([-0.1 * g, np.zeros(3, dtype)])
    assert not any(state["velocity"].any() for state in optimizer.state)


def test_groups_restart_alone() -> None:
    p, q, r = np.zeros(3), np.zeros(3), np.zeros(3)
    optimizer = fm.SGD([{"params": [p], "restart": True}, {"params": [q]},
                        {"params": [r], "restart": True}], momentum=0.9)
    optimizer.step([np.ones(3)] * 3)
    optimizer.step([np.full(3, -0.1), np.full(3, -0.1), None])
    assert [bool(state["velocity"].any()) for state in optimizer.state] == [False, True, True]
    optimizer.param_groups[2]["restart"] = False
    optimizer.step([None, None, np.full(3, -0.1)])
    assert optimizer.state[2]["velocity"].any()


@pytest.mark.parametrize("hyper", [{"state_dtype": "bfloat16"}, {"state_dtype": "int8"},
                                   {"clip_value": 0.5, "grad_scale": 4.0}], ids=str)
def test_with_other_options(hyper: Any) -> None:
    if "state_dtype" in hyper:
        pytest.importorskip("ml_dtypes")
    p = np.zeros(1000, np.float32)
    optimizer = fm.SGD([p], momentum=0.9, restart=True, **hyper)
    optimizer.step([np.ones(1000, np.float32)])
    assert optimizer.state[0]["velocity"].all()
    optimizer.step([np.full(1000, -0.1, np.float32)])
    assert not optimizer.state[0]["velocity"].any()


def test_refused() -> None:
    with pytest.raises(ValueError, match="restart=True needs momentum > 0"):
        fm.SGD(restart=True)
    optimizer = fm.SGD([np.zeros((3, 2))], momentum=0.9, restart=True)
    grad = fm.RowGrad(np.array([1]), np.ones((1, 2)))
    with pytest.raises(TypeError, match="and restart=True sets the velocities of all rows to 0"):
        optimizer.step([grad])
    optimizer.restart = False
    assert optimizer.step([grad])
    optimizer.restart = True
    with pytest.raises(ValueError, match="restart=True needs momentum > 0"):
        optimizer.momentum = 0.0
    optimizer._is_part = True
    with pytest.raises(ValueError, match="divided among ranks"):
        optimizer.momentum = 0.5
