"""Runs in the background: knobs, recordings and recipes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest

import fastmom as fm
from fastmom.playground.recipe import recipe
from fastmom.playground.recording import SMOOTHING, Recording
from fastmom.playground.runs import METHODS, Knob, Run, Settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(commands.write(tmp_path_factory.mktemp("runs") / "digits"))


@pytest.fixture
def started(data: str) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(lr: float = 0.05, momentum: float = 0.9, **settings: Any) -> Run:
        run = Run(Settings(**{"data": data, "hidden": (16,)} | settings), Knob(lr), Knob(momentum),
                  pace=1e5)
        runs.append(run)
        run.go()
        return run
    yield start
    for run in runs:
        run.stop()


def until(there: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_knob_takes_effect_in_the_kernel() -> None:
    knob, p, g = Knob(0.9), np.zeros(1), np.ones(1)
    optimizer = fm.SGD([p], lr=1.0, momentum=knob)
    moved = []
    for _ in range(5):
        before = p.copy()
        optimizer.step([g])
        moved.append(float((before - p)[0]))
        if len(moved) == 3:
            knob.value = 0.0
    assert moved == pytest.approx([1.0, 1.9, 2.71, 1.0, 1.0])
    assert knob.turns == [(0, 0.9), (3, 0.0)]


def test_a_knob_that_is_turned_to_and_fro_between_two_steps_leaves_no_trace() -> None:
    knob = Knob(0.9)
    knob(0)
    knob.value = 0.1
    knob.value = 0.9
    assert (knob(1), knob.turns) == (0.9, [(0, 0.9)])


def test_a_turn_changes_the_running_optimizer(started: Callable[..., Run]) -> None:
    run = started(momentum=0.9)
    until(lambda: run.step > 50)
    run.momentum.value = 0.0
    until(lambda: len(run.momentum.turns) == 2)
    (at, _), = run.marks()
    until(lambda: run.step > at + 50)
    assert run.marks() == [(at, "m 0.9 → 0")]
    assert run.record is not None
    measured = run.record.measures
    after = [e for step, e in zip(measured["step"], measured["effective"], strict=False)
             if step > at]
    assert after == pytest.approx([0.05] * len(after), rel=1e-3)


def test_pause_and_stop(started: Callable[..., Run]) -> None:
    run = started()
    until(lambda: run.step > 10)
    run.pause()
    time.sleep(0.1)
    there = run.step
    time.sleep(0.1)
    assert run.step == there
    assert not run.running
    assert run.status().endswith("(paused)")
    run.go()
    until(lambda: run.step > there)
    run.stop()
    assert not run.alive


@pytest.mark.parametrize(("options", "said"), [
    ({"lr": 1e6}, "diverged at step"), ({"data": "no/such"}, "DataError: source is 'no/such'")])
def test_what_goes_wrong_is_said(started: Callable[..., Run], options: dict[str, Any],
                                 said: str) -> None:
    run = started(**options)
    until(lambda: not run.alive)
    assert said in run.status()


def test_a_method_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="method must be one of 'momentum', 'Nesterov', 'QHM'"):
        Settings(method="adam")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_recipe_gives_the_same_curve_to_the_bit(started: Callable[..., Run], method: str,
                                                    tmp_path: Path) -> None:
    run = started(method=method, momentum=0.0)
    for knob, value in ((run.momentum, 0.95), (run.lr, 0.01), (run.momentum, 0.0),
                        (run.lr, 0.1), (run.momentum, 0.5)):
        before = run.step
        until(lambda before=before: run.step > before + 20)
        knob.value = value
    until(lambda: len(run.marks()) == 5)
    run.stop()
    script, curve = tmp_path / "recipe.py", tmp_path / "curve.txt"
    script.write_text(recipe(run))
    subprocess.run([sys.executable, script, curve], check=True, capture_output=True, cwd=tmp_path)
    assert run.record is not None
    found = [float.fromhex(line) for line in curve.read_text().split()]
    assert found == run.record.steps["loss"]
    assert len(found) > 100


def test_no_recipe_of_nothing() -> None:
    with pytest.raises(ValueError, match="no steps to repeat yet"):
        recipe(Run(Settings(), Knob(0.1), Knob(0.9)))


def test_without_momentum_the_velocity_is_the_gradient() -> None:
    knob = Knob(0.9)
    model = fm.nn.Sequential([fm.nn.Dense(1, input_shape=(3,))])
    model.compile(fm.SGD(lr=0.1, momentum=knob))
    record = Recording(measure=1)
    turn = fm.nn.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(
        knob, "value", 0.9 if batch < 4 else 0.0))
    x = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    model.fit(x, x[:, :1], batch_size=10, verbose=0, callbacks=[record, turn])
    same = [v == pytest.approx(g) for v, g in zip(
        record.measures["velocity"], record.measures["gradient"], strict=True)]
    assert same == [True, *4 * [False], *5 * [True]]
    assert record.measures["cosine"][5:] == pytest.approx(5 * [1.0])


def test_what_is_recorded() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 1))
    model = fm.nn.Sequential([fm.nn.Dense(1, input_shape=(3,))], dtype="float64")
    model.compile(fm.SGD(lr=0.1, momentum=0.5))
    w, b = (a.copy() for a in model.params)
    record = Recording(measure=2)
    model.fit(x, y, batch_size=10, epochs=1, verbose=0, shuffle=False, callbacks=[record])
    velocity: Any = 0.0
    expected = []
    for i in range(0, 40, 10):
        error = x[i:i + 10] @ w + b - y[i:i + 10]
        g = np.concatenate([(2 * x[i:i + 10].T @ error / 10).ravel(), [2 * error.mean()]])
        velocity = 0.5 * velocity + g
        w, b = w - 0.1 * velocity[:3, None], b - 0.1 * velocity[3:]
        v, n = np.linalg.norm(velocity), np.linalg.norm(g)
        expected.append([i // 10 + 1, v, n, velocity @ g / v / n, 0.1 * v / n])
    assert np.transpose(list(record.measures.values())) == pytest.approx(np.array(expected[::2]))
    assert record.steps["loss"] == list(model.batch_losses)
    assert record.steps["smooth"] == pytest.approx(list(fm.smooth(record.steps["loss"], SMOOTHING)))
