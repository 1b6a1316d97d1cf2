"""What goes wrong between tensors and arrays: versions, memory, layouts, devices, dtypes."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastmom.integrations.torch as ours  # noqa: E402
from fastmom.integrations.torch import base  # noqa: E402
from fastmom.integrations.torch.memory import Plain  # noqa: E402
from fastmom.kernels.tensors import Exchange  # noqa: E402


@pytest.fixture(params=["C", "Python"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both ways to arrays of tensors."""
    made = (Exchange if request.param == "C" else Plain)(torch.Tensor)
    monkeypatch.setattr(base, "EXCHANGE", made)
    return made


def leaf(*shape: int, seed: int = 0, dtype: Any = None) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype or torch.float32).requires_grad_()


def pair(*shape: int) -> tuple[Any, Any]:
    return leaf(*shape), leaf(*shape)


def steps(params: list[Any], optimizer: Any, count: int = 3,
          change: Callable[[Any], Any] = lambda g: g) -> None:
    for step in range(count):
        for i, p in enumerate(params):
            p.grad = change(leaf(*p.shape, seed=10 * step + i + 1).detach())
        optimizer.step()


def test_arrays_are_the_tensors_memory(exchange: Any) -> None:
    tensors = [leaf(2, 3), None, leaf(3, dtype=torch.bfloat16), leaf(0, 2), torch.ones(()),
               leaf(2, 3).detach().t(), torch.ones(2, dtype=torch.int64),
               torch.eye(2).to_sparse(), torch.ones(2, device="meta"),
               torch._neg_view(torch.ones(2)), torch.ones(2, dtype=torch.complex64)]
    arrays = exchange.arrays(tensors)
    assert [a.dtype.name for a in arrays[:1] + arrays[2:6]] == [
        "float32", "bfloat16", "float32", "float32", "float32"]
    assert all(a is t for a, t in zip(arrays[6:], tensors[6:], strict=True))
    assert arrays[1] is None
    for array, t in zip(arrays[:6], tensors[:6], strict=True):
        if t is not None:
            assert array.shape == tuple(t.shape)
            if t.numel():
                assert array.strides == tuple(s * t.element_size() for s in t.stride())
                assert array.ctypes.data == t.data_ptr()
    plain = [tensors[0], tensors[2], tensors[3]]
    assert exchange.are(plain, [arrays[0], arrays[2], arrays[3]])
    assert not exchange.are([tensors[0].clone()], arrays[:1])
    assert not exchange.are([tensors[0][:1]], arrays[:1])


def test_only_tensors() -> None:
    with pytest.raises(TypeError, match="expected Tensor, not int"):
        Exchange(torch.Tensor).arrays([3])
    with pytest.raises(TypeError, match="kind must be a class"):
        Exchange(torch.ones(2))
    with pytest.raises(AttributeError, match="dlpack"):
        Exchange(int)


@pytest.mark.usefixtures("exchange")
def test_autograd_notices_the_step() -> None:
    """A graph from before the step may not be used after it."""
    p = leaf(3)
    optimizer = ours.SGD([p], lr=0.1)
    loss = (p * p).sum()
    p.grad = torch.ones(3)
    before = p._version
    optimizer.step()
    assert p._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_only_what_was_changed_has_a_new_version() -> None:
    p, q = leaf(3), leaf(3)
    optimizer = ours.SGD([p, q], lr=0.1)
    p.grad = torch.ones(3)
    optimizer.step()
    assert (p._version > 0, q._version) == (True, 0)


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("when", [0, 3])
def test_data_is_replaced(when: int) -> None:
    """The new memory is updated, the old is left alone, state goes on."""
    p, q = pair(4, 3)
    mine, theirs = ours.AdamW([p], lr=0.1), torch.optim.AdamW([q], lr=0.1)
    for params, optimizer in (([p], mine), ([q], theirs)):
        steps(params, optimizer, when)
    old = p.data
    kept = old.clone()
    p.data, q.data = p.data.clone(), q.data.clone()
    for params, optimizer in (([p], mine), ([q], theirs)):
        steps(params, optimizer, 3)
    torch.testing.assert_close(p, q)
    torch.testing.assert_close(old, kept, rtol=0, atol=0)
    assert mine.state[p]["step"].item() == when + 3


def test_data_of_another_shape_is_refused() -> None:
    p = leaf(4)
    optimizer = ours.SGD([p], lr=0.1, momentum=0.9)
    steps([p], optimizer)
    p.data = torch.ones(5)
    p.grad = torch.ones(5)
    with pytest.raises(ValueError, match="shape"):
        optimizer.step()
    assert (p == 1).all()


def test_gradients_are_not_kept() -> None:
    p = leaf(4)
    optimizer = ours.SGD([p], lr=0.1, momentum=0.9)
    steps([p], optimizer)
    ghost = weakref.ref(p.grad)
    optimizer.zero_grad()
    gc.collect()
    assert ghost() is None


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("name", ["SGD", "AdamW", "Lion"])
def test_channels_last(name: str) -> None:
    """Parameters of any dense layout, with gradients of any; state has the parameter's."""
    plain = leaf(2, 3, 4, 5)
    last = leaf(2, 3, 4, 5).detach().to(memory_format=torch.channels_last).requires_grad_()
    turned = leaf(4, 3).detach().t().requires_grad_()
    straight = turned.detach().contiguous().requires_grad_()
    mine = getattr(ours, name)([last, turned], lr=0.1)
    other = getattr(ours, name)([plain, straight], lr=0.1)
    steps([last, turned], mine)
    steps([plain, straight], other)
    steps([last, turned], mine, change=lambda g: g.to(
        memory_format=torch.channels_last) if g.ndim == 4 else g)
    steps([plain, straight], other)
    torch.testing.assert_close(last, plain, rtol=0, atol=0)
    torch.testing.assert_close(turned, straight, rtol=0, atol=0)
    for entry in mine.state[last].values():
        if entry.ndim:
            assert entry.shape == last.shape
            assert entry.stride() == last.stride()
    copied = getattr(ours, name)([plain, straight], lr=0.1)
    copied.load_state_dict(mine.state_dict())
    for p, q in ((last, plain), (turned, straight)):
        for key, value in mine.state[p].items():
            torch.testing.assert_close(copied.state[q][key], value, rtol=0, atol=0)


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("change", [lambda g: g.t().contiguous().t(),
                                    lambda g: torch._neg_view(-g),
                                    lambda g: torch.stack([g, g], -1)[..., 0]],
                         ids=["turned", "negated", "with gaps"])
def test_gradients_of_any_layout(change: Callable[[Any], Any]) -> None:
    p, q = pair(4, 3)
    steps([p], ours.SGD([p], lr=0.1, momentum=0.9), change=change)
    steps([q], ours.SGD([q], lr=0.1, momentum=0.9))
    torch.testing.assert_close(p, q, rtol=0, atol=0)


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_gradients(dtype: Any) -> None:
    """Of float32 parameters, where PyTorch lets them have such."""
    p, q = pair(4, 3)
    if not hasattr(p, "grad_dtype"):
        pytest.skip("PyTorch wants gradients of the parameter's dtype")
    p.grad_dtype = None
    steps([p], ours.AdamW([p], lr=0.1), change=lambda g: g.to(dtype))
    steps([q], torch.optim.AdamW([q], lr=0.1), change=lambda g: g.to(dtype).float())
    torch.testing.assert_close(p, q)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_parameters(dtype: Any) -> None:
    """They are the rounded masters, and what others write to them is taken over."""
    p, q = leaf(4, 3, dtype=dtype), leaf(4, 3, dtype=dtype).float().detach().requires_grad_()
    mine, theirs = ours.AdamW([p], lr=0.01), torch.optim.AdamW([q], lr=0.01)
    steps([p], mine, 5, change=lambda g: g.to(dtype))
    steps([q], theirs, 5, change=lambda g: g.to(dtype).float())
    torch.testing.assert_close(mine.state[p]["master"], q.detach())
    assert torch.equal(p, q.to(dtype))
    with torch.no_grad():
        p.fill_(1.0)
    mine.param_groups[0]["lr"] = 0.0
    steps([p], mine, 1, change=lambda g: g.to(dtype))
    assert (p == 1).all()
    other = ours.AdamW([p])
    other.load_state_dict(mine.state_dict())
    torch.testing.assert_close(other.state[p]["exp_avg"], mine.state[p]["exp_avg"], rtol=0, atol=0)
    assert other.state[p]["exp_avg"].dtype is torch.float32


@pytest.mark.parametrize("options", [{"state_dtype": "bfloat16"}, {"state_dtype": "float16"},
                                     {"state_dtype": "int8"},
                                     {"state_dtype": "bfloat16", "rounding": "stochastic"}])
def test_short_state(options: dict[str, Any]) -> None:
    """It goes through a state dict bit by bit."""
    p, q = pair(40, 5)
    optimizer = ours.AdamW([p], **options)
    steps([p], optimizer)
    other = ours.AdamW([q], **options)
    other.load_state_dict(optimizer.state_dict())
    for key, value in optimizer.state[p].items():
        assert torch.equal(other.state[q][key], value)
        assert key == "step" or value.dtype is not torch.float32 or options == {}  or (
            key == "exp_avg_sq" and options["state_dtype"] in ("bfloat16", "float16"))


REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: torch.ones(2, dtype=torch.complex64, requires_grad=True), "SGD", "is complex"),
    (lambda: torch.ones(2, device="meta", requires_grad=True), "SGD", "is on meta"),
    (lambda: torch.eye(2).to_sparse().requires_grad_(), "SGD", "has layout torch.sparse_coo"),
    (lambda: torch.ones(4, 4)[:, :2].requires_grad_(), "SGD", "without gaps"),
    (lambda: torch.ones(1).expand(4).requires_grad_(), "SGD", "without gaps"),
    (lambda: torch.ones(2, dtype=torch.float8_e5m2, requires_grad=True), "SGD", "has dtype"),
]


@pytest.mark.parametrize(("make", "name", "message"), REFUSED, ids=[row[2] for row in REFUSED])
def test_parameters_that_are_refused(make: Any, name: str, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"params\\[0\\].*{re.escape(message)}"):
        getattr(ours, name)([make()])
    with pytest.raises((TypeError, ValueError), match=f"'w'.*{re.escape(message)}"):
        getattr(ours, name)([("w", make())])
    optimizer = getattr(ours, name)([leaf(2)])
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        optimizer.add_param_group({"params": [make()]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ["Muon", "Adafactor"])
def test_matrices_lie_as_they_are_read(name: str) -> None:
    p = leaf(4, 3).detach().t().requires_grad_()
    optimizer = getattr(ours, name)([p])
    p.grad = torch.ones(3, 4)
    with pytest.raises(ValueError, match="must be contiguous"):
        optimizer.step()


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize(("gradient", "message"), [
    (lambda: torch.ones(3, 2).to_sparse(), "layout torch.sparse_coo"),
    (lambda: torch.ones(3, 2, device="meta"), "is on meta")], ids=["sparse", "device"])
def test_gradients_that_are_refused(gradient: Any, message: str) -> None:
    """And nothing has changed."""
    p, q = leaf(3, 2), leaf(3, 2)
    optimizer = ours.SGD([("a", p), ("b", q)], lr=0.1, momentum=0.9)
    kept = q.detach().clone()
    q.grad = torch.ones(3, 2)
    if message.startswith("layout"):
        p.grad = gradient()
    else:
        class Elsewhere(torch.nn.Parameter):
            grad = gradient()       # PyTorch itself does not let it be set
        p = Elsewhere(p.detach())
        optimizer = ours.SGD([("a", p), ("b", q)], lr=0.1, momentum=0.9)
    with pytest.raises((TypeError, ValueError), match=f"gradient of parameter 'a'.*{message}"):
        optimizer.step()
    assert torch.equal(q, kept)


def test_overlapping_parameters_are_refused() -> None:
    base_ = torch.ones(6)
    optimizer = ours.SGD([base_[:4].requires_grad_(), base_[2:].requires_grad_()])
    with pytest.raises(ValueError, match="overlaps"):
        optimizer.step()
