"""Every optimizer on every build equals its float64 NumPy reference, and itself bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builds import using
from cases import COMMON, OPTIMIZERS, SIZES, label
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmom as fm
from fastmom.kernels import isa
from fastmom.optim.reference import Reference

STEPS = 10
Case = tuple[type[fm.Optimizer], dict[str, Any]]


def problem(sizes: list[int], dtype: Any, seed: int = 0) -> tuple[list[Any], list[list[Any]]]:
    """Parameters, and for each step gradients without a zero."""
    rng = np.random.default_rng(seed)
    params = [rng.standard_normal(n).astype(dtype) for n in sizes]
    grads = [[np.where(g == 0, 1, g).astype(dtype) for g in map(rng.standard_normal, sizes)]
             for _ in range(STEPS)]
    return params, grads


def run(case: Case, params: list[Any], grads: list[list[Any]], parts: int = 0,
        **common: Any) -> fm.Optimizer:
    """Step copies of the parameters by that many threads; returns the optimizer."""
    cls, hyper = case
    optimizer = cls([p.copy() for p in params], **{"lr": 0.05, **hyper, **common})
    assert optimizer._engine is not None
    optimizer._engine.parts = parts
    buffers = [np.empty_like(p) for p in params]        # bound once, filled anew
    for step in grads:
        for buffer, g in zip(buffers, step, strict=True):
            buffer[...] = g
        assert optimizer.step(buffers)
    return optimizer


def values(optimizer: fm.Optimizer) -> list[Any]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return params + [v for s in optimizer.state for v in s.values()]


class Oracle:
    """A reference beside an optimizer, and how large each of its arrays has been."""

    def __init__(self, optimizer: fm.Optimizer) -> None:
        self.optimizer = optimizer
        self.dtype = values(optimizer)[0].dtype     # numbers of all parameters are wider
        # longdouble as the oracle of float64: its own rounding must not count
        wide = np.float64 if values(optimizer)[0].dtype == np.float32 else np.longdouble
        self.reference = Reference(optimizer, wide)
        self.peaks = [0.0] * len(self.arrays())
        self.steps = 0
        self.note()

    def arrays(self) -> list[Any]:
        return self.reference.params + [v for s in self.reference.state for v in s.values()]

    def note(self) -> None:
        self.peaks = [max(peak, float(np.max(np.abs(a), initial=0.0)))
                      for peak, a in zip(self.peaks, self.arrays(), strict=True)]

    def restart(self) -> None:
        """Go on from where the kernel stands."""
        for own, kernel in zip(self.arrays(), values(self.optimizer), strict=True):
            own[...] = kernel
        self.steps = 0

    def step(self, grads: list[Any]) -> None:
        self.reference.step(grads)
        self.steps += 1
        self.note()

    def check(self) -> None:
        """Within two units in the last place of each array's peak, for every step.

        In float64 YellowFin's momentum adds 5. Of h_min and h_max, near 10^5 here, the logarithms
        are near 11.5, where half a unit in the last place is 4 eps: log, average and correction
        bring h off by 3 times that. Momentum changes by at most 0.193 times the change of
        ``log(h_max / h_min)``, which is 24 eps, or by 0.123 times that of ``log(h_min^2 D^2 / C)``,
        which is 30 eps.
        """
        more = isinstance(self.optimizer, fm.YellowFin) and self.dtype == np.float64
        units = 7 if more else 2
        for got, want, peak in zip(values(self.optimizer), self.arrays(), self.peaks, strict=True):
            error = np.max(np.abs(got - want), initial=0.0)
            assert error <= units * self.steps * np.finfo(self.dtype).eps * peak


def check(case: Case, sizes: list[int], dtype: Any, **common: Any) -> None:
    """Each step on its own, from where the kernel stands, and all of them together.

    Other instruction-set builds that this CPU can run give the same bits.
    """
    params, grads = problem(sizes, dtype)
    optimizer = run(case, params, [], **common)
    single, together = Oracle(optimizer), Oracle(optimizer)
    for step in grads:
        single.restart()
        single.step(step)
        together.step(step)
        assert optimizer.step(step)
        single.check()
    together.check()
    for name in set(isa.available()) - {isa.in_use()}:
        with using(name):
            same_bits(values(optimizer), values(run(case, params, grads, **common)))


def same_bits(first: list[Any], second: list[Any]) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_equals_reference(case: Case, dtype: Any) -> None:
    *small, large = SIZES
    for size in small:
        check(case, [size], dtype)
    check(case, [*small, large] if dtype == np.float32 else small, dtype)   # longdouble is slow


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("common", COMMON, ids=str)
def test_gradient_options_equal_reference(common: dict[str, Any], dtype: Any) -> None:
    for case in OPTIMIZERS[:1] + OPTIMIZERS[4:5]:
        check(case, SIZES, dtype, **common)


@pytest.mark.parametrize("common", [{}, {"clip_norm": 1.0, "clip_value": 0.01}], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_same_bits_for_any_threads_and_build(case: Case, dtype: Any,
                                             common: dict[str, Any]) -> None:
    if case[0] is fm.Rprop and common:
        common = {"nonfinite": "raise"}     # it follows signs alone and takes no limits
    params, grads = problem([*SIZES[:-1], 30011], dtype)        # some chunks for each of 8 threads
    first = values(run(case, params, grads, 1, **common))
    for name in isa.available():
        with using(name):
            for parts in (1, 2, 3, 8):
                same_bits(first, values(run(case, params, grads, parts, **common)))


@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_skipped_tensors_keep_their_own_time(case: Case) -> None:
    """None leaves a tensor, its state and its age alone, as if its steps had not been."""
    params, grads = problem([5, 6, 7], np.float64)
    optimizer = run(case, params, [])
    reference = Oracle(optimizer)
    for t, step in enumerate(grads):
        given = [g if (t + i) % 3 else None for i, g in enumerate(step)]
        assert optimizer.step(given)
        reference.step(given)
    reference.check()


def test_hyper_parameters_may_change_between_steps() -> None:
    params, grads = problem([9], np.float64)
    optimizer = run((fm.SGD, {"momentum": 0.9}), params, [])
    reference = Oracle(optimizer)
    for t, step in enumerate(grads):
        optimizer.lr, optimizer.momentum = 0.1 / (t + 1), t / 10
        optimizer.step(step)
        reference.step(step)
    reference.check()


def test_any_number_may_be_a_schedule() -> None:
    params, grads = problem([9, 20], np.float64)
    optimizer = run((fm.SGD, {"lr": lambda t: 0.1 / (t + 1), "momentum": lambda t: t / 10,
                              "weight_decay": lambda t: 0.01 * t}), params, [],
                    clip_norm=lambda t: 1 + t, grad_scale=lambda t: 2 ** t)
    reference = Oracle(optimizer)
    for step in grads:
        assert optimizer.step(step)
        reference.step(step)
    reference.check()


def test_groups_have_their_own_hyper_parameters() -> None:
    params, grads = problem([5, 6, 7], np.float64)
    a, b, c = (p.copy() for p in params)
    optimizer = fm.SGD([{"params": [a, b], "lr": 0.5, "momentum": 0.5}, {"params": [c]}], lr=0.1)
    reference = Oracle(optimizer)
    for t, step in enumerate(grads):
        optimizer.param_groups[1]["momentum"] = t / 10
        optimizer.step(step)
        reference.step(step)
    reference.check()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_list_of_tensors(data: st.DataObject) -> None:
    """Random shapes, dtypes, offsets and strides, hyper-parameters and None gradients."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shapes = data.draw(st.lists(st.lists(st.integers(0, 40), max_size=3), min_size=1, max_size=6))
    params = []
    for shape in shapes:
        dtype = data.draw(st.sampled_from([np.float32, np.float64]))
        offset = data.draw(st.integers(0, 3))
        size = int(np.prod(shape))
        params.append(rng.standard_normal(size + offset).astype(dtype)[offset:].reshape(shape))
    share = st.floats(0, 1)
    optimizer = fm.SGD(
        params, lr=data.draw(share), momentum=data.draw(share), nesterov=data.draw(st.booleans()),
        weight_decay=data.draw(share), decay=data.draw(share),
        convention=data.draw(st.sampled_from(["torch", "keras", "ema"])),
        clip_norm=data.draw(st.none() | st.floats(0.01, 10)))
    assert optimizer._engine is not None
    optimizer._engine.parts = data.draw(st.integers(0, 3))
    reference = Reference(optimizer, np.longdouble)
    for _ in range(7):
        grads = [rng.standard_normal(p.shape).astype(p.dtype) if data.draw(st.booleans()) else None
                 for p in params]
        strided = [np.repeat(g, 2, -1)[..., ::2] if g is not None and g.ndim else g for g in grads]
        if any(g is not None and not g.flags.c_contiguous for g in strided):
            with pytest.raises(ValueError, match="not C-contiguous"):
                optimizer.step(strided)
        assert optimizer.step(grads) == any(g is not None for g in grads)
        reference.step(grads)
    for got, want in zip(params, reference.params, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=100 * np.finfo(got.dtype).eps)
