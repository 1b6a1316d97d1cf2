"""Muon on matrices; its other parameters are in the table of all optimizers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
    {"clip_norm": 1.0, "maximize": True}, {"layout": "out_in"}, {"ns_steps": 2},
    {"ns_steps": 3, "ns_coefficients": (1.5, -0.5, 0.0)}, {"eps": 100.0},
    {"ns_steps": 4, "ns_coefficients": (2.0, -1.5, -0.25)}], ids=str)
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
    optimizer = fm.Muon([ours], lr=0.1, layout="out_in")
    other = torch.optim.Muon([theirs], lr=0.1)
    for g in grads:
        optimizer.step([g])
        theirs.grad = torch.from_numpy(g.copy())
        other.step()
    moved, expected = ours - start, theirs.detach().numpy() - start
    assert np.linalg.norm(moved - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("scaling", ["original", "match_rms_adamw"])
def test_layouts_mirror_each_other(scaling: str) -> None:
    """The transposed parameters of the other layout take the transposed steps."""
    start, g = np.random.default_rng(0).standard_normal((2, 30, 10))
    tall, wide = start.copy(), np.ascontiguousarray(start.T)
    fm.Muon([tall], lr=0.1, scaling=scaling, layout="out_in").step([g])
    fm.Muon([wide], lr=0.1, scaling=scaling).step([np.ascontiguousarray(g.T)])
    np.testing.assert_allclose(tall, wide.T, atol=1e-12)
    if scaling == "original":       # wider by its outputs: sqrt(3) times the semi-orthogonal matrix
        values = np.linalg.svd(0.9990 * start - tall, compute_uv=False)
        assert values.min() > 0.6 * 3 ** 0.5 * 0.1


@pytest.mark.parametrize("coefficients", [(3.4445, -4.775, 2.0315), (1.5, -0.5, 0.0),
                                          (4.0, -5.0, 1.5), (2.0, -1.5, -0.25)], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(10, 10), (10, 40), (40, 10)])
def test_any_polynomial_and_number_of_steps(coefficients: Any, steps: int, shape: Any) -> None:
    a, b, c = coefficients
    u = np.random.default_rng(0).standard_normal(shape)
    x = u / np.linalg.norm(u)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    got = orthogonal(u, 2.0, steps=steps, coefficients=coefficients)
    np.testing.assert_allclose(got, 2 * x, rtol=1e-7, atol=1e-7 * np.abs(x).max())


# A state dict as the first version wrote it, and where its training went from there
FORMAT_1 = {
    "format": 1, "optimizer": "Muon", "iterations": 2, "steps": [2, 1],
    "options": {"clip_norm": None, "clip_norm_per_tensor": None, "clip_value": None,
                "grad_scale": 1.0, "nonfinite": "ignore", "maximize": True},
    "groups": [{"lr": 0.5, "momentum": 0.95, "nesterov": True, "weight_decay": 0.1,
                "scaling": "original", "adamw_lr": 0.001, "beta1": 0.9, "beta2": 0.999,
                "eps": 1e-08, "params": [0, 1]}],
    "state": [{"mean": np.array([[-0.09750000000000009, 0.0], [0.0, -0.19500000000000017],
                                 [-0.09750000000000009, -0.09750000000000009]]),
               "square": np.array([[-0.1426250000000001, 0.0], [0.0, -0.2852500000000002],
                                   [-0.1426250000000001, -0.1426250000000001]])},
              {"mean": np.array([-0.09999999999999998, 0.09999999999999998]),
               "square": np.array([0.0010000000000000009, 0.0010000000000000009])}]}


def test_state_of_the_first_format() -> None:
    params = [np.array([[1.6218471347675822, 1.719866549074022],
                        [2.5372330981480435, 4.537893563979296],
                        [5.146713683841604, 5.793813331063669]]),
              np.array([1.0008999999900001, 1.99880000001])]
    optimizer = fm.Muon(params)
    optimizer.load_state_dict(FORMAT_1)
    assert optimizer.maximize
    assert (optimizer.layout, optimizer.eps, optimizer.adamw_eps) == ("out_in", 1e-7, 1e-8)
    assert [list(names) for names in optimizer.state] == [["velocity", "update"],
                                                          ["mean", "square"]]
    optimizer.step([np.array([[1., 0.], [0., 2.], [1., 1.]]), np.array([1., -1.])])
    np.testing.assert_allclose(params[0], [[1.90965074457668, 1.590215041658281],
                                           [2.3230550833165617, 4.786841739103046],
                                           [5.214615786234961, 5.698385911209804]], rtol=1e-14)
    np.testing.assert_allclose(params[1], [1.001799909980001, 1.997600120019999], rtol=1e-15)


def test_checkpoint_of_the_first_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arrays had other names."""
    optimizer = fm.Muon([np.ones((3, 2)), np.ones(2)])
    monkeypatch.setattr("fastmom.checkpoint.content.live_state", lambda _: FORMAT_1)
    fm.checkpoint.save(tmp_path / "old.npz", optimizer=optimizer)
    monkeypatch.undo()
    fm.checkpoint.load(tmp_path / "old.npz", optimizer=optimizer)
    expected = fm.Muon([np.ones((3, 2)), np.ones(2)])
    expected.load_state_dict(FORMAT_1)
    assert repr(optimizer.state_dict()) == repr(expected.state_dict())


@pytest.mark.parametrize("change", [{"options": {}}, {"options": None}, {"groups": [1]},
                                    {"state": [{}]}, {"state": None}], ids=str)
def test_damaged_state_of_the_first_format(change: dict[str, Any]) -> None:
    optimizer = fm.Muon([np.ones((3, 2)), np.ones(2)])
    before = repr(optimizer.state_dict())
    with pytest.raises(ValueError, match="the state dict of format 1 is damaged"):
        optimizer.load_state_dict({**FORMAT_1, **change})
    assert repr(optimizer.state_dict()) == before
