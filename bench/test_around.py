"""Benchmarks around the steps: schedules, averages of weights, checkpoints, smoothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastmom as fm
from bench.conftest import ONE, assert_finite, rows, teams
from bench.workloads import LISTS
from fastmom.optim import schedules

NUMPY = "NumPy"
VALUES: dict[str, Callable[[int], float]] = {
    "plain Python function": lambda step: 0.1 * 0.5 ** (step // 1000),      # the control
    "fastmom Constant": schedules.Constant(0.1),
    "fastmom Linear": schedules.Linear(0.0, 0.1, 1000),
    "fastmom Sutskever": schedules.Sutskever(),
    "fastmom Step": schedules.Step(0.1, 0.5, 1000),
    "fastmom Exponential": schedules.Exponential(0.1, 0.5, 1000),
    "fastmom Cosine": schedules.Cosine(0.1, 0.0, 1000),
    "fastmom Cosine, restarts": schedules.Cosine(0.1, 0.0, 10, period_multiplier=2),
    "fastmom OneCycle": schedules.OneCycle(0.1, 1000),
    "fastmom Piecewise": schedules.Piecewise([(0, schedules.Linear(0.0, 0.1, 100)), (100, 0.1)])}
SCHEDULED: dict[str, dict[str, Any]] = {
    f"{ONE}, constants": {"lr": 0.01, "momentum": 0.9},
    f"{ONE}, lr": {"lr": schedules.Cosine(0.01, 0.0, 10**6), "momentum": 0.9},
    f"{ONE}, lr and momentum": {"lr": schedules.Cosine(0.01, 0.0, 10**6),
                               "momentum": schedules.Sutskever()}}
MLP, RESNET = "MNIST MLP", "ResNet-50"


def arrays(name: str, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in LISTS[name]]


@rows(("100 values of a schedule", list(VALUES), False))
def test_schedule(case: str, who: str, measure: Callable[..., None]) -> None:
    value, steps = VALUES[who], range(500, 600)

    def run() -> None:
        for step in steps:
            value(step)

    assert all(math.isfinite(value(step)) for step in steps)
    measure(run)


@rows((f"SGD step, {MLP}, scheduled", list(SCHEDULED), False))
def test_scheduled_step(case: str, who: str, measure: Callable[..., None]) -> None:
    params, grads, hyper = arrays(MLP), arrays(MLP, 1), SCHEDULED[who]
    optimizer = fm.SGD(params, **hyper)
    optimizer.step(grads)
    in_force = {name: value(0) if callable(value) else value for name, value in hyper.items()}
    expected = [p - in_force["lr"] * g for p, g in zip(arrays(MLP), grads, strict=True)]
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_allclose(p, e, rtol=1e-5, atol=1e-6)
    measure(lambda: optimizer.step(grads))
    assert_finite(params)


FUSED = teams(10**6)
UPDATE, OUT, WITHOUT = f"{ONE}, EMA.update", f"{ONE}, NumPy out=", f"{ONE}, no EMA"


@rows(*((f"SGD step with EMA, {name}", [*FUSED, UPDATE, OUT, WITHOUT], name == RESNET)
        for name in (MLP, RESNET)))
def test_ema(case: str, who: str, measure: Callable[..., None]) -> None:
    name = case.partition(", ")[2]
    params, grads = arrays(name), arrays(name, 1)
    optimizer = fm.SGD(params, lr=0.1, momentum=0.9)
    averages: list[Any] = [p.copy() for p in params]
    scratch = [np.empty_like(p) for p in params]

    def average() -> None:
        for p, e, s in zip(params, averages, scratch, strict=True):
            np.subtract(p, e, out=s)
            np.multiply(s, 0.1, out=s)
            np.add(e, s, out=e)

    after: Callable[[], object] = lambda: None      # noqa: E731
    if who == OUT:
        after = average
    elif who != WITHOUT:
        ema = fm.EMA(params, 0.9, optimizer=optimizer if who in FUSED else None)
        averages, after = ema.averages, after if who in FUSED else ema.update

    def run() -> None:
        optimizer.step(grads)
        after()

    before = [p.copy() for p in params]
    run()
    if who != WITHOUT:
        for b, p, e in zip(before, params, averages, strict=True):
            np.testing.assert_allclose(e, 0.9 * b + 0.1 * p, rtol=1e-5, atol=1e-6)
    optimizer.lr = 1e-9
    measure(run, "memory" if name == RESNET else "cache")
    assert_finite([*params, *averages])


@rows(*((f"{what} a checkpoint, {name}", ["fastmom", NUMPY], name == RESNET)
        for name in (MLP, RESNET) for what in ("save", "load")))
def test_checkpoint(case: str, who: str, measure: Callable[..., None], tmp_path: Path) -> None:
    """Parameters and velocities; fastmom's are checked, and forced to the disk."""
    what, name = case.split()[0], case.partition(", ")[2]
    params, file = arrays(name), tmp_path / "checkpoint.npz"
    optimizer = fm.SGD(params, lr=0.1, momentum=0.9)
    optimizer.step(arrays(name, 1))
    velocity = [state["velocity"] for state in optimizer.state]

    def save() -> None:
        if who == NUMPY:
            np.savez(file, *params, *velocity)
        else:
            fm.checkpoint.save(file, params=params, optimizer=optimizer)

    def load() -> None:
        if who == NUMPY:
            with np.load(file) as stored:
                for array, key in zip([*params, *velocity], stored.files, strict=True):
                    array[...] = stored[key]
        else:
            fm.checkpoint.load(file, params=params, optimizer=optimizer)

    expected = [array.copy() for array in (*params, *velocity)]
    save()
    for array in params:
        array[...] = 0
    load()
    for found, array in zip([*params, *velocity], expected, strict=True):
        np.testing.assert_array_equal(found, array)
    measure(save if what == "save" else load, "files")


SMOOTHING = ["fastmom smooth", "fastmom ExponentialSmoothing, one by one", "Python loop"]


@rows(*((f"smooth {n:,} values", SMOOTHING, n > 1000) for n in (1000, 100_000)),
      ("smooth 1,000,000 values", SMOOTHING[:1], False))
def test_smoothing(case: str, who: str, measure: Callable[..., None]) -> None:
    series = np.random.default_rng(0).standard_normal(int(case.split()[1].replace(",", "")))
    values = series.tolist()

    def one_by_one() -> list[Any]:
        update = fm.ExponentialSmoothing(0.9).update
        return [update(value) for value in values]

    def loop() -> list[float]:
        state, weight, found = 0.0, 1.0, []
        for value in values:
            state, weight = 0.9 * state + 0.1 * value, 0.9 * weight
            found.append(state / (1 - weight))
        return found

    run: Callable[[], Any] = dict(zip(SMOOTHING, (lambda: fm.smooth(series, 0.9), one_by_one, loop),
                                      strict=True))[who]
    np.testing.assert_allclose(run(), loop(), atol=1e-12)
    measure(run)
