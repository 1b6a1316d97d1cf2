"""Every configuration of PyTorch's own database of optimizers equals PyTorch's, or is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")       # which the database imports
from torch.testing._internal.common_optimizers import (  # noqa: E402
    _get_optim_inputs_including_global_cliquey_kwargs as configurations,
)
from torch.testing._internal.common_optimizers import optim_db  # noqa: E402

import fastmom.integrations.torch as ours  # noqa: E402

HERE = [info for info in optim_db if hasattr(ours, info.optim_cls.__name__)]
MISSING = {"ASGD", "LBFGS", "SparseAdam"}       # fastmom has no such rule
INPUTS = [(info, given) for info in HERE
          for given in configurations("cpu", torch.float64, info)]
ERRORS = [(info, given) for info in HERE for given in info.optim_error_inputs_func("cpu",
                                                                                    torch.float32)]
# What PyTorch computes in bfloat16, and fastmom in the parameter's dtype
COARSE = {"Muon"}
EXACT = {"ratio"}       # of Rprop, whose step_size is rounded when lr is multiplied
# Refused by PyTorch alone: its Muon leaves what is no matrix to the user, ours to AdamW
ALLOWED = ("only supports 2D parameters", "betas must be either both floats or both Tensors")


def named(row: Any) -> str:
    given = getattr(row[1], "optimizer_error_input", row[1])
    return f"{row[0].optim_cls.__name__}-{given.desc}"


def model(name: str, seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(6, 4), (8, 3)] if name == "Muon" else [(6, 4), (4,), (2, 3, 2)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
            for shape in shapes]


def gradients(params: list[Any], step: int) -> list[Any]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in params]


def test_the_database_is_known() -> None:
    assert {info.optim_cls.__name__ for info in optim_db} - MISSING == {
        info.optim_cls.__name__ for info in HERE}


def torch_in_double(request: pytest.FixtureRequest) -> None:
    """Let PyTorch keep NAdam's product of momenta in float64."""
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("row", INPUTS, ids=map(named, INPUTS))
def test_equals_torch(row: Any, request: pytest.FixtureRequest) -> None:
    """20 steps, through each other's state dicts half way."""
    torch_in_double(request)
    info, given = row
    name = info.optim_cls.__name__
    kwargs = copy.deepcopy(given.kwargs)
    if any(kwargs.get(flag) for flag in ("foreach", "capturable", "differentiable")):
        with pytest.raises(ValueError, match="has no meaning here"):
            getattr(ours, name)(model(name), **kwargs)
        return
    theirs, mine = model(name), model(name)
    their, own = info.optim_cls(theirs, **kwargs), getattr(ours, name)(mine, **kwargs)
    before = [p.detach().clone() for p in mine]
    for step in range(20):
        for params, optimizer in ((theirs, their), (mine, own)):
            for p, g in zip(params, gradients(params, step), strict=True):
                p.grad = g
            optimizer.step()
        if step == 9:
            states = copy.deepcopy((own.state_dict(), their.state_dict()))
            assert [set(s["state"]) for s in states] == 2 * [set(states[0]["state"])]
            assert {i: set(e) - EXACT for i, e in states[0]["state"].items()} == {
                i: set(e) for i, e in states[1]["state"].items()}
            assert [set(g) for g in states[0]["param_groups"]] == [
                set(g) for g in states[1]["param_groups"]]
            if name not in COARSE:
                their.load_state_dict(states[0])
            own.load_state_dict(states[1])
    for p, q, start in zip(mine, theirs, before, strict=True):
        assert not torch.equal(p, start)
        moved, expected = (p - start).detach(), (q - start).detach()
        if name in COARSE:
            assert (moved - expected).norm() < 0.03 * expected.norm()
        else:
            torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", ERRORS, ids=map(named, ERRORS))
def test_what_torch_refuses(row: Any) -> None:
    """By an error of one of the kinds that PyTorch raises."""
    info, error = row
    given = error.optimizer_error_input
    params = [torch.nn.Parameter(torch.randn(1, 1))] if given.params is None else given.params
    if any(words in error.error_regex for words in ALLOWED):
        getattr(ours, info.optim_cls.__name__)(params, **given.kwargs)
        return
    if error.error_type is UserWarning:
        with pytest.warns(UserWarning, match=error.error_regex):
            getattr(ours, info.optim_cls.__name__)(params, **given.kwargs)
        return
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        getattr(ours, info.optim_cls.__name__)(params, **given.kwargs)


SCHEDULED = [(info, i, make) for info in HERE
             for i, makes in enumerate(info.scheduler_inputs) for make in [makes]]


@pytest.mark.parametrize(("info", "i", "makes"), SCHEDULED,
                         ids=[f"{info.optim_cls.__name__}-{i}" for info, i, _ in SCHEDULED])
def test_schedulers_of_the_database(info: Any, i: int, makes: Any) -> None:
    """The same parameters as with PyTorch's, for each list of schedulers at once."""
    name = info.optim_cls.__name__
    results = []
    for cls in (info.optim_cls, getattr(ours, name)):
        params = model(name)
        optimizer = cls(params, lr=0.01)
        schedulers = [make(optimizer) for make in makes]
        rates = []
        for step in range(25):
            for p, g in zip(params, gradients(params, step), strict=True):
                p.grad = g
            optimizer.step()
            for scheduler in schedulers:
                plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                scheduler.step(*([1.0] if plateau else []))
            rates.append(optimizer.param_groups[0]["lr"])
        results.append((rates, params))
    assert results[0][0] == results[1][0]
    if name not in {*COARSE, "Rprop"}:      # PyTorch's Rprop takes lr at the first step alone
        for p, q in zip(results[0][1], results[1][1], strict=True):
            torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-7)


NAMES = [name for name in ours.__all__ if name not in ("Optimizer", "CPUOffload")]
OWN = [name for name in NAMES if not hasattr(torch.optim, name)]


@pytest.mark.parametrize("name", OWN)
def test_equals_fastmom(name: str) -> None:
    """Those that PyTorch has not: the same bits as fastmom's on arrays, through a state dict."""
    import fastmom as fm

    params = model(name)
    arrays = [p.detach().numpy().copy() for p in params]
    optimizer, own = getattr(ours, name)(params, lr=0.02), getattr(fm, name)(arrays, lr=0.02)
    for step in range(10):
        grads = gradients(params, step)
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step()
        own.step([g.numpy() for g in grads])
        if step == 5:
            saved = optimizer.state_dict()
            optimizer = getattr(ours, name)(params)
            optimizer.load_state_dict(saved)
    for p, a in zip(params, arrays, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), a)


def test_all_are_offered() -> None:
    from fastmom.optim import OPTIMIZERS
    assert {name.lower() for name in NAMES} == set(OPTIMIZERS)
