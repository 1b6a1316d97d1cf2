"""State dicts: what goes on after loading goes on as if nothing had happened; bad ones are told."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm
from fastmom.optim.schedules import Linear, Piecewise, ReduceOnPlateau

SHAPES = [(5,), (3, 4), ()]


def arrays(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    dtypes = [np.float32, np.float64, np.float32]
    return [np.asarray(rng.standard_normal(s), t) for s, t in zip(SHAPES, dtypes, strict=True)]


def go_on(optimizer: fm.Optimizer, begin: int, end: int) -> None:
    for step in range(begin, end):
        grads: list[Any] = arrays(step)
        if step % 3 == 0:
            grads[1] = None
        optimizer.step(grads)


def params_of(optimizer: fm.Optimizer) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def text(optimizer: fm.Optimizer) -> str:
    """All that loading may change."""
    return repr((optimizer.state_dict(), [p.tolist() for p in params_of(optimizer)]))


@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_goes_on_as_before(case: Any) -> None:
    """With other hyper-parameters before; through JSON; into the existing buffers."""
    cls, hyper = case
    one = cls(arrays(0), **{"lr": 0.02, "nonfinite": "skip", **hyper})
    go_on(one, 0, 5)
    state = one.state_dict()
    before = copy.deepcopy(state)
    other = cls([p.copy() for p in params_of(one)])
    other.step(arrays(99))
    for p, q in zip(params_of(other), params_of(one), strict=True):
        p[...] = q
    buffers = [b for own in other.state for b in own.values()]
    stored = state.pop("state")
    other.load_state_dict({**json.loads(json.dumps(state)), "state": stored})
    assert all(a.ctypes.data == b.ctypes.data for a, b in
               zip(buffers, (b for own in other.state for b in own.values()), strict=True))
    assert text(other) == text(one)
    go_on(one, 5, 12)
    go_on(other, 5, 12)
    assert text(other) == text(one)
    assert repr({**state, "state": stored}) == repr({**{k: before[k] for k in state},
                                                     "state": before["state"]})     # copies


def test_schedules_and_groups() -> None:
    momentum, lr = Linear(0.5, 0.9, steps=8), Piecewise([(0, 0.1), (4, Linear(0.1, 0.0, 9))])

    def make(**shared: Any) -> fm.SGD:
        params = arrays(0)
        return fm.SGD([{"params": params[:1]}, {"params": params[1:], **shared}])
    one, other = make(momentum=momentum, lr=lr), make()
    go_on(one, 0, 6)
    other.load_state_dict(one.state_dict())
    assert other.param_groups[1]["lr"] == lr
    for p, q in zip(params_of(other), params_of(one), strict=True):
        p[...] = q
    go_on(one, 6, 12)
    go_on(other, 6, 12)
    assert text(other) == text(one)


@pytest.mark.parametrize("wrap", [lambda lr: lr, lambda lr: Piecewise([(0, 0.5), (1, lr)])],
                         ids=["itself", "inside another"])
def test_plateau_stays_the_same_object(wrap: Callable[[Any], Any]) -> None:
    stored = ReduceOnPlateau(0.5, factor=0.5, patience=0)
    one = fm.SGD(arrays(0), lr=wrap(stored))
    go_on(one, 0, 2)
    stored.observe(1.0)
    assert stored.observe(1.0)
    mine = ReduceOnPlateau(0.25, factor=0.1)
    other = fm.SGD(arrays(0), lr=wrap(mine))
    state = one.state_dict()
    other.load_state_dict(state)
    assert mine == stored
    assert mine is not stored
    assert mine.observe(1.0)            # the optimizer sees it ...
    assert other.lr == wrap(mine)
    assert other.lr(2) == 0.125
    assert stored(2) == 0.25            # ... and what was stored does not
    assert state == {**one.state_dict(), "state": state["state"]}


def test_shared_plateau() -> None:
    """One object in two groups: loaded where it was shared, refused where the states differ."""
    def make(first: Any, second: Any) -> fm.SGD:
        params = arrays(0)
        return fm.SGD([{"params": params[:1], "lr": first}, {"params": params[1:], "lr": second}])
    lr, mine = ReduceOnPlateau(0.5), ReduceOnPlateau(0.5)
    lr.observe(0.25)
    other = make(mine, mine)
    other.load_state_dict(make(lr, lr).state_dict())
    assert mine == lr
    before = text(other)
    with pytest.raises(ValueError, match="in use twice"):
        other.load_state_dict(make(lr, ReduceOnPlateau(0.5)).state_dict())
    assert text(other) == before


def halves(step: int) -> float:
    return 0.5 ** step


def test_functions_must_be_there_already() -> None:
    one = fm.SGD(arrays(0), lr=halves, clip_norm=lambda step: 1.0 + step)
    state = one.state_dict()
    assert state["groups"][0]["lr"] == {"callable": "halves"}
    other = fm.SGD(arrays(0), clip_norm=2.0, lr=halves)
    before = text(other)
    with pytest.raises(ValueError, match=r"options: clip_norm was the function .*<lambda>"):
        other.load_state_dict(state)
    assert text(other) == before
    other.clip_norm = halves
    other.load_state_dict(state)
    assert other.lr is other.clip_norm is halves


def test_untouched_buffers_stay_so() -> None:
    """-0.0 is not blank, and what was not blank becomes so."""
    one, other = (fm.Adam([np.ones(3)]) for _ in range(2))
    one.state[0]["mean"][...] = -0.0
    other.step([np.ones(3)])
    other.load_state_dict(one.state_dict())
    assert np.signbit(other.state[0]["mean"]).all()
    assert not other.state[0]["square"].any()


def spoiled(*path: Any, **value: Any) -> Callable[[Any], None]:
    """Set the entry at a path, or without a value delete it."""
    def spoil(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        if value:
            state[path[-1]] = value["to"]
        else:
            del state[path[-1]]
    return spoil


BAD: list[tuple[Callable[[Any], None], type[Exception], str]] = [
    (spoiled("steps"), ValueError, "the state dict has no 'steps'"),
    (spoiled("more", to=1), ValueError, "the state dict has an unknown 'more'"),
    (spoiled("format", to=3), ValueError, "format is 3, expected 2"),
    (spoiled("format", to=True), ValueError, "format is True, expected 2"),
    (spoiled("optimizer", to="QHM"), ValueError, "optimizer is 'QHM', expected 'SGD'"),
    (spoiled("iterations", to=-1), ValueError, "iterations must be an integer >= 0"),
    (spoiled("iterations", to=2.0), TypeError, "iterations must be"),
    (spoiled("iterations", to=2 ** 63), ValueError, "iterations must be less than"),
    (spoiled("iterations", to=1), ValueError, "steps[0] is 2, more than iterations=1"),
    (spoiled("steps", to=[1]), ValueError, "steps has 1 entries, expected 3"),
    (spoiled("steps", to=2), TypeError, "steps must be a list"),
    (spoiled("steps", 1, to=None), TypeError, "steps[1] must be an integer"),
    (spoiled("options", to=None), TypeError, "options must be a dict, not NoneType"),
    (spoiled("options", "clip_norm"), ValueError, "options has no 'clip_norm'"),
    (spoiled("options", "clip_norm", to=-1), ValueError, "options: clip_norm must be"),
    (spoiled("groups", 0, "maximize", to=1), TypeError, "groups[0]: maximize must be True or"),
    (spoiled("groups", to=[]), ValueError, "groups has 0 entries, expected 2"),
    (spoiled("groups", 1, to=[]), TypeError, "groups[1] must be a dict"),
    (spoiled("groups", 1, "lr"), ValueError, "groups[1] has no 'lr'"),
    (spoiled("groups", 1, "beta", to=1), ValueError, "groups[1] has an unknown 'beta'"),
    (spoiled("groups", 1, "lr", to="0.1"), TypeError, "groups[1]: lr must be"),
    (spoiled("groups", 1, "nesterov", to=True), ValueError, "groups[1]: dampening=0.5 needs"),
    (spoiled("groups", 1, "lr", to={"schedule": "No"}), ValueError, "groups[1]: data['schedule']"),
    (spoiled("groups", 1, "lr", to={"callable": "f"}), ValueError, "lr was the function f"),
    (spoiled("groups", 1, "nesterov", to={"schedule": "Constant", "value": 1.0}), TypeError,
     "groups[1]: nesterov must be True or False"),
    (spoiled("groups", 1, "params", to=[1]), ValueError, "groups[1]['params'] is [1], expected"),
    (spoiled("state", 2), ValueError, "state has 2 entries, expected 3"),
    (spoiled("state", 2, to=None), TypeError, "state[2] must be a dict"),
    (spoiled("state", 2, "velocity"), ValueError, "state[2] has no 'velocity'"),
    (spoiled("state", 2, "mean", to=1), ValueError, "state[2] has an unknown 'mean'"),
    (spoiled("state", 2, "velocity", to=1.0), TypeError,
     "state[2]['velocity'] must be a NumPy array, not float"),
    (spoiled("state", 2, "velocity", to=np.float64(1)), TypeError, "must be a NumPy array"),
    (spoiled("state", 2, "velocity", to=np.ones(())), TypeError,
     "state[2]['velocity'] has dtype float64, expected float32"),
    (spoiled("state", 1, "velocity", to=np.ones((4, 3))), ValueError,
     "state[1]['velocity'] has shape (4, 3), expected (3, 4)"),
]


@pytest.mark.parametrize(("spoil", "error", "message"), BAD, ids=[row[2] for row in BAD])
def test_bad_state_changes_nothing(spoil: Any, error: type[Exception], message: str) -> None:
    def make(lr: Any) -> fm.SGD:
        params = arrays(0)
        return fm.SGD([{"params": params[:2], "lr": lr}, {"params": params[2:]}], momentum=0.9,
                      dampening=0.5)
    one, other = make(ReduceOnPlateau(0.5)), make(ReduceOnPlateau(0.25))
    for step in range(2):
        one.step(arrays(step))
    state = one.state_dict()
    spoil(state)
    before = text(other)
    with pytest.raises(error, match=re.escape(message)):
        other.load_state_dict(state)
    assert text(other) == before
    other.load_state_dict(one.state_dict())
    assert text(other) != before


def test_rmsprop_of_the_first_format() -> None:
    """As the first version wrote it, which had no `nesterov` and no `eps_inside_root`."""
    params = [np.array([-1.83969284, 6.40300591]), np.array([2.1659699])]
    optimizer = fm.RMSprop(params, nesterov=True, eps_inside_root=True)
    optimizer.load_state_dict({
        "format": 1, "optimizer": "RMSprop", "iterations": 2, "steps": [2, 1],
        "options": {"clip_norm": None, "clip_norm_per_tensor": None, "clip_value": None,
                    "grad_scale": 1.0, "nonfinite": "ignore", "maximize": False},
        "groups": [{"lr": 0.5, "beta2": 0.99, "eps": 0.25, "momentum": 0.5, "centered": True,
                    "weight_decay": 0.0, "params": [0, 1]}],
        "state": [{"square": np.array([0.0124, 0.0496]),
                   "velocity": np.array([2.81814506, -4.35164391]),
                   "mean": np.array([0.0149, -0.0298])},
                  {"square": np.array([0.0025]), "velocity": np.array([1.66806021]),
                   "mean": np.array([0.005])}]})
    optimizer.step([np.array([1.0, 1.0]), np.array([1.0])])
    for p, expected in zip(params, [[-3.80308872, 6.47533724], [0.36270938]], strict=True):
        np.testing.assert_allclose(p, expected, rtol=1e-7)


def test_unbound() -> None:
    with pytest.raises(RuntimeError, match="has no parameters yet"):
        fm.SGD().state_dict()
    with pytest.raises(RuntimeError, match="has no parameters yet"):
        fm.SGD().load_state_dict({})
