"""Groups that come later, and hyper-parameters of a group alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm


def fresh(seed: int, *shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_a_group_that_comes_later(case: Any) -> None:
    """It steps as if it had been skipped before; the others as if nothing had happened."""
    cls, hyper = case
    early, late = [(4,), (3, 5)], [(2, 2), (6,)]
    one, expected = fresh(0, *early, *late), fresh(0, *early, *late)
    optimizer = cls(one[:2], **{"lr": 0.02, **hyper})
    reference = cls([{"params": expected[:2]}, {"params": expected[2:], "lr": 0.5}],
                    **{"lr": 0.02, **hyper})
    for step in range(3):
        grads = fresh(step, *early)
        optimizer.step(grads)
        reference.step([*grads, None, None])
    velocity = next(iter(optimizer.state[0].values())).copy()
    optimizer.add_param_group({"params": one[2:], "lr": 0.5})
    assert optimizer.iterations == 3
    np.testing.assert_array_equal(next(iter(optimizer.state[0].values())), velocity)
    for step in range(3, 6):
        grads = fresh(step, *early, *late)
        assert optimizer.step(grads)
        reference.step(grads)
    assert [p.tobytes() for p in one] == [p.tobytes() for p in expected]
    assert repr(optimizer.state_dict()) == repr(reference.state_dict())


def test_what_is_not_given_is_what_the_constructor_got() -> None:
    optimizer = fm.SGD(fresh(0, (3,)), lr=0.25, momentum=0.5)
    optimizer.lr = 0.125
    optimizer.add_param_group({"params": fresh(1, (3,)), "momentum": 0.75})
    assert [(g["lr"], g["momentum"]) for g in optimizer.param_groups] == [(0.125, 0.5),
                                                                         (0.25, 0.75)]


def test_other_settings_stay() -> None:
    p, q = np.zeros(3), np.zeros(3)
    optimizer = fm.SGD([p], lr=1.0, clip_norm=1.0, nonfinite="skip", grad_scale=2.0)
    optimizer.add_param_group({"params": [q]})
    assert optimizer.step([np.full(3, 100.0), np.full(3, 100.0)])
    assert np.linalg.norm([p, q]) == pytest.approx(1.0)
    assert not optimizer.step([np.full(3, np.nan), np.ones(3)])


SHARED = np.zeros(4)
WRONG: list[tuple[Any, type[Exception], str]] = [
    ([np.ones(2)], TypeError, "group must be a group with a list of arrays under 'params'"),
    ({"lr": 0.1}, TypeError, "group must be a group with a list of arrays under 'params'"),
    ({"params": np.ones(2)}, TypeError, "group must be a group with a list of arrays"),
    ({"params": []}, ValueError, "params of the group is empty"),
    ({"params": [np.ones(2)], "learning_rate": 1}, TypeError, "did you mean 'lr'?"),
    ({"params": [np.ones(2)], "clip_norm": 1.0}, TypeError, "no argument 'clip_norm'"),
    ({"params": [np.ones(2)], "lr": -1}, ValueError, "lr must be a finite number >= 0"),
    ({"params": [np.ones(2), [1.0]]}, TypeError, r"params\[2\] must be a NumPy array"),
    ({"params": [np.ones(2, int)]}, TypeError, r"params\[1\] has dtype int64"),
    ({"params": [SHARED[1:]]}, ValueError, "overlaps"),
]


@pytest.mark.parametrize(("group", "error", "message"), WRONG)
def test_a_wrong_group_changes_nothing(group: Any, error: type[Exception], message: str) -> None:
    optimizer = fm.Adam([SHARED])
    optimizer.step([np.ones(4)])
    before, p = repr(optimizer.state_dict()), SHARED.copy()
    with pytest.raises(error, match=message):
        optimizer.add_param_group(group)
    assert repr(optimizer.state_dict()) == before
    assert len(optimizer.param_groups) == 1
    assert optimizer.step([np.zeros(4)])
    SHARED[...] = p


def test_a_group_needs_others_and_no_averages() -> None:
    group = {"params": [np.ones(2)]}
    with pytest.raises(RuntimeError, match="no parameters yet"):
        fm.SGD().add_param_group(group)
    params = [np.ones(3)]
    optimizer = fm.SGD(params)
    ema = fm.EMA(params, optimizer=optimizer)
    with pytest.raises(RuntimeError, match="averaged; add groups before"):
        optimizer.add_param_group(group)
    assert optimizer.step([np.ones(3)])
    assert ema.averages[0][0] != 1


def test_accumulation_notices_new_parameters() -> None:
    optimizer = fm.SGD([np.zeros(3)])
    sums = fm.GradientAccumulation(optimizer, 2)
    optimizer.add_param_group({"params": [np.zeros(2)]})
    with pytest.raises(RuntimeError, match="make another GradientAccumulation"):
        sums.step([np.ones(3), np.ones(2)])


def test_maximize_of_a_group() -> None:
    """Along the gradient here, against it there; with momentum and limits."""
    params = [np.zeros(3) for _ in range(4)]
    optimizer = fm.SGD([{"params": params[:2]}, {"params": params[2:], "maximize": True}], lr=0.5,
                       momentum=0.5, clip_value=2.0)
    for g in (1.0, 3.0, -1.0):
        optimizer.step([np.full(3, g) for _ in params])
    assert (params[0] == params[1]).all()
    for p in params[2:]:
        np.testing.assert_array_equal(p, -params[0])
    optimizer.param_groups[1]["maximize"] = False
    optimizer.param_groups[0]["maximize"] = True
    before = [p.copy() for p in params]
    optimizer.step([None, np.ones(3), None, np.ones(3)])
    assert (params[1] > before[1] - 1).all()
    with pytest.raises(AttributeError, match="there are 2 groups"):
        _ = optimizer.maximize
    one = fm.SGD([params[0]], maximize=True)
    assert one.maximize
