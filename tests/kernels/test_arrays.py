"""Arrays are checked as they are in C, and errors say what helps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.kernels import Engine
from fastmom.optim.sgd import momentum, sgd

F = np.float32


# What a subclass may claim of itself
LIES: dict[str, Any] = {
    "shape": (10 ** 8,), "size": 10 ** 8, "nbytes": 4 * 10 ** 8, "ndim": 0, "itemsize": 1,
    "strides": (0,), "dtype": np.dtype(np.float64), "base": None, "data": None,
    "flags": np.zeros(3).flags, "ctypes": None, "__array_interface__": {},
}


def liar(name: str, n: int) -> Any:
    """An array of n ones of a class whose attribute says something else."""
    cls = type("Liar", (np.ndarray,), {name: property(lambda self: LIES[name])})
    return np.ndarray.view(np.ones(n, F), cls)


@pytest.mark.parametrize("name", LIES)
def test_a_gradient_whose_attribute_lies(name: str) -> None:
    p = np.zeros(1000, F)
    optimizer = fm.SGD([p], lr=1.0, clip_norm=1e9, nonfinite="raise")
    assert optimizer.step([liar(name, 1000)])
    assert (p == -1).all()
    with pytest.raises(ValueError, match=r"grads\[0\] has shape \(999,\), expected \(1000,\)"):
        optimizer.step([liar(name, 999)])
    bad = liar(name, 1000)
    np.asarray(bad)[3] = np.nan
    with pytest.raises(FloatingPointError, match=r"grads\[0\] is nan at index \(3,\)"):
        optimizer.step([bad])
    assert (p == -1).all()


@pytest.mark.parametrize("name", LIES)
def test_a_parameter_whose_attribute_lies(name: str) -> None:
    p = liar(name, 1000)
    optimizer = fm.SGD([p], lr=1.0, momentum=0.5)
    for _ in range(2):
        assert optimizer.step([np.ones(1000, F)])
    assert (np.asarray(p) == -1.5).all()


def test_an_object_that_calls_itself_an_array() -> None:
    class Pretender:
        __class__ = np.ndarray      # type: ignore[assignment]
        dtype, shape, flags = np.dtype(F), (3,), np.zeros(3).flags

    with pytest.raises(TypeError, match=r"grads\[0\] must be a NumPy array, not Pretender"):
        fm.SGD([np.zeros(3, F)]).step([Pretender()])        # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"params\[0\] must be a NumPy array, not Pretender"):
        fm.SGD([Pretender()])       # type: ignore[list-item]


def test_a_contiguous_copy_is_advised_for_gradients_alone() -> None:
    fortran = np.asfortranarray(np.ones((2, 3), F))
    with pytest.raises(ValueError, match=r"params\[0\].*a contiguous copy would not help") as error:
        fm.SGD([fortran])
    assert "ascontiguousarray" not in str(error.value)
    with pytest.raises(ValueError, match=r"grads\[0\].*np\.ascontiguousarray"):
        fm.SGD([np.ones((2, 3), F)]).step([fortran])


def test_scalars_are_gradients_of_parameters_without_axes() -> None:
    p, q = np.array(1.0, F), np.array(1.0)
    optimizer = fm.SGD([p, q], lr=0.5)
    for _ in range(2):
        assert optimizer.step([F(3.0), np.float64(4.0)])
    assert (p, q) == (-2, -3)
    assert optimizer.step([np.array(3.0, F), None])
    with pytest.raises(TypeError, match=r"grads\[0\] has dtype float64, expected float32"):
        optimizer.step([np.float64(3.0), None])
    with pytest.raises(TypeError, match=r"grads\[0\] must be a NumPy array, not float"):
        optimizer.step([3.0, None])     # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"grads\[0\] must be a NumPy array, not float32"):
        fm.SGD([np.zeros(1, F)]).step([F(3.0)])
    assert (p, q) == (-3.5, -3)


# Engines

def test_an_engine_that_is_extended_goes_on() -> None:
    """The bits are those of an engine that had all tensors, the later one skipped at first."""
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(n).astype(F) for n in (5, 7, 9)]
    gradients = [[rng.standard_normal(p.size).astype(F) for p in start] for _ in range(4)]
    rows = [momentum(m=0.9, k=1.0, x=0.1, y=0.0, wd=0.0, keep=1.0)]
    results = []
    for grow in (False, True):
        params, averages = ([a.copy() for a in start] for _ in range(2))
        velocities = [np.zeros_like(a) for a in start]
        state = list(zip(velocities, averages, strict=True))
        few = 2 if grow else 3
        engine = Engine(params[:few], state[:few], True)
        engine.clip_norm, engine.parts = 1.0, 2
        engine.smooth(0.5)
        for grads in gradients[:2]:
            assert engine.run(grads[:2] if grow else [*grads[:2], None], rows)
        if grow:
            engine = engine.extended(params[2:], state[2:])
        assert (engine.iterations, engine.steps.tolist()) == (2, [2, 2, 0])
        assert engine.uneven
        for grads in gradients[2:]:
            assert engine.run(grads, rows)
        results.append([a.tobytes() for a in (*params, *velocities, *averages)]
                       + [engine.clip_norm, engine.parts, engine.norm])
    assert results[0] == results[1]


def test_an_extension_that_does_not_fit_changes_nothing() -> None:
    p = np.zeros(3, F)
    engine = Engine([p], [()])
    for more, error in ((p[1:], ValueError), (np.zeros(3, int), TypeError)):
        with pytest.raises(error, match=r"params\[1\]"):
            engine.extended([more], [()])
    assert engine.run([np.ones(3, F)], [sgd(lr=1.0, wd=0.0, keep=1.0)])
    assert (p == -1).all()


def test_each_tensor_has_a_sign_of_its_own() -> None:
    p, q = np.zeros(3, F), np.zeros(3, F)
    engine = Engine([p, q], [(), ()])
    engine.orient([1.0, -1.0])
    engine.clip_norm = 2.0
    g = np.full(3, 4.0, F)
    engine.run([g, g], [sgd(lr=1.0, wd=0.0, keep=1.0)])
    assert (p == -q).all()
    assert np.linalg.norm([p, q]) == pytest.approx(2.0)


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_engine_cannot_be_copied(act: Any) -> None:
    with pytest.raises(TypeError, match=r"an Engine cannot be copied or pickled.*state_dict"):
        act(Engine([np.zeros(3, F)], [()]))
