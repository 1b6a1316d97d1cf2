"""Groups, state dicts and files of the classes for PyTorch."""

from __future__ import annotations

import copy
import io
import pickle
import re
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastmom.integrations.torch as ours  # noqa: E402


def leaf(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def steps(params: list[Any], optimizer: Any, count: int = 3, first: int = 0) -> None:
    for step in range(first, first + count):
        for i, p in enumerate(params):
            p.grad = leaf(*p.shape, seed=100 * step + i + 1).detach()
        optimizer.step()


def params() -> list[Any]:
    return [leaf(4, 3), leaf(5, seed=1)]


@pytest.mark.parametrize("name", [n for n in ours.__all__ if n not in ("Optimizer", "CPUOffload")])
@pytest.mark.parametrize("way", ["file", "pickle", "deepcopy"])
def test_goes_on(name: str, way: str) -> None:
    """As if it had not been away."""
    first, second = params(), params()
    whole, half = (getattr(ours, name)(p, lr=0.02) for p in (first, second))
    steps(first, whole, 6)
    steps(second, half, 3)
    if way == "file":
        file = io.BytesIO()
        torch.save(half.state_dict(), file)
        file.seek(0)
        again = getattr(ours, name)(second)
        again.load_state_dict(torch.load(file, weights_only=True))
    else:
        again = pickle.loads(pickle.dumps(half)) if way == "pickle" else copy.deepcopy(half)
        second = again.param_groups[0]["params"]
    assert again.param_groups[0]["lr"] == 0.02
    steps(second, again, 3, first=3)
    for p, q in zip(first, second, strict=True):
        assert torch.equal(p, q)
    if way != "file":
        assert not any(p is q for p in half.param_groups[0]["params"] for q in second)


def test_before_the_first_step() -> None:
    optimizer = ours.AdamW(params())
    assert not optimizer.state
    assert optimizer.state_dict()["state"] == {}
    again = pickle.loads(pickle.dumps(optimizer))
    assert not again.state
    other = ours.AdamW(params())
    other.load_state_dict(optimizer.state_dict())
    assert not other.state


def test_state_is_the_memory_itself() -> None:
    p = leaf(3)
    optimizer = ours.SGD([p], lr=0.1, momentum=0.5)
    steps([p], optimizer)
    optimizer.state[p]["momentum_buffer"].zero_()
    before, p.grad = p.detach().clone(), torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(p.detach(), before - 0.1)


def test_loading_resets_what_has_no_state() -> None:
    mine = params()
    fresh = ours.Yogi(mine, initial_accumulator=0.5)
    saved = fresh.state_dict()
    steps(mine, fresh)
    fresh.load_state_dict(saved)
    assert not fresh.state
    for buffers in fresh._ours._buffers():
        assert (buffers["square"] == 0.5).all()
    steps(mine, fresh, 1)
    assert fresh.state[mine[0]]["step"] == 1


def test_groups_are_as_torch_has_them() -> None:
    """Added later, with names, rates of their own, and assigned between steps."""
    results = []
    for cls in (ours.Adam, torch.optim.Adam):
        p, q, r = leaf(3), leaf(4, seed=1), leaf(5, seed=2)
        optimizer = cls([{"params": [("p", p)], "lr": 0.1}, {"params": [("q", q)], "name": "x"}],
                        betas=(0.5, 0.8))
        steps([p, q], optimizer)
        optimizer.add_param_group({"params": [("r", r)], "weight_decay": 0.1, "amsgrad": True})
        optimizer.param_groups[1]["betas"] = (0.1, 0.3)
        optimizer.param_groups[0]["lr"] = torch.tensor(0.3)
        steps([p, q, r], optimizer)
        optimizer.param_groups[0]["lr"].fill_(0.2)
        optimizer.param_groups[1]["lr"] = 0.0
        q.grad = None
        steps([p, r], optimizer)
        results.append(([p, q, r], optimizer.state_dict()))
    for p, q in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(p, q)
    for i, entry in results[1][1]["state"].items():
        assert set(results[0][1]["state"][i]) == set(entry)
        assert results[0][1]["state"][i]["step"] == entry["step"]
    assert [{**g, "lr": float(g["lr"])} for g in results[0][1]["param_groups"]] == [
        {**g, "lr": float(g["lr"])} for g in results[1][1]["param_groups"]]


def test_buffers_that_begin_later() -> None:
    p = leaf(3)
    optimizer = ours.SGD([p], lr=0.1)
    steps([p], optimizer)
    assert not optimizer.state[p]
    optimizer.param_groups[0]["momentum"] = 0.9
    steps([p], optimizer, 1)
    assert torch.equal(optimizer.state[p]["momentum_buffer"], p.grad)
    adam = ours.Adam([p])
    steps([p], adam)
    adam.param_groups[0]["amsgrad"] = True
    steps([p], adam)
    assert (adam.state[p]["max_exp_avg_sq"] > 0).all()


def test_parameters_replaced_in_a_group() -> None:
    """Those that stay go on with their state."""
    p, q, r = leaf(3), leaf(3, seed=1), leaf(3, seed=2)
    optimizer = ours.SGD([p, q], lr=0.1, momentum=0.9)
    steps([p, q], optimizer)
    kept = optimizer.state[q]["momentum_buffer"].clone()
    optimizer.param_groups[0]["params"] = [q, r]
    optimizer.param_groups[0]["lr"] = 0.0
    for t in (q, r):
        t.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[q]["momentum_buffer"], 0.9 * kept)
    assert (optimizer.state[r]["momentum_buffer"] == 0).all()


BAD: list[tuple[Any, type[Exception], str]] = [
    ({}, ValueError, "must be that of an optimizer"),
    ({"state": {}, "param_groups": []}, ValueError, "groups of [] parameters"),
    (lambda s: s["param_groups"][0].pop("betas"), ValueError, "param_groups[0] has no 'betas'"),
    (lambda s: s["param_groups"][0].update(lr=-1.0), ValueError, "lr must be"),
    (lambda s: s["param_groups"][0].update(betas=0.9), ValueError, "betas must be 2 numbers"),
    (lambda s: s["state"][1].pop("exp_avg"), ValueError, "state[1] has no 'exp_avg'"),
    (lambda s: s["state"][1].update(z=1), ValueError, "state[1] has 'z'"),
    (lambda s: s["state"][1].update(step=1.5), TypeError, "state[1]['step'] must be an integer"),
    (lambda s: s["state"][1].update(exp_avg=torch.ones(2)), ValueError, "has shape (2,)"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[row[2] for row in BAD])
def test_state_that_does_not_fit(change: Any, error: type[Exception], message: str) -> None:
    mine = params()
    optimizer = ours.AdamW(mine, lr=0.1)
    steps(mine, optimizer)
    before = repr(optimizer.state_dict())
    state = change
    if callable(change):
        state = copy.deepcopy(optimizer.state_dict())
        change(state)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.load_state_dict(state)
    assert repr(optimizer.state_dict()) == before


def test_flags_of_another_computer() -> None:
    """How PyTorch computed is no part of the state; names are its own."""
    p = leaf(3)
    theirs = torch.optim.AdamW([("there", p)], fused=True)
    steps([p], theirs)
    optimizer = ours.AdamW([p])
    optimizer.load_state_dict(theirs.state_dict())
    assert optimizer.param_groups[0]["fused"] is None
    assert optimizer.param_groups[0]["param_names"] == ["there"]
    steps([p], optimizer)
    again = torch.optim.AdamW([("there", p)], fused=True)
    again.load_state_dict(optimizer.state_dict())
    steps([p], again)


def test_hooks() -> None:
    p = leaf(3)
    optimizer = ours.AdamW([p])
    called = []
    optimizer.register_step_pre_hook(lambda *a: called.append("before"))
    optimizer.register_step_post_hook(lambda *a: called.append("after"))
    optimizer.register_state_dict_pre_hook(lambda o: called.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, s: {**s, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, s: called.append(s.pop("more")))
    optimizer.register_load_state_dict_post_hook(lambda o: called.append("loaded"))
    steps([p], optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert called == ["before", "after", "saving", 1, "loaded"]


CALLS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("AdamW", {"foreach": True}, ValueError, "foreach=True has no meaning here"),
    ("AdamW", {"capturable": True}, ValueError, "capturable=True"),
    ("AdamW", {"differentiable": True}, ValueError, "differentiable=True"),
    ("AdamW", {"learning_rate": 0.1}, TypeError, "did you mean 'lr'"),
    ("AdamW", {"betas": (0.9, 1.0)}, ValueError, "beta2 must be"),
    ("AdamW", {"clip_norm": -1.0}, ValueError, "clip_norm must be"),
    ("AdamW", {"grad_scale": 2.0}, TypeError, "has no argument 'grad_scale'"),
    ("SGD", {"decay": 0.1}, TypeError, "has no argument 'decay'"),
    ("Lion", {"lr": "x"}, TypeError, "lr must be"),
]


@pytest.mark.parametrize(("name", "given", "error", "message"), CALLS)
def test_arguments_that_are_refused(name: str, given: dict[str, Any], error: type[Exception],
                                    message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(ours, name)([leaf(2)], **given)
    if error is ValueError and name == "AdamW" and "clip_norm" not in given:
        p = leaf(2)
        optimizer = ours.AdamW([p])
        optimizer.param_groups[0].update(given)
        p.grad = torch.ones(2)
        before = p.detach().clone()
        with pytest.raises(error, match=message):
            optimizer.step()
        assert torch.equal(p, before)


def test_flags_that_are_accepted() -> None:
    ours.AdamW([leaf(2)], foreach=None, fused=True, capturable=False, differentiable=False)
    ours.SGD([leaf(2)], foreach=False, fused=False)


def test_misspelt_group() -> None:
    with pytest.raises(TypeError, match="did you mean 'weight_decay'"):
        ours.AdamW([{"params": [leaf(2)], "weight_dacay": 0.1}])
    ours.AdamW([{"params": [leaf(2)], "name": "body"}])
