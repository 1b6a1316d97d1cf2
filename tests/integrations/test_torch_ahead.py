"""Steps that begin with the first gradients that arrive."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastmom.integrations.torch as ours  # noqa: E402
from fastmom.integrations.torch import CPUOffload, ahead  # noqa: E402

SIZES = (6, 8, 5, 2)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "ENOUGH", 40)


def network(dtype: Any = torch.bfloat16) -> Any:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(SIZES)]
    return torch.nn.Sequential(*layers).to(dtype)


def backward(model: Any, step: int, factor: float = 1.0) -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
    y = model(x.to(next(model.parameters()).dtype))
    if step == 2:       # then the last layer has no gradients
        y = model[0](x.to(y.dtype))
    (factor * y.square().mean()).backward()


CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}), ("AdamW", {}), ("LAMB", {}), ("NovoGrad", {}),
    ("Adafactor", {}), ("Muon", {"nesterov": False}), ("AdamW", {"clip_value": 0.01}),
    ("AdamW", {"clip_norm_per_tensor": 0.01}), ("AdamW", {"clip_norm": 0.01}),
    ("AdamW", {"clip_norm": 100.0}), ("LAMB", {"nonfinite": "raise"}),
    ("AdamW", {"state_dtype": "int8"})]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_same_bits(name: str, settings: dict[str, Any], threads: int, dtype: Any) -> None:
    """In several buckets, with a tensor that is skipped, values that change, a later group."""
    if name == "Muon":
        threads, at_once, early = 1, network(dtype)[:1], network(dtype)[:1]
        for model in (at_once, early):
            model[0].bias.requires_grad_(False)
    else:
        at_once, early = network(dtype), network(dtype)
    pair = [CPUOffload([p for p in model[0].parameters() if p.requires_grad],
                       getattr(ours, name), threads=n, **settings)
            for model, n in ((at_once, None), (early, threads))]
    for step in range(5):
        for model, optimizer in zip((at_once, early), pair, strict=True):
            if step == 1 and len(model) > 1:
                optimizer.add_param_group({"params": list(model[1:].parameters())})
            if step == 3:
                optimizer.param_groups[0]["lr"] = 0.02
            before = [p.detach().clone() for p in model.parameters()]
            backward(model, step)
            assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
            optimizer.step()
    if "int8" not in settings.values():     # where means of squares are rounded by noise
        for p, q in zip(at_once.parameters(), early.parameters(), strict=True):
            assert torch.equal(p, q)
            for key, value in pair[0].state[p].items():
                assert torch.equal(pair[1].state[q][key], value), key
    assert [int(pair[1].state[p]["step"]) for p in early.parameters() if "step" in
            pair[1].state[p]] == [int(pair[0].state[p]["step"]) for p in at_once.parameters()
                                  if "step" in pair[0].state[p]]


def test_the_step_is_taken_before_it_is_asked_for() -> None:
    model = network()
    away = CPUOffload(model.parameters(), ours.SGD, lr=1.0, threads=1)
    backward(model, 0)
    away.step()
    masters = {p: away.state[p]["master"].clone() for p in model.parameters()}
    backward(model, 1)
    assert len(away._ahead.results) == len(away._ahead.buckets) > 1
    for result in away._ahead.results:
        result.result()
    assert not any(torch.equal(away.state[p]["master"], m) for p, m in masters.items())
    away.step()


@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_gradients_that_are_not_finite(policy: str) -> None:
    model = network()
    away = CPUOffload(model.parameters(), ours.AdamW, nonfinite=policy, threads=1)
    backward(model, 0)
    away.step()
    saved = away.state_dict()
    backward(model, 1, float("inf"))
    if policy == "skip":
        away.step()
    else:
        with pytest.raises(FloatingPointError, match=r"grads\["):
            away.step()
    for key, entry in away.state_dict()["state"].items():
        for name, value in entry.items():
            assert torch.equal(value, saved["state"][key][name])
    backward(model, 1)
    away.step()
    assert away.state_dict()["state"][0]["step"] == 2


def test_one_backward_pass_to_a_step() -> None:
    model, other = network(), network()
    pair = [CPUOffload(m.parameters(), ours.AdamW, threads=n)
            for m, n in ((model, 1), (other, None))]
    away = pair[0]
    backward(model, 0)
    with pytest.raises(RuntimeError, match=r"params\[\d\] has another gradient before step\(\)"):
        backward(model, 1)
    for call in (away.zero_grad, away.state_dict, lambda: away.load_state_dict({})):
        with pytest.raises(RuntimeError, match=r"before step\(\): with threads=1"):
            call()
    backward(other, 0)
    for optimizer in pair:
        optimizer.step()
        optimizer.zero_grad()
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    for wrong, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="threads must be an integer >= 1"):
            CPUOffload([torch.zeros(2, requires_grad=True)], ours.SGD, threads=wrong)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_errors_of_the_thread_come_with_the_step(clip: float | None,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """The other buckets are stepped, unless that takes the norm of all."""
    model = network()
    away = CPUOffload(model.parameters(), ours.SGD, lr=1.0, threads=1, clip_norm=clip)
    before = [p.detach().clone() for p in model.parameters()]
    work = ahead.Bucket.work

    def fail(self: Any, step: bool) -> list[float]:
        if 0 in self.places:
            raise RuntimeError("the bus is on fire")
        return work(self, step)
    with monkeypatch.context() as patch:
        patch.setattr(ahead.Bucket, "work", fail)
        backward(model, 0)
        with pytest.raises(RuntimeError, match="on fire"):
            away.step()
    stepped = [i not in away._ahead.bucket_of[0].places and clip is None for i in range(6)]
    assert any(stepped) == (clip is None)
    assert [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)
            ] == stepped
    backward(model, 0)
    away.step()
    assert not any(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_a_scaler_is_refused() -> None:
    p = torch.zeros(3, requires_grad=True)
    away = CPUOffload([p], ours.SGD)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(p.sum()).backward()
    with pytest.raises(TypeError, match="GradScaler cannot see"):
        scaler.step(away)


@pytest.mark.parametrize(("name", "settings"), [
    ("YellowFin", {}), ("SGD", {"lr": 0.1, "momentum": 0.9, "restart": True})], ids=str)
def test_what_needs_all_gradients_together_is_refused(name: str, settings: dict[str, Any]) -> None:
    params, kind = [*network().parameters()], getattr(ours, name)
    with pytest.raises(ValueError, match=f"{name} needs the gradients of all parameters together"):
        CPUOffload(params, kind, threads=1, **settings)
    CPUOffload(params, kind, **settings)


def test_a_setting_that_needs_all_gradients_together_is_refused_later() -> None:
    model = network()
    optimizer = CPUOffload(model.parameters(), ours.SGD, threads=1, lr=0.1, momentum=0.9)
    optimizer.param_groups[0]["restart"] = True
    with pytest.raises(ValueError, match="restart=True of SGD needs"):
        backward(model, 0)
