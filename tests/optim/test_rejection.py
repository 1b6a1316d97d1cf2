"""Bad input raises an error that names it, and changes nothing: params, state and counters."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmom as fm

F = np.float32


def ones(*shape: int) -> Any:
    return np.ones(shape, F)


def read_only() -> Any:
    a = ones(3)
    a.flags.writeable = False
    return a


def misaligned() -> Any:
    return np.zeros(13, np.uint8)[1:].view(F)


PARAMS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("an array", lambda: ones(3), TypeError, "params must be a list"),
    ("a number", lambda: 3, TypeError, "params must be a list"),
    ("a generator", lambda: (ones(3) for _ in range(2)), TypeError, "params must be a list"),
    ("a string", lambda: "abc", TypeError, "params"),
    ("nothing", lambda: [], ValueError, "params is empty"),
    ("None inside", lambda: [ones(3), None], TypeError, "params[1]"),
    ("a list inside", lambda: [[1.0, 2.0]], TypeError, "params[0]"),
    ("a scalar inside", lambda: [F(1)], TypeError, "params[0]"),
    ("integers", lambda: [ones(3), np.ones(3, int)], TypeError, "params[1] has dtype int64"),
    ("quadruples", lambda: [np.ones(3, np.longdouble)], TypeError, "params[0] has dtype float128"),
    ("complex", lambda: [np.ones(3, np.complex64)], TypeError, "params[0] has dtype complex64"),
    ("objects", lambda: [np.ones(3, object)], TypeError, "params[0] has dtype object"),
    ("swapped bytes", lambda: [np.ones(3, ">f4")], TypeError, "params[0] has dtype >f4"),
    ("a mask", lambda: [np.ma.masked_array(ones(3), [0, 1, 0])], TypeError, "params[0]"),
    ("read-only", lambda: [ones(3), read_only()], ValueError, "params[1] is read-only"),
    ("strided", lambda: [ones(6)[::2]], ValueError, "params[0] is not C-contiguous"),
    ("reversed", lambda: [ones(6)[::-1]], ValueError, "params[0] is not C-contiguous"),
    ("Fortran order", lambda: [np.asfortranarray(ones(2, 3))], ValueError, "params[0] is not C-"),
    ("broadcast", lambda: [np.broadcast_to(ones(1), (3,))], ValueError, "params[0]"),
    ("misaligned", lambda: [misaligned()], ValueError, "params[0] is not aligned"),
    ("twice the same", lambda: 2 * [ones(3)], ValueError, "params[1] overlaps params[0]"),
    ("overlapping views", lambda: [(a := ones(6))[:4], a[3:]], ValueError, "params[1] overlaps"),
    ("a group without params", lambda: [{"lr": 0.1}], TypeError, "params[0]"),
    ("groups and arrays", lambda: [{"params": [ones(3)]}, ones(3)], TypeError, "params[1]"),
    ("a wrong name in a group", lambda: [{"params": [ones(3)], "learning_rate": 1.0}], TypeError,
     "did you mean 'lr'?"),
    ("a wrong value in a group", lambda: [{"params": [ones(3)], "momentum": 2.0}], ValueError,
     "momentum must be"),
    ("an array in two groups", lambda: [{"params": [a := ones(3)]}, {"params": [a]}], ValueError,
     "params[1] overlaps params[0]"),
    ("only empty groups", lambda: [{"params": []}], ValueError, "params is empty"),
]


@pytest.mark.parametrize(("make", "error", "message"), [row[1:] for row in PARAMS],
                         ids=[row[0] for row in PARAMS])
def test_params(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        fm.SGD(make())


HYPER: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"lr": -0.1}, ValueError, "lr must be a finite number >= 0, not -0.1"),
    ({"lr": float("nan")}, ValueError, "lr must be"),
    ({"lr": float("inf")}, ValueError, "lr must be"),
    ({"lr": "0.1"}, TypeError, "lr must be"),
    ({"lr": None}, TypeError, "lr must be"),
    ({"lr": True}, TypeError, "lr must be"),
    ({"lr": np.ones(1)}, TypeError, "lr must be"),
    ({"lr": 1j}, TypeError, "lr must be"),
    ({"lr": 10**400}, ValueError, "lr must be"),
    ({"momentum": -0.1}, ValueError, "momentum must be a number from 0 to 1, not -0.1"),
    ({"momentum": 1.0001}, ValueError, "momentum must be"),
    ({"momentum": 0.9, "dampening": 2}, ValueError, "dampening must be"),
    ({"dampening": 0.5}, ValueError, "dampening=0.5 needs momentum > 0"),
    ({"momentum": 0.9, "dampening": 0.5, "nesterov": True}, ValueError, "needs nesterov=False"),
    ({"momentum": 0.9, "dampening": 0.5, "convention": "keras"}, ValueError, "convention='torch'"),
    ({"nesterov": 1}, TypeError, "nesterov must be True or False, not 1"),
    ({"nesterov": "no"}, TypeError, "nesterov must be"),
    ({"weight_decay": -1}, ValueError, "weight_decay must be"),
    ({"decay": -1e-6}, ValueError, "decay must be"),
    ({"convention": "tf"}, ValueError, "convention must be one of 'torch', 'keras', 'ema'"),
    ({"convention": 1}, TypeError, "convention must be"),
    ({"clip_norm": 0}, ValueError, "clip_norm must be a finite number > 0"),
    ({"clip_norm": -1}, ValueError, "clip_norm must be"),
    ({"clip_norm": "1"}, TypeError, "clip_norm must be"),
    ({"clip_norm_per_tensor": 0}, ValueError, "clip_norm_per_tensor must be"),
    ({"clip_norm": 1, "clip_norm_per_tensor": 1}, ValueError, "give one of them"),
    ({"clip_value": float("nan")}, ValueError, "clip_value must be"),
    ({"grad_scale": 0}, ValueError, "grad_scale must be"),
    ({"nonfinite": "warn"}, ValueError, "nonfinite must be one of"),
    ({"maximize": 0}, TypeError, "maximize must be"),
    ({"learning_rate": 0.1}, TypeError, "did you mean 'lr'?"),
    ({"momentun": 0.1}, TypeError, "did you mean 'momentum'?"),
    ({"use_nesterov": True}, TypeError, "did you mean 'nesterov'?"),
    ({"clipvalue": 1.0}, TypeError, "did you mean 'clip_value'?"),
    ({"zzz": 1}, TypeError, "no argument 'zzz'; allowed: clip_norm"),
]


@pytest.mark.parametrize(("hyper", "error", "message"), HYPER, ids=[str(r[0]) for r in HYPER])
def test_hyper_parameters(hyper: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        fm.SGD([ones(3)], **hyper)


ASSIGNABLE = [row for row in HYPER if len(row[0]) == 1 and hasattr(fm.SGD, next(iter(row[0])))]


@pytest.mark.parametrize(("hyper", "error", "message"), ASSIGNABLE, ids=str)
def test_assignment(hyper: dict[str, Any], error: type[Exception], message: str) -> None:
    """Assigning checks as the constructor does, and a rejected value leaves the old one."""
    optimizer = fm.SGD([ones(3)])
    name, value = next(iter(hyper.items()))
    before = repr(optimizer), getattr(optimizer, name)
    with pytest.raises(error, match=re.escape(message)):
        setattr(optimizer, name, value)
    assert (repr(optimizer), getattr(optimizer, name)) == before


def test_group_mapping_refuses_what_it_cannot_do() -> None:
    group = fm.SGD([ones(3)]).param_groups[0]
    with pytest.raises(TypeError, match="did you mean 'lr'"):
        group["learning_rate"] = 0.1
    with pytest.raises(TypeError, match="cannot be replaced"):
        group["params"] = []
    with pytest.raises(TypeError, match="cannot be deleted"):
        del group["lr"]


# Gradients: from an optimizer of shapes (3,), (2, 3), that has stepped once
GRADS: list[tuple[str, Callable[[list[Any], Any], Any], type[Exception], str]] = [
    ("None", lambda g, o: None, TypeError, "grads must be a list"),
    ("an array", lambda g, o: g[0], TypeError, "grads must be a list"),
    ("a dict", lambda g, o: dict(enumerate(g)), TypeError, "grads must be a list"),
    ("a generator", lambda g, o: iter(g), TypeError, "grads must be a list"),
    ("too few", lambda g, o: g[:1], ValueError, "grads has 1 entries, expected 2"),
    ("too many", lambda g, o: [*g, g[0]], ValueError, "grads has 3 entries, expected 2"),
    ("empty", lambda g, o: [], ValueError, "grads has 0 entries"),
    ("swapped", lambda g, o: g[::-1], ValueError, "grads[0] has shape (2, 3), expected (3,)"),
    ("a list inside", lambda g, o: [[1, 2, 3], g[1]], TypeError, "grads[0] must be a NumPy array"),
    ("a number inside", lambda g, o: [g[0], 0.5], TypeError, "grads[1] must be a NumPy array"),
    ("double", lambda g, o: [g[0], g[1].astype(float)], TypeError, "grads[1] has dtype float64"),
    ("integers", lambda g, o: [g[0].astype(int), g[1]], TypeError, "grads[0] has dtype int64"),
    ("swapped bytes", lambda g, o: [g[0].astype(">f4"), g[1]], TypeError, "grads[0] has dtype >f4"),
    ("flat", lambda g, o: [g[0], g[1].ravel()], ValueError, "grads[1] has shape (6,)"),
    ("an extra axis", lambda g, o: [g[0][None], g[1]], ValueError, "grads[0] has shape (1, 3)"),
    ("broadcastable", lambda g, o: [ones(1), g[1]], ValueError, "grads[0] has shape (1,)"),
    ("transposed", lambda g, o: [g[0], ones(3, 2).T], ValueError, "grads[1] is not C-contiguous"),
    ("strided", lambda g, o: [ones(6)[::2], g[1]], ValueError, "grads[0] is not C-contiguous"),
    ("misaligned", lambda g, o: [misaligned(), g[1]], ValueError, "grads[0] is not aligned"),
    ("a mask", lambda g, o: [np.ma.masked_array(g[0], [1, 0, 0]), g[1]], TypeError, "grads[0]"),
    ("its own params", lambda g, o: [o.param_groups[0]["params"][0], g[1]], ValueError,
     "grads[0] overlaps params[0]"),
    ("another's params", lambda g, o: [o.param_groups[0]["params"][1][0], g[1]], ValueError,
     "grads[0] overlaps params[1]"),
    ("the velocity", lambda g, o: [g[0], o.state[1]["velocity"]], ValueError,
     "grads[1] overlaps state[1]"),
    ("not finite", lambda g, o: [g[0], np.full((2, 3), np.nan, F)], FloatingPointError,
     "grads[1] is nan at index (0, 0)"),
    ("infinite", lambda g, o: [np.array([1, -np.inf, 1], F), g[1]], FloatingPointError,
     "grads[0] is -inf at index (1,)"),
]


@pytest.mark.parametrize("dtype", [np.float32])
@pytest.mark.parametrize(("spoil", "error", "message"), [row[1:] for row in GRADS],
                         ids=[row[0] for row in GRADS])
def test_grads(spoil: Callable[[list[Any], Any], Any], error: type[Exception], message: str,
               dtype: Any) -> None:
    params = [ones(3), ones(2, 3)]
    optimizer = fm.SGD(params, momentum=0.9, nonfinite="raise")
    grads = [ones(3), ones(2, 3)]
    optimizer.step(grads)
    bad = spoil(grads, optimizer)
    before = snapshot(optimizer)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.step(bad)
    assert snapshot(optimizer) == before
    assert optimizer.step(grads)
    assert snapshot(optimizer) != before


def snapshot(optimizer: fm.Optimizer) -> tuple[Any, ...]:
    """All that a step may change, as bytes."""
    assert optimizer._engine is not None
    arrays = [p for group in optimizer.param_groups for p in group["params"]]
    arrays += [v for s in optimizer.state for v in s.values()]
    return (*(a.tobytes() for a in arrays), optimizer.iterations,
            optimizer._engine.steps.tobytes())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_skipped_step_changes_nothing(bad: float, dtype: Any) -> None:
    optimizer = fm.SGD([np.ones(5000, dtype)], momentum=0.9, nonfinite="skip")
    grad = np.ones(5000, dtype)
    assert optimizer.step([grad])
    before = snapshot(optimizer)
    grad[4999] = bad
    assert not optimizer.step([grad])
    assert snapshot(optimizer) == before
    grad[4999] = 1
    assert optimizer.step([grad])


def test_no_gradient_at_all_is_no_step() -> None:
    optimizer = fm.SGD([ones(3), ones(2)], momentum=0.9)
    before = snapshot(optimizer)
    assert not optimizer.step([None, None])
    assert snapshot(optimizer) == before


def test_huge_float64_gradients_are_finite() -> None:
    """Their squares overflow; the norm must not."""
    p = np.zeros(2)
    optimizer = fm.SGD([p], lr=1.0, clip_norm=5.0, nonfinite="raise")
    assert optimizer.step([np.array([3e200, 4e200])])
    np.testing.assert_allclose(p, [-3, -4], rtol=1e-15)
    assert optimizer.grad_norm == pytest.approx(5e200)


def test_unbound_and_bound_twice() -> None:
    optimizer = fm.SGD(momentum=0.9)
    with pytest.raises(RuntimeError, match="no parameters yet"):
        optimizer.step([])
    optimizer.bind([ones(3)])
    with pytest.raises(RuntimeError, match="bound to its parameters already"):
        optimizer.bind([ones(3)])


def test_several_groups_have_no_single_value() -> None:
    optimizer = fm.SGD([{"params": [ones(3)]}, {"params": [ones(3)], "lr": 0.5}])
    with pytest.raises(AttributeError, match=r"use param_groups\[i\]\['lr'\]"):
        _ = optimizer.lr
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.5]


def test_momentum_of_one_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmom.optim.hyper.Momentum.warned", False)
    with pytest.warns(UserWarning, match="no friction"):
        fm.SGD([ones(3)], momentum=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.QHM([ones(3)], momentum=1.0)


def test_schedule_out_of_range_changes_nothing() -> None:
    optimizer = fm.SGD([ones(3)], lr=0.5, momentum=lambda step: 0.6 * step)
    assert optimizer.step([ones(3)])
    assert optimizer.step([ones(3)])
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"at step 2: momentum must be .* not 1.2"):
        optimizer.step([ones(3)])
    assert snapshot(optimizer) == before
    optimizer.momentum = 0.9
    assert optimizer.step([ones(3)])


def test_unknown_attribute() -> None:
    optimizer = fm.SGD([ones(3)])
    with pytest.raises(TypeError, match="did you mean 'lr'"):
        optimizer.learning_rate = 0.1       # type: ignore[attr-defined]


def test_fixed_once_bound() -> None:
    optimizer = fm.Adagrad(initial_accumulator=1.0)
    optimizer.initial_accumulator = 4.0
    optimizer.bind([ones(2)])
    assert optimizer.state[0]["square"].tolist() == [4, 4]
    with pytest.raises(ValueError, match="initial_accumulator takes effect when"):
        optimizer.initial_accumulator = 16.0
    with pytest.raises(TypeError, match="initial_accumulator must be"):
        fm.Adagrad([ones(2)], initial_accumulator=lambda step: 1.0)     # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"beta1 must be a number from 0 to below 1, not 1\.0"):
        fm.Adam([ones(2)], beta1=1.0)
