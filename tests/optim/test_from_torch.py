"""State dicts of PyTorch: training goes on here as it would there; what does not map is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim.state import from_torch


def text(optimizer: fm.Optimizer) -> str:
    return repr(optimizer.state_dict())


# Our class, torch's name and arguments
TORCH: list[tuple[type[fm.Optimizer], str, dict[str, Any]]] = [
    (fm.SGD, "SGD", {}),
    (fm.SGD, "SGD", {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    (fm.SGD, "SGD", {"momentum": 0.9, "nesterov": True}),
    (fm.SGD, "SGD", {"momentum": 0.9, "dampening": 0.5}),
    (fm.Adam, "Adam", {}),
    (fm.Adam, "Adam", {"betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}),
    (fm.Adam, "AdamW", {"weight_decay": 0.3}),
    (fm.AdamW, "AdamW", {"amsgrad": True}),
    (fm.AdamW, "Adam", {"weight_decay": 0.3}),
    (fm.NAdam, "NAdam", {"momentum_decay": 0.1, "weight_decay": 0.1}),
    (fm.NAdam, "NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    (fm.RMSprop, "RMSprop", {}),
    (fm.RMSprop, "RMSprop", {"centered": True, "momentum": 0.5, "alpha": 0.9, "eps": 1e-3}),
    (fm.Adagrad, "Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    (fm.Adadelta, "Adadelta", {"rho": 0.8, "weight_decay": 0.1}),
    (fm.Adamax, "Adamax", {"betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    (fm.RAdam, "RAdam", {}),
    (fm.RAdam, "RAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    (fm.Adafactor, "Adafactor", {}),
    (fm.Adafactor, "Adafactor", {"eps": (0.1, 0.2), "d": 1.5, "beta2_decay": -0.5,
                                 "weight_decay": 0.1, "maximize": True}),
]


@pytest.mark.parametrize(("cls", "name", "hyper"), TORCH, ids=[f"{r[1]}-{r[2]}" for r in TORCH])
def test_goes_on_where_torch_stopped(cls: Any, name: str, hyper: dict[str, Any],
                                     request: pytest.FixtureRequest) -> None:
    """20 steps there, then 20 steps in both, with parameters of different age."""
    torch = pytest.importorskip("torch")
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.float64)      # else NAdam's product of momenta is kept in float32
    start = [np.random.default_rng(i).standard_normal(shape)
             for i, shape in enumerate([(4,), (5,), (3, 2)])]
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in start]
    optimizer = getattr(torch.optim, name)([{"params": theirs[:2]},
                                            {"params": theirs[2:], "lr": 0.02}], lr=0.01, **hyper)
    torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)      # leaves its mark in the groups

    def step(t: int) -> list[Any]:
        grads = [np.random.default_rng([t, i]).standard_normal(a.shape)
                 for i, a in enumerate(start)]
        if t == 0:
            grads[1] = None
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else torch.from_numpy(g)
        optimizer.step()
        return grads
    for t in range(20):
        step(t)
    ours = [p.detach().numpy().copy() for p in theirs]
    mine = cls([{"params": ours[:2]}, {"params": ours[2:]}])
    from_torch(mine, optimizer.state_dict(), iterations=20 if name == "SGD" else None)
    assert mine.iterations == 20
    assert [group["lr"] for group in mine.param_groups] == [0.01, 0.02]
    for t in range(20, 40):
        mine.step(step(t))
    for p, q, a in zip(ours, theirs, start, strict=True):
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=0, atol=1e-12)
        assert (p != a).all()


def sgd_state(**changes: Any) -> dict[str, Any]:
    """As PyTorch's, after a step; with entries replaced, or left out where `...` is given."""
    group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False,
             "maximize": False, "foreach": None, "differentiable": False, "fused": None,
             "params": [0], **changes}
    return {"state": {0: {"momentum_buffer": np.ones(2)}},
            "param_groups": [{k: v for k, v in group.items() if v is not ...}]}


def nadam_state(**changes: Any) -> dict[str, Any]:
    entry = {"step": np.array(2.0), "exp_avg": np.ones(2), "exp_avg_sq": np.ones(2),
             "mu_product": np.array(0.2025), **changes}
    group = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0,
             "momentum_decay": 0.0, "decoupled_weight_decay": False, "params": [0]}
    return {"state": {0: {k: v for k, v in entry.items() if v is not ...}}, "param_groups": [group]}


def adam_group(**changes: Any) -> dict[str, Any]:
    return {"state": {}, "param_groups": [{**nadam_state()["param_groups"][0], **changes}]}


FOREIGN: list[tuple[Callable[[Any], fm.Optimizer], dict[str, Any], type[Exception], str]] = [
    (fm.QHM, sgd_state(), ValueError, "no PyTorch state can be imported into QHM"),
    (fm.SGD, {}, ValueError, "state must be the state_dict() of an optimizer of PyTorch"),
    (fm.SGD, {**sgd_state(), "param_groups": []}, ValueError, "must be a list of 1 groups"),
    (fm.SGD, {**sgd_state(), "param_groups": [0]}, TypeError, "param_groups[0] must be a dict"),
    (fm.SGD, sgd_state(momentum=...), ValueError, "has no 'momentum': is it of torch.optim.SGD?"),
    (fm.SGD, sgd_state(alpha=1), ValueError, "'alpha', which SGD has no counterpart of"),
    (fm.SGD, sgd_state(params=[1]), ValueError, "groups[0]['params'] is [1], expected [0]"),
    (fm.SGD, sgd_state(lr=-1.0), ValueError, "groups[0]: lr must be"),
    (fm.SGD, {**sgd_state(), "state": {1: {}}}, ValueError, "numbers of parameters below 1"),
    (fm.SGD, {**sgd_state(), "state": {0: 1}}, TypeError, "state[0] must be a dict"),
    (fm.SGD, {**sgd_state(), "state": {0: {"momentum_buffer": np.ones(3)}}}, ValueError,
     "state[0]['velocity'] has shape (3,), expected (2,)"),
    (fm.SGD, {**sgd_state(), "state": {0: {"z": 1}}}, ValueError, "state[0] has 'z', which SGD"),
    (lambda p: fm.SGD(p, convention="keras"), sgd_state(), ValueError,
     "computes as with convention='torch'"),
    (lambda p: fm.SGD(p, decay=0.5), sgd_state(), ValueError, "decay=0.5: torch.optim.SGD"),
    (fm.Adam, sgd_state(), ValueError, "is it of torch.optim.Adam?"),
    (fm.Adam, nadam_state(), ValueError, "param_groups[0] has no 'amsgrad'"),
    (fm.NAdam, adam_group(betas=0.9), ValueError, "param_groups[0]['betas'] must be 2 numbers"),
    (fm.NAdam, nadam_state(exp_avg=...), ValueError, "state[0] has no 'exp_avg'"),
    (fm.NAdam, nadam_state(step=...), TypeError, "state[0]['step'] must be an integer"),
    (fm.NAdam, nadam_state(step=1.5), TypeError, "state[0]['step'] must be an integer"),
    (fm.NAdam, nadam_state(mu_product=0.81), ValueError, "betas or momentum_decay have changed"),
    (fm.NAdam, nadam_state(exp_avg=np.ones(2, np.float32)), TypeError,
     "state[0]['mean'] has dtype float32, expected float64"),
]


@pytest.mark.parametrize(("make", "state", "error", "message"), FOREIGN,
                         ids=[row[3] for row in FOREIGN])
def test_what_does_not_map(make: Any, state: Any, error: type[Exception], message: str) -> None:
    optimizer = make([np.ones(2)])
    before = text(optimizer)
    with pytest.raises(error, match=re.escape(message)):
        from_torch(optimizer, state)
    assert text(optimizer) == before


def test_torch_groups_that_differ_in_maximize() -> None:
    groups = [sgd_state(params=[i], maximize=i == 1)["param_groups"][0] for i in range(2)]
    optimizer = fm.SGD([{"params": [np.ones(2)]}, {"params": [np.ones(2)]}])
    from_torch(optimizer, {"state": {}, "param_groups": groups})
    assert [group["maximize"] for group in optimizer.param_groups] == [False, True]


def test_muon() -> None:
    """Matrices alone, of PyTorch's layout; the buffer is the velocity."""
    torch = pytest.importorskip("torch")
    start, g = np.random.default_rng(0).standard_normal((2, 30, 20))
    theirs = torch.from_numpy(start.copy()).requires_grad_()
    other = torch.optim.Muon([theirs], lr=0.1, ns_steps=3, adjust_lr_fn="match_rms_adamw")
    theirs.grad = torch.from_numpy(g)
    for _ in range(3):
        other.step()
    with pytest.raises(ValueError, match=r"layout='in_out': torch\.optim\.Muon computes"):
        from_torch(fm.Muon([start]), other.state_dict())
    ours = theirs.detach().numpy().copy()
    optimizer = fm.Muon([ours], layout="out_in", adamw_lr=0.5)
    from_torch(optimizer, other.state_dict(), iterations=3)
    assert (optimizer.iterations, optimizer.ns_steps, optimizer.scaling, optimizer.adamw_lr) == (
        3, 3, "match_rms_adamw", 0.5)
    np.testing.assert_array_equal(optimizer.state[0]["velocity"],
                                  other.state[theirs]["momentum_buffer"].numpy())
    before = ours.copy()
    other.step()
    optimizer.step([g])
    moved, expected = ours - before, theirs.detach().numpy() - before
    assert np.linalg.norm(moved - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize(("given", "expected"), [(None, 1), (1, 1), (30, 30)])
def test_iterations_that_torch_does_not_count(given: int | None, expected: int) -> None:
    optimizer = fm.SGD([np.ones(2)], clip_norm=2.0)
    from_torch(optimizer, sgd_state(), iterations=given)
    assert optimizer.iterations == expected
    assert optimizer.clip_norm == 2.0
    np.testing.assert_array_equal(optimizer.state[0]["velocity"], np.ones(2))


def test_nadam_state_of_arrays() -> None:
    optimizer = fm.NAdam([np.ones(2)])
    from_torch(optimizer, nadam_state())
    assert optimizer.iterations == 2
    assert optimizer.momentum_decay == 0.0


def test_adafactor_state_of_arrays() -> None:
    """Of a matrix and a vector, whose buffers differ."""
    group = {"lr": 0.1, "beta2_decay": -0.8, "eps": (None, 1e-3), "d": 1.0, "weight_decay": 0,
             "params": [0, 1]}
    matrix = {"step": np.array(2.0), "row_var": np.full((3, 1), 2.0), "col_var": np.ones((1, 2))}
    vector = {"step": np.array(2.0), "variance": np.ones(4)}
    optimizer = fm.Adafactor([np.ones((3, 2)), np.ones(4)])
    before = text(optimizer)
    for wrong in ({0: vector}, {1: matrix}):
        with pytest.raises(ValueError, match=r"state\[[01]\] has no '(row_var|variance)'"):
            from_torch(optimizer, {"state": wrong, "param_groups": [group]})
    assert text(optimizer) == before
    from_torch(optimizer, {"state": {0: matrix, 1: vector}, "param_groups": [group]})
    assert (optimizer.iterations, optimizer.eps1, optimizer.clipping_threshold) == (2, None, 1.0)
    np.testing.assert_array_equal(optimizer.state[0]["row"], np.full((3, 1), 2.0))
    np.testing.assert_array_equal(optimizer.state[1]["square"], np.ones(4))


def test_parameters_without_state() -> None:
    """Adagrad's sums begin where it says; SGD without momentum has stepped nevertheless."""
    group = {"lr": 0.1, "lr_decay": 0, "eps": 1e-10, "weight_decay": 0,
             "initial_accumulator_value": 0.5, "params": [0]}
    adagrad = fm.Adagrad([np.ones(2)])
    from_torch(adagrad, {"state": {}, "param_groups": [group]})
    np.testing.assert_array_equal(adagrad.state[0]["square"], np.full(2, 0.5))
    assert adagrad.iterations == 0
    sgd = fm.SGD([np.ones(2)])
    from_torch(sgd, {**sgd_state(momentum=0), "state": {}}, iterations=20)
    assert sgd.state_dict()["steps"] == [20]
