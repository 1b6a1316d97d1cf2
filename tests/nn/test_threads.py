"""One model in several threads: answers as in one, and training refuses company."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmom import nn

THREADS, CALLS = 8, int(os.environ.get("FASTMOM_TEST_CALLS", "2500"))


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """Let Python change threads every few microseconds, where it would take 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Call `work` with each thread's number, all at the same time; an exception is raised."""
    start = threading.Barrier(threads)

    def run(i: int) -> Any:
        start.wait()
        return work(i)
    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(run, i) for i in range(threads)]]


def samples(zeros: float, n: int = 60) -> Any:
    rng = np.random.default_rng(1)
    x = rng.random((n, 12, 12), np.float32)
    x[rng.random(x.shape) < zeros] = 0
    return x


def network() -> nn.Sequential:
    """A model whose first layer may take nonzeros, with every kind of buffer."""
    model = nn.Sequential([nn.Rescaling(0.5), nn.Flatten(), nn.Dense(48, activation="gelu"),
                           nn.BatchNorm(), nn.Dropout(0.3), nn.Dense(40, activation="tanh"),
                           nn.Dense(5, activation="softmax")], seed=2)
    model.compile("sgd", lr=0.01, metrics=["accuracy"])
    return model


# Parts of the samples by first and number: the products' bits depend on the number
PARTS = [(i, n) for i in (0, 7, 19) for n in (1, 2, 3, 5, 8, 13, 21, 40)]


@pytest.mark.parametrize("zeros", [0.9, 0.0], ids=["sparse", "dense"])
def test_predictions_are_those_of_one_thread(zeros: float) -> None:
    model, x = network(), samples(zeros)
    expected = [model.predict(x[i:i + n]) for i, n in PARTS]

    def work(thread: int) -> int:
        rng, wrong = np.random.default_rng(thread), 0
        for which in rng.integers(0, len(PARTS), CALLS):
            i, n = PARTS[which]
            wrong += not np.array_equal(model.predict(x[i:i + n]), expected[which])
        return wrong
    assert in_threads(work) == [0] * THREADS


@pytest.mark.parametrize("zeros", [0.9, 0.0], ids=["sparse", "dense"])
def test_evaluations_are_those_of_one_thread(zeros: float) -> None:
    model, x = network(), samples(zeros)
    y = np.arange(60) % 5
    expected = [model.evaluate(x[i:i + n], y[i:i + n], verbose=0) for i, n in PARTS]

    def work(thread: int) -> bool:
        return all(model.evaluate(x[i:i + n], y[i:i + n], verbose=0) == expected[which]
                   for which in np.random.default_rng(thread).integers(0, len(PARTS), 200)
                   for i, n in [PARTS[which]])
    assert all(in_threads(work))


def test_racing_first_calls_build_once() -> None:
    x, known = samples(0.9), network()
    expected = known.predict(x)
    for _ in range(20):
        model = network()
        for outputs in in_threads(lambda i, model=model: model.predict(x)):    # type: ignore[misc]
            np.testing.assert_array_equal(outputs, expected)
        assert model.optimizer is not None
        model.train_on_batch(x, np.arange(60) % 5)
        assert model.optimizer.iterations == 1


# Who needs the model for itself -------------------------------------------------------------------

class Waiting(nn.Layer):
    """Passes its input on once it may."""

    def __init__(self) -> None:
        super().__init__(input_shape=(3,))
        self.reached, self.go = threading.Event(), threading.Event()

    def forward(self, x: Any, training: bool) -> Any:
        self.reached.set()
        assert self.go.wait(60)
        return x

    def backward(self, dy: Any) -> Any:
        return dy


X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])


def waiting() -> tuple[nn.Sequential, Waiting]:
    layer = Waiting()
    model = nn.Sequential([layer, nn.Dense(2, activation="softmax")])
    model.compile("sgd", lr=0.1)
    return model, layer


USES: dict[str, Callable[[nn.Sequential, Path], Any]] = {
    "predict": lambda model, path: model.predict(X),
    "evaluate": lambda model, path: model.evaluate(X, Y, verbose=0),
    "get_weights": lambda model, path: model.get_weights(),
    "save": lambda model, path: model.save(path / "other.npz"),
    "save_weights": lambda model, path: model.save_weights(path / "other.npz"),
}
CHANGES: dict[str, Callable[[nn.Sequential, Path], Any]] = {
    "fit": lambda model, path: model.fit(X, Y, verbose=0),
    "train_on_batch": lambda model, path: model.train_on_batch(X, Y),
    "compile": lambda model, path: model.compile("sgd"),
    "add": lambda model, path: model.add(nn.Dense(2)),
    "set_weights": lambda model, path: model.set_weights(model.weights),
    "load_weights": lambda model, path: model.load_weights(path / "weights.npz"),
}


def beside(first: Callable[..., Any], second: Callable[..., Any], path: Path) -> nn.Sequential:
    """Call `second` while `first` waits in another thread, then let it end."""
    model, layer = waiting()
    model.save_weights(path / "weights.npz")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first, model, path)
        try:
            assert layer.reached.wait(60)
            second(model, path)
        finally:
            layer.go.set()
        running.result()
    return model


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_a_change_beside_a_use(use: str, change: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"{change} needs the model for itself, but predict or"):
        beside(USES[use], CHANGES[change], tmp_path)


@pytest.mark.parametrize("other", [*USES, *CHANGES])
@pytest.mark.parametrize("training", ["fit", "train_on_batch"])
def test_anything_beside_training(training: str, other: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"another thread.* is at {training}"):
        beside(CHANGES[training], (USES | CHANGES)[other], tmp_path)


def test_uses_beside_each_other_and_then_training(tmp_path: Path) -> None:
    model = beside(USES["predict"], lambda model, path: model.get_weights(), tmp_path)
    for name, call in (USES | CHANGES).items():
        if name != "add":       # the weights in the file are those of the layers before
            call(model, tmp_path)


@pytest.mark.parametrize("name", [*USES, *CHANGES])
def test_in_a_callback(name: str, tmp_path: Path) -> None:
    """Using the model is fine there, and so is setting weights; a second training is not."""
    model, layer = waiting()
    layer.go.set()
    model.save_weights(tmp_path / "weights.npz")
    calls: list[Any] = []
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[nn.LambdaCallback(
        on_train_begin=lambda logs=None: calls.append(refused(
            lambda: (USES | CHANGES)[name](model, tmp_path))))])
    expected = (f"{name} cannot be called during fit"
                if name in ("fit", "train_on_batch", "compile", "add") else "")
    assert calls == [expected]
    model.fit(X, Y, verbose=0)


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return ""


def test_an_interrupt_at_any_instruction_leaves_the_model_usable(tmp_path: Path) -> None:
    """Ctrl-C may fall between taking the model and the training, or after it."""
    model, layer = waiting()
    layer.go.set()
    model.save_weights(tmp_path / "weights.npz")
    for name in ("train_on_batch", "predict", "load_weights"):
        reached = 0
        for stop in range(1, 25):
            reached += call_until(
                lambda name=name: (USES | CHANGES)[name](model, tmp_path), stop)  # type: ignore[misc]
            for use in (lambda: model.train_on_batch(X, Y), lambda: model.predict(X)):
                use()
                in_threads(lambda i, use=use: use(), 1)     # type: ignore[misc]
        assert reached > 3


def call_until(call: Callable[[], Any], stop: int) -> bool:
    """Raise KeyboardInterrupt at this line of the guard's; return whether it was reached."""
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.endswith("guard.py"):
            return trace if event == "call" else None
        lines += event == "line"
        if lines == stop:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False
