"""The running average of the weights, inside the step and on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm

SHAPES = [(5,), (100, 50), (0,), (4097,)]


def problem(dtype: Any) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(0)
    return tuple([rng.standard_normal(s).astype(dtype) for s in SHAPES]     # type: ignore[return-value]
                 for _ in range(2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [c for c in OPTIMIZERS if c[0] is not fm.Muon], ids=label)
def test_fused_equals_separate(case: Any, dtype: Any) -> None:
    """Averaging inside the step gives the bits of averaging after it, and changes nothing else."""
    cls, hyper = case
    results = []
    for fused in (True, False):
        params, grads = problem(dtype)
        optimizer = cls(params, **{"clip_value": 0.5} if cls is not fm.Rprop else {}, **hyper)
        ema = fm.EMA(params, 0.9, optimizer=optimizer if fused else None)
        for _ in range(7):
            assert optimizer.step(grads)
            if not fused:
                ema.update()
        results.append([a.tobytes() for a in params + ema.averages])
    assert results[0] == results[1]


def test_formula_and_changing_decay() -> None:
    p = np.ones(1000)
    ema = fm.EMA([p], decay=0.9)
    expected = p.copy()
    for decay in (0.9, 0.5, 0.0, 1.0):
        ema.decay = decay
        p *= 3
        ema.update()
        expected = decay * expected + (1 - decay) * p
        np.testing.assert_allclose(ema.averages[0], expected, rtol=1e-15)


def test_skipped_parameters_are_not_averaged() -> None:
    params, grads = problem(np.float32)
    optimizer = fm.SGD(params, lr=0.5, momentum=0.9)
    optimizer.step(grads)
    ema = fm.EMA(params, 0.5, optimizer=optimizer)      # attached in the middle of training
    assert optimizer.iterations == 1
    before = [e.copy() for e in ema.averages]
    optimizer.step([None, *grads[1:]])
    np.testing.assert_array_equal(ema.averages[0], before[0])
    assert not np.array_equal(ema.averages[1], before[1])


def test_swapped_restores_and_refuses_steps() -> None:
    params, grads = problem(np.float32)
    optimizer = fm.SGD(params, lr=0.5)
    ema = fm.EMA(params, 0.5, optimizer=optimizer)
    optimizer.step(grads)
    now = [p.copy() for p in params]
    averages = [e.copy() for e in ema.averages]

    def evaluate() -> None:
        with ema.swapped():
            for p, e in zip(params, averages, strict=True):
                np.testing.assert_array_equal(p, e)
            with pytest.raises(RuntimeError, match="hold their averages"):
                optimizer.step(grads)
            with pytest.raises(RuntimeError, match="cannot swap"), ema.swapped():
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate()
    for a, b in zip(params + ema.averages, now + averages, strict=True):
        np.testing.assert_array_equal(a, b)
    assert optimizer.step(grads)


@pytest.mark.parametrize(("decay", "error"), [(-0.1, ValueError), (1.1, ValueError),
                                              ("1", TypeError), (None, TypeError),
                                              (float("nan"), ValueError), (True, TypeError)])
def test_wrong_decay(decay: Any, error: type[Exception]) -> None:
    p = np.ones(3)
    with pytest.raises(error, match="decay must be"):
        fm.EMA([p], decay)
    ema = fm.EMA([p], 0.5)
    with pytest.raises(error, match="decay must be"):
        ema.decay = decay
    assert ema.decay == 0.5


def test_wrong_use() -> None:
    params, _ = problem(np.float32)
    optimizer = fm.SGD(params)
    for wrong in (params[0], [], "abc", iter(params)):
        with pytest.raises(TypeError, match="params"):
            fm.EMA(wrong)       # type: ignore[arg-type]
    with pytest.raises(ValueError, match="very arrays"):
        fm.EMA(params[::-1], optimizer=optimizer)
    with pytest.raises(ValueError, match="very arrays"):
        fm.EMA(params, optimizer=fm.SGD())
    with pytest.raises(ValueError, match="call update"):
        fm.EMA(params, optimizer=fm.Muon(params))
    ema = fm.EMA(params, optimizer=optimizer)
    with pytest.raises(RuntimeError, match="averaged already"):
        fm.EMA(params, optimizer=optimizer)
    with pytest.raises(RuntimeError, match="at each step already"):
        ema.update()


def test_repr_says_what_is_averaged_and_when() -> None:
    params = [np.zeros(3), np.zeros((40, 50))]
    assert repr(fm.EMA(params, 0.99)) == (
        "<EMA of 2 arrays (2,003 values), decay 0.99, by update()>")
    assert repr(fm.EMA(params[:1], optimizer=fm.SGD(params[:1]))) == (
        "<EMA of 1 array (3 values), decay 0.999, at each step of the optimizer>")
