"""Adafactor: blocks of matrices equal whole ones, options take effect, and no memory is taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import COMMON

import fastmom as fm
from fastmom.optim import adafactor
from fastmom.optim.reference import Reference

SHAPES = [(6, 8), (1, 9), (9, 1), (40, 3), (5, 3, 3), (2, 3, 7, 4), (11,), (), (0, 4), (3, 0)]


def arrays(seed: int, dtype: Any, shapes: list[tuple[int, ...]] = SHAPES) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def check(optimizer: fm.Optimizer, steps: int = 10) -> None:
    params: list[Any] = [p for group in optimizer.param_groups for p in group["params"]]
    reference = Reference(optimizer)
    for t in range(steps):
        grads: list[Any] = arrays(t + 1, params[0].dtype)
        if t % 3 == 1:
            grads[t % 5] = None
        assert optimizer.step(grads)
        reference.step(grads)
    eps = np.finfo(params[0].dtype).eps
    for got, expected in zip(params, reference.params, strict=True):
        np.testing.assert_allclose(got, expected, rtol=20 * eps, atol=20 * eps)
    for own, expected in zip(optimizer.state, reference.state, strict=True):
        for name, array in own.items():
            np.testing.assert_allclose(array, expected[name], rtol=50 * eps)


@pytest.mark.parametrize("block", [1, 4, 10, 20, 1 << 14])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_reference_in_any_blocks(block: int, dtype: Any,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adafactor, "BLOCK", block)
    check(fm.Adafactor(arrays(0, dtype), lr=0.1, weight_decay=0.1))


@pytest.mark.parametrize("common", COMMON, ids=str)
def test_gradient_options(common: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adafactor, "BLOCK", 16)
    check(fm.Adafactor(arrays(0, np.float64), lr=0.1, **common))


def test_any_scale_of_gradients() -> None:
    """That float32 cannot hold."""
    p, g = np.ones((4, 3), np.float32), np.full((4, 3), 1e30, np.float32)
    fm.Adafactor([p], lr=0.5, grad_scale=1e40, eps1=1e-12).step([g])
    np.testing.assert_allclose(p, 0.5)


def test_state_is_of_rows_and_columns() -> None:
    optimizer = fm.Adafactor(arrays(0, np.float32))
    shapes = [{name: array.shape for name, array in own.items()} for own in optimizer.state]
    assert shapes[:7:2] == [
        {"row": (6, 1), "column": (1, 8)}, {"row": (9, 1), "column": (1, 1)},
        {"row": (5, 3, 1), "column": (5, 1, 3)}, {"square": (11,)}]


def test_takes_no_array_as_large_as_a_parameter() -> None:
    p, g = np.ones((1000, 1000)), np.ones((1000, 1000))
    optimizer = fm.Adafactor([p])
    optimizer.step([g])
    tracemalloc.start()
    optimizer.step([g])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < p.nbytes / 10



@pytest.mark.parametrize(("spoil", "error", "message"), [
    (lambda p, grads: grads.__setitem__(1, np.ones((2, 2))), ValueError, r"grads\[1\] has shape"),
    (lambda p, grads: grads[1].fill(np.nan), FloatingPointError, r"grads\[1\] is nan"),
    (lambda p, grads: (p[1].resize((3, 8), refcheck=False),
                       grads.__setitem__(1, np.ones((3, 8)))), ValueError,
     r"params\[1\] is now of shape \(3, 8\): it was changed in place"),
])
def test_rejected_step_changes_nothing(spoil: Callable[[Any, Any], Any], error: type[Exception],
                                       message: str) -> None:
    params = [np.ones(3), np.ones((4, 6))]
    optimizer = fm.Adafactor(params, nonfinite="raise")
    optimizer.step([np.ones(3), np.ones((4, 6))])
    before = repr((params[0], optimizer.state_dict()))
    grads = [np.ones(3), np.ones((4, 6))]
    spoil(params, grads)
    with pytest.raises(error, match=message):
        optimizer.step(grads)
    assert repr((params[0], optimizer.state_dict())) == before
    assert not optimizer.step([None, None])
    assert optimizer.iterations == 1


def test_one_step_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = fm.Adafactor([np.ones((4, 6)), np.ones(3)])
    update, refused = adafactor.update, []

    def interrupted(*arguments: Any) -> None:
        with pytest.raises(RuntimeError, match="being stepped in another thread"):
            optimizer.step([np.ones((4, 6)), np.ones(3)])
        refused.append(True)
        update(*arguments)

    monkeypatch.setattr(adafactor, "update", interrupted)
    assert optimizer.step([np.ones((4, 6)), np.ones(3)])
    assert refused == [True, True]
    assert optimizer.iterations == 1


def test_gradients_are_told_within_a_step_alone() -> None:
    engine = fm.Adafactor([np.ones(3)])._bound_engine()
    for ask in (engine.norms, lambda: engine.load(0, 0, np.ones(3))):
        with pytest.raises(RuntimeError, match="only a function that a step calls"):
            ask()

    def rows() -> Any:
        for i, start, out in ((1, 0, np.ones(3)), (-1, 0, np.ones(3)), (0, 1, np.ones(3)),
                              (0, -1, np.ones(1)), (0, 0, np.ones(1, np.float32))):
            with pytest.raises(ValueError, match="gradient"):
                engine.load(i, start, out)
        out = np.zeros(2)
        engine.load(0, 1, out)
        assert out.tolist() == [2.0, 3.0]
        return []
    assert engine.run([np.array([1.0, 2.0, 3.0])], rows)
