"""Trainings: one import line changes, and the losses stay; scalers, clipping, processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastmom.integrations.torch as ours  # noqa: E402

HYPER: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    ("AdamW", {"lr": 0.01}), ("Adam", {"lr": 0.01, "amsgrad": True}), ("NAdam", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9}), ("Adagrad", {"lr": 0.05})]


def network(dtype: Any = None) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(144, 10)).to(dtype or torch.float64)


def batch(step: int, dtype: Any = None) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 1, 8, 8, generator=generator)
    return x.to(dtype or torch.float64), (x.sum((1, 2, 3)).abs().long() % 10)


def train(module: Any, name: str, hyper: dict[str, Any], clip: float | None = None,
          steps: int = 30) -> list[float]:
    """Return the losses."""
    model = network()
    optimizer = getattr(module, name)(model.parameters(), **hyper)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.05, total_steps=steps, cycle_momentum=name not in ("Adagrad", "NAdam"))
    losses = []
    for step in range(steps):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("name", "hyper"), HYPER, ids=[row[0] for row in HYPER])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_one_import_line(name: str, hyper: dict[str, Any], clip: float | None,
                         request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.float64)
    theirs, mine = (train(module, name, hyper, clip) for module in (torch.optim, ours))
    assert theirs[-1] != theirs[0]
    # a network amplifies rounding, and some rules divide by roots of almost 0
    assert mine == pytest.approx(theirs, rel=1e-6)


def test_own_clipping_is_torchs() -> None:
    """Up to the 1e-6 that PyTorch adds to the norm."""
    p, q = (torch.arange(1.0, 5.0).requires_grad_() for _ in range(2))
    mine, theirs = ours.SGD([p], lr=0.1, clip_norm=0.5), torch.optim.SGD([q], lr=0.1)
    p.grad, q.grad = torch.arange(4.0), torch.arange(4.0)
    mine.step()
    torch.nn.utils.clip_grad_norm_([q], 0.5)
    theirs.step()
    torch.testing.assert_close(p, q)
    assert mine.clip_norm == 0.5
    mine.clip_norm, mine.param_groups[0]["lr"] = 2.0, 1.0
    p.grad, before = torch.arange(4.0), p.detach().clone()
    mine.step()
    assert (before - p.detach()).norm() == pytest.approx(2.0)
    with pytest.raises(ValueError, match="clip_norm must be"):
        mine.clip_norm = -1.0
    with pytest.raises(ValueError, match="master takes effect when"):
        mine.master = False
    value = ours.SGD([p], lr=1.0, clip_value=0.25)
    before, p.grad = p.detach().clone(), torch.tensor([-3.0, -0.1, 0.1, 3.0])
    value.step()
    torch.testing.assert_close(before - p.detach(), torch.tensor([-0.25, -0.1, 0.1, 0.25]))


def test_closure() -> None:
    p = torch.ones(2, requires_grad=True)
    optimizer = ours.SGD([p], lr=0.5)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss
    with torch.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert (p == 0).all()
    assert optimizer.step() is None


@pytest.mark.parametrize("unscaled", [False, True])
def test_grad_scaler(unscaled: bool) -> None:
    """The scale is divided out, and a step with an infinity is left out."""
    results = []
    for module in (torch.optim, ours):
        p = torch.ones(4, requires_grad=True)
        optimizer = module.AdamW([p], lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        path = []
        for step in range(6):
            optimizer.zero_grad()
            scaler.scale((p * p).sum() * (float("inf") if step == 2 else 1.0)).backward()
            if unscaled:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_([p], 0.5)
            scaler.step(optimizer)
            scaler.update()
            path.append((scaler.get_scale(), p.detach().clone()))
        results.append(path)
        assert optimizer.state[p]["step"].item() == 5
    for (scale, p), (other, q) in zip(*results, strict=True):
        assert scale == other
        torch.testing.assert_close(p, q)


def test_scaled_gradients_are_clipped_unscaled() -> None:
    p = torch.ones(4, requires_grad=True)
    optimizer = ours.SGD([p], lr=1.0, clip_norm=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((p * 0.1).sum()).backward()
    scaler.step(optimizer)
    torch.testing.assert_close(p.detach(), torch.full((4,), 0.9))


def test_schedulers_write_to_the_groups() -> None:
    """A step takes the rate that is in the group, and nothing is counted apart."""
    p = torch.zeros(1, requires_grad=True)
    optimizer = ours.SGD([p], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 2.0 ** step)
    for _ in range(4):
        p.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
    assert p.item() == -15.0


PROCESS = """
import os, sys, torch, torch.distributed as dist
import fastmom.integrations.torch as ours
rank, file, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
module = {"ours": ours, "torch": torch.optim}[name]
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
optimizer = module.AdamW(model.parameters(), lr=0.05)
for step in range(10):
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2 * step + rank)).double()
    optimizer.zero_grad(set_to_none=step % 2 == 0)
    model(x).square().sum().backward()
    optimizer.step()
torch.save([p.detach() for p in model.parameters()], f"{file}.{name}.{rank}")
dist.destroy_process_group()
os._exit(0)     # while the interpreter ends, a thread of gloo may let go of a reference and abort
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="files as meeting places")
def test_two_processes(tmp_path: Path) -> None:
    """Distributed data parallel: both end alike, where PyTorch's optimizer ends."""
    import subprocess

    results = {}
    for name in ("ours", "torch"):
        file = tmp_path / f"meeting-{name}"
        running = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROCESS, str(rank),
                                     str(file), name]) for rank in range(2)]
        try:
            assert [process.wait(120) for process in running] == [0, 0]
        finally:
            for process in running:
                process.kill()
        results[name] = [torch.load(f"{file}.{name}.{rank}") for rank in range(2)]
    for p, q, other in zip(*results["ours"], results["torch"][0], strict=True):
        assert torch.equal(p, q)
        torch.testing.assert_close(p, other)
