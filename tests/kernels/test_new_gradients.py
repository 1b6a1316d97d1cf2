"""Gradients are new arrays at each step: nothing of them is kept or taken for granted."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm

F = np.float32
SHAPES = [(5,), (2, 3), (), (0, 4), (1000,)]


def gradients(value: float = 1.0) -> list[Any]:
    return [np.full(shape, value, F) for shape in SHAPES]


def optimizer(**hyper: Any) -> fm.Optimizer:
    return fm.SGD([np.zeros(shape, F) for shape in SHAPES], lr=1.0, **hyper)


def params(of: fm.Optimizer) -> list[Any]:
    return of.param_groups[0]["params"]         # type: ignore[no-any-return]


def spoilt(grads: list[Any]) -> list[Any]:
    grads[0][2] = np.nan
    return grads


# A step of each kind, and the error it ends with
STEPS: list[tuple[str, Callable[[list[Any]], Any], dict[str, Any], type[Exception] | None]] = [
    ("a list", list, {}, None),
    ("a tuple", tuple, {}, None),
    ("a subclass", type("Grads", (list,), {}), {}, None),
    ("nothing for some", lambda g: [g[0], None, *g[2:]], {}, None),
    ("a scalar", lambda g: [*g[:2], F(1), *g[3:]], {}, None),
    ("clipping", list, {"clip_norm": 1.0, "clip_value": 0.5}, None),
    ("a skipped step", spoilt, {"nonfinite": "skip"}, None),
    ("a NaN", spoilt, {"nonfinite": "raise"}, FloatingPointError),
    ("a wrong shape", lambda g: [*g[:4], g[0]], {}, ValueError),
    ("a wrong dtype", lambda g: [*g[:4], g[4].astype(float)], {}, TypeError),
    ("too few", lambda g: g[:4], {}, ValueError),
]


@pytest.mark.parametrize("cls", [fm.SGD, fm.NovoGrad, fm.Adafactor, fm.Muon])
@pytest.mark.parametrize(("change", "hyper", "error"), [row[1:] for row in STEPS],
                         ids=[row[0] for row in STEPS])
def test_nothing_is_kept(change: Callable[[list[Any]], Any], hyper: dict[str, Any],
                         error: type[Exception] | None, cls: Any) -> None:
    opt = cls([np.zeros(shape, F) for shape in SHAPES], **hyper)
    grads = change(gradients())
    arrays = [g for g in grads if isinstance(g, np.ndarray)]
    counts = [sys.getrefcount(g) for g in arrays]
    for _ in range(3):
        if error is None:
            opt.step(grads)
        else:
            with pytest.raises(error):
                opt.step(grads)
    gc.collect()
    assert [sys.getrefcount(g) for g in arrays] == counts
    alive = [weakref.ref(g) for g in arrays]
    del grads, arrays
    assert not any(ref() is not None for ref in alive)


def test_steps_take_no_memory() -> None:
    """Neither do new gradients; those of 1,000 steps would be 4 MB."""
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read as Linux shows it")
    opt = optimizer(momentum=0.9)
    for _ in range(1000):
        opt.step(gradients())
    before = resident()
    for _ in range(30_000):
        opt.step(gradients())
    assert resident() - before < 256            # pages


def view(memory: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.ndarray(shape, dtype, memory, offset)


# What lies at the address of the gradient that went before, and the error of a step with it
LOOKALIKES: list[tuple[str, Callable[[Any], Any], str | None]] = [
    ("the same again", lambda m: view(m, 0, (2, 3), F), None),
    ("another shape", lambda m: view(m, 0, (3, 2), F), r"shape \(3, 2\)"),
    ("fewer axes", lambda m: view(m, 0, (6,), F), r"shape \(6,\)"),
    ("no axis", lambda m: view(m, 0, (), F), r"shape \(\)"),
    ("no elements", lambda m: view(m, 0, (0, 3), F), r"shape \(0, 3\)"),
    ("wider", lambda m: view(m, 0, (2, 3), np.float64), "dtype float64"),
    ("integers", lambda m: view(m, 0, (2, 3), np.int32), "dtype int32"),
    ("swapped bytes", lambda m: view(m, 0, (2, 3), ">f4"), "dtype >f4"),
    ("strides", lambda m: view(m, 0, (2, 6), F)[:, ::2], "C-contiguous"),
    ("misaligned", lambda m: view(m, 1, (2, 3), F), "not aligned"),
    ("a mask", lambda m: np.ma.masked_array(view(m, 0, (2, 3), F)), "NumPy array"),
    ("another class", lambda m: view(m, 0, (2, 3), F).view(np.memmap), None),
    ("an equal dtype", lambda m: view(m, 0, (2, 3), np.dtype(F, metadata={"a": 1})), None),
]


@pytest.mark.parametrize(("make", "error"), [row[1:] for row in LOOKALIKES],
                         ids=[row[0] for row in LOOKALIKES])
def test_the_same_address_again(make: Callable[[Any], Any], error: str | None) -> None:
    memory = np.ones(100, np.uint8).tobytes()
    p = np.zeros((2, 3), F)
    opt = fm.SGD([p], lr=1.0)
    first = view(memory, 0, (2, 3), F)
    assert not first.flags.writeable                        # gradients are only read
    assert opt.step([first])
    before = p.copy()
    del first
    for _ in range(2):
        if error is None:
            assert opt.step([make(memory)])
        else:
            with pytest.raises((TypeError, ValueError), match=rf"grads\[0\].*{error}"):
                opt.step([make(memory)])
            np.testing.assert_array_equal(p, before)


def test_objects_that_are_made_where_others_were() -> None:
    """Python and NumPy hand out the same objects and memory again, for arrays that do not fit."""
    opt = optimizer()
    grads = gradients()
    opt.step(grads)
    places = {id(g): g.shape for g in grads}
    del grads
    seen = 0
    for _ in range(50):
        g = np.ones(6, F)
        seen += id(g) in places
        with pytest.raises(ValueError, match=r"grads\[1\] has shape \(6,\)"):
            opt.step([np.ones(5, F), g, *gradients()[2:]])
        del g
    assert seen
    assert (params(opt)[0] == -1).all()


def test_the_owner_of_a_gradient_is_resized() -> None:
    p = np.zeros(1000, F)
    opt = fm.SGD([p], lr=1.0)
    whole = np.ones(3000, F)
    part = whole[1000:][:1000]
    assert opt.step([part])
    for size, error in ((2000, None), (1999, "resized"), (10, "resized"), (3000, None)):
        whole.resize(size, refcheck=False)
        whole[:] = 1
        if error is None and whole[1000:2000].ctypes.data == part.ctypes.data:
            assert opt.step([part])
        else:
            with pytest.raises(ValueError, match=r"grads\[0\].*resized"):
                opt.step([part])


def test_what_is_written_moves_to_where_gradients_are() -> None:
    """The place of the last gradient is remembered; what the step writes is no such place."""
    whole = np.zeros((4, 1000), F)
    p = np.zeros(1000, F)
    opt = fm.SGD([p], lr=1.0)
    for row in whole:
        assert opt.step([row])
    p.resize(10 ** 6, refcheck=False)           # p moves away, and what comes is where it was
    p.resize(1000, refcheck=False)
    other = [np.ones(1000, F) for _ in range(4)]
    assert all(opt.step([g]) for g in other)
    for bad in (p, p[:], p.reshape(10, 100).reshape(1000)):
        with pytest.raises(ValueError, match=r"grads\[0\] overlaps params\[0\]"):
            opt.step([bad])
    assert (p == -4).all()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_every_place_between_and_in_what_is_written(count: int) -> None:
    """Parameters in every second row of a matrix, gradients anywhere in it."""
    size = 16
    memory = np.zeros(3 * size * (count + 1), F)
    rows = [memory[size * (3 * i + 1):][:size] for i in range(count)]
    opt = fm.SGD(rows, lr=0.0)
    clear = np.zeros(size, F)
    for start in range(0, memory.size - size, 3):
        g = memory[start:start + size]
        hit = [i for i in range(count) if np.shares_memory(rows[i], g)]
        for i in {0, count - 1, count // 2}:
            grads = [clear] * count
            grads[i] = g
            if hit:
                with pytest.raises(ValueError, match=rf"grads\[{i}\] overlaps params\[{hit[0]}\]"):
                    opt.step(grads)
            else:
                assert opt.step(grads)


def test_a_list_that_another_thread_changes() -> None:
    """The gradients live until the step is over, whoever else lets go of them."""
    n = 4_000_000                               # the step takes milliseconds, without the GIL
    p = np.zeros(n, F)
    opt = fm.SGD([p], lr=1.0)
    for _ in range(10):
        grads = [np.ones(n, F)]

        def replace(grads: list[Any] = grads) -> None:
            time.sleep(5e-4)
            grads[0] = None
            grads[0] = np.full(n, 7, F)

        thread = threading.Thread(target=replace)
        thread.start()
        opt.step(grads)
        thread.join()
        assert p.min() == p.max()


def test_a_gradient_that_looks_into_the_engine() -> None:
    """While gradients are checked, those of the last step are gone already."""
    opt = fm.NovoGrad([np.zeros(3, F), np.zeros(3, F)])
    assert opt.step([np.ones(3, F), np.ones(3, F)])
    engine = opt._engine
    assert engine is not None
    errors = []

    class Curious:
        @property
        def __class__(self) -> Any:     # type: ignore[override]
            for ask in (engine.norms, lambda: engine.load(0, 0, np.zeros(3, F))):
                try:
                    ask()
                except RuntimeError as error:
                    errors.append(str(error))
            return np.ndarray

    with pytest.raises(TypeError, match=r"grads\[0\] must be a NumPy array, not Curious"):
        opt.step([Curious(), np.ones(3, F)])        # type: ignore[list-item]
    assert errors
    assert {"only a function that a step calls" in error for error in errors} == {True}
