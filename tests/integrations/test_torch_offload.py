"""Parameters of an accelerator, with the optimizer in the CPU's memory: CPU tensors stand in."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastmom.integrations.torch as ours  # noqa: E402
from fastmom.integrations.torch import CPUOffload  # noqa: E402


def network(dtype: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
                               ).to(dtype)


def backward(model: Any, step: int) -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
    model(x.to(next(model.parameters()).dtype)).square().mean().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("clip", [None, 1e-2])
def test_same_as_without(dtype: Any, clip: float | None) -> None:
    """But for gradients in 16 bits; clipping sees the norm of them all."""
    here, there = network(dtype), network(dtype)
    plain = ours.AdamW(here.parameters(), lr=0.01, clip_norm=clip)
    away = CPUOffload(there.parameters(), ours.AdamW, lr=0.01, clip_norm=clip)
    for step in range(5):
        for model, optimizer in ((here, plain), (there, away)):
            optimizer.zero_grad()
            backward(model, step)
            if optimizer is plain:
                for p in here.parameters():
                    p.grad = p.grad.to(torch.bfloat16).to(dtype) if dtype is torch.float32 \
                        else p.grad
            else:
                assert all(p.grad is None for p in there.parameters())
            optimizer.step()
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        assert torch.equal(p, q)
        for key, value in plain.state[p].items():
            assert torch.equal(away.state[q][key], value)


def test_several_backward_passes_add_up() -> None:
    """In float32, though each was sent in bfloat16."""
    there = network(torch.float32)
    away = CPUOffload(there.parameters(), ours.SGD, lr=1.0)
    before = [p.detach().clone() for p in there.parameters()]
    total = [torch.zeros_like(p) for p in before]
    for step in range(3):
        other = network(torch.float32)
        backward(other, step)
        for t, p in zip(total, other.parameters(), strict=True):
            t += p.grad.to(torch.bfloat16).float()
        backward(there, step)
    away.step()
    for p, start, t in zip(there.parameters(), before, total, strict=True):
        torch.testing.assert_close(p.detach(), start - t)
    backward(there, 0)
    away.zero_grad()
    before = [p.detach().clone() for p in there.parameters()]
    away.step()
    for p, start in zip(there.parameters(), before, strict=True):
        assert torch.equal(p, start)


@pytest.mark.parametrize("replaced", [False, True])
def test_parameters_that_others_write(replaced: bool) -> None:
    """As loading a model does: the step goes on from there."""
    there = network(torch.bfloat16)
    away = CPUOffload(there.parameters(), ours.SGD, lr=0.0)
    backward(there, 0)
    away.step()
    for p in there.parameters():
        if replaced:
            p.data = torch.full_like(p, 0.5)
        else:
            with torch.no_grad():
                p.fill_(0.5)
    backward(there, 1)
    away.step()
    assert all((p == 0.5).all() for p in there.parameters())
    assert all((away.state[p]["master"] == 0.5).all() for p in there.parameters())


def test_state_goes_through_a_file() -> None:
    first, second = network(torch.bfloat16), network(torch.bfloat16)
    whole, half = (CPUOffload(m.parameters(), ours.AdamW, lr=0.01) for m in (first, second))
    for step in range(6):
        backward(first, step)
        whole.step()
        if step == 3:
            file = io.BytesIO()
            torch.save(half.state_dict(), file)
            file.seek(0)
            half = CPUOffload(second.parameters(), ours.AdamW)
            half.load_state_dict(torch.load(file, weights_only=True))
        second.zero_grad()
        backward(second, step)
        half.step()
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


def test_schedulers_groups_and_gradients_by_hand() -> None:
    p, q = (torch.zeros(3, requires_grad=True) for _ in range(2))
    away = CPUOffload([p], ours.SGD, lr=1.0)
    away.add_param_group({"params": [q], "lr": 2.0})
    schedule = torch.optim.lr_scheduler.LambdaLR(away, lambda step: 0.5 ** step)
    for _ in range(2):
        (p + q).sum().backward()
        away.step()
        schedule.step()
    assert p.tolist() == 3 * [-1.5]
    assert q.tolist() == 3 * [-3.0]
    p.grad = torch.ones(3)
    away.step()
    assert (p.tolist(), q.tolist()) == (3 * [-1.75], 3 * [-3.0])


def test_hooks_do_not_keep_it() -> None:
    """Without it, parameters have their gradients again."""
    p = torch.zeros(3, requires_grad=True)
    away = CPUOffload([p], ours.SGD)
    ghost = weakref.ref(away)
    del away
    gc.collect()
    assert ghost() is None
    p.sum().backward()
    assert (p.grad == 1).all()


def test_what_is_refused() -> None:
    p = torch.zeros(3, requires_grad=True)
    with pytest.raises(TypeError, match="optimizer_class must be one of"):
        CPUOffload([p], torch.optim.SGD)
    with pytest.raises(TypeError, match="did you mean 'lr'"):
        CPUOffload([p], ours.SGD, learning_rate=1.0)
    with pytest.raises(TypeError, match=r"params\[0\] is complex"):
        CPUOffload([torch.zeros(2, dtype=torch.complex64, requires_grad=True)], ours.SGD)
    away = CPUOffload([p], ours.SGD)
    for take in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            take(away)
