"""Muon on matrices; its other parameters are in the table of all optimizers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim import muon
from fastmom.optim.muon import orthogonal, workspaces
from fastmom.optim.reference import Reference

SHAPES = [(30, 20), (20, 30), (7, 7), (1, 9), (9, 1), (0, 4), (12,), (2, 3, 4)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hyper", [
    {}, {"nesterov": False, "weight_decay": 0.0}, {"scaling": "match_rms_adamw", "momentum": 0.5},
    {"clip_norm": 1.0, "maximize": True}], ids=str)
def test_equals_reference(hyper: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    optimizer = fm.Muon(params, lr=0.05, **hyper)
    reference = Reference(optimizer)
    for step in range(10):
        grads = [rng.standard_normal(shape).astype(dtype) if (step + i) % 4 else None
                 for i, shape in enumerate(SHAPES)]
        assert optimizer.step(grads)
        reference.step(grads)
    # each Newton-Schulz step may amplify rounding by its slope of 3.4 at 0: 3.4**5 < 500
    for p, expected in zip(params, reference.params, strict=True):
        np.testing.assert_allclose(p, expected, rtol=0, atol=500 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(40, 40), (80, 10), (10, 80)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    u = np.random.default_rng(0).standard_normal(shape)
    values = np.linalg.svd(orthogonal(u), compute_uv=False)
    assert values.max() < 1.3
    assert np.median(values) > 0.6
    assert orthogonal(np.zeros(shape)).tolist() == np.zeros(shape).tolist()


def quintic(u: Any) -> Any:
    """The iteration as it is defined, in float64."""
    x = u / np.linalg.norm(u)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(40, 40), (40, 50), (40, 90), (20, 400)])
@pytest.mark.parametrize("smallest", [0.5, -3, -8])
@pytest.mark.parametrize("block", [256, 16])
def test_ill_conditioned(shape: tuple[int, int], smallest: float, block: int,
                         monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, for any spectrum and in blocks, as large ones are: wide, and tall."""
    monkeypatch.setattr(muon, "BLOCK", block)
    rng = np.random.default_rng(0)
    left, _, right = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    u = ((left * np.logspace(0, smallest, len(left))) @ right).astype(np.float32)
    expected = quintic(u.astype(np.float64))
    for got in (orthogonal(u), orthogonal(np.ascontiguousarray(u.T)).T):
        assert np.linalg.norm(got - expected, 2) < 1e-4 * np.linalg.norm(expected, 2)


def test_memory_is_that_of_the_largest() -> None:
    matrices = [np.zeros(shape, np.float32) for shape in [(8, 90), (20, 30), (90, 8), (3, 4)]]
    bases = {id(a.base): a.base for work in workspaces(matrices).values() for a in work}
    assert sum(base.size for base in bases.values()) == 2 * 720 + 4 * 20 ** 2


def test_optimizers_in_two_threads_share_nothing() -> None:
    rng = np.random.default_rng(0)
    starts, g = rng.standard_normal((3, 30, 100)), rng.standard_normal((30, 100))

    def run(start: Any) -> bytes:
        p = start.copy()
        optimizer = fm.Muon([p], lr=0.1)
        for _ in range(30):
            optimizer.step([g])
        return bytes(p.tobytes())

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, starts)) == [run(start) for start in starts]


def test_equals_torch_in_bfloat16() -> None:
    """PyTorch iterates in bfloat16, with 8 bits: the steps agree to some percent."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((30, 20)), rng.standard_normal((5, 30, 20))
    ours, theirs = start.copy(), torch.from_numpy(start.copy()).requires_grad_()
    optimizer = fm.Muon([ours], lr=0.1)
    other = torch.optim.Muon([theirs], lr=0.1)
    for g in grads:
        optimizer.step([g])
        theirs.grad = torch.from_numpy(g.copy())
        other.step()
    moved, expected = ours - start, theirs.detach().numpy() - start
    assert np.linalg.norm(moved - expected) < 0.03 * np.linalg.norm(expected)
