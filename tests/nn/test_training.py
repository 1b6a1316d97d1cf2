"""A model learns what plain NumPy learns, the same in every run, in buffers made once."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn
from fastmom.nn.loop import Training


def same(a: Any, b: Any) -> bool:
    return all(p.dtype == q.dtype and np.array_equal(p, q)
               for p, q in zip(a.params, b.params, strict=True))


# What is learned ----------------------------------------------------------------------------------

def numpy_steps(params: list[Any], x: Any, y: Any, size: int, lr: float,
                m: float) -> Iterator[tuple[float, list[Any]]]:
    """Yield loss and gradients of each batch, of a ReLU network that Nesterov's momentum trains."""
    velocity = [np.zeros_like(p) for p in params]
    for i in range(0, len(x), size):
        xb, yb = x[i:i + size].reshape(-1, 20), y[i:i + size]
        n, (w1, b1, w2, b2) = len(yb), params
        hidden = np.maximum(xb @ w1 + b1, 0)
        e = np.exp(hidden @ w2 + b2)
        p = e / e.sum(axis=1, keepdims=True)
        dz = (p - np.eye(3)[yb]) / n
        dh = dz @ w2.T * (hidden > 0)
        grads = [xb.T @ dh, dh.sum(axis=0), hidden.T @ dz, dz.sum(axis=0)]
        yield -np.log(p[np.arange(n), yb]).sum(), grads
        for q, v, g in zip(params, velocity, grads, strict=True):
            v[...] = m * v + g
            q -= lr * (g + m * v)


def test_trains_as_plain_numpy_does(make: Any, problem: Any) -> None:
    x, y = problem(70, np.float64)
    layers = [nn.Flatten(input_shape=(4, 5)), nn.Dense(8, activation="relu"),
              nn.Dense(3, activation="softmax")]
    model = make(layers, dtype="float64", lr=0.1, momentum=0.9, nesterov=True)
    params = [p.copy() for p in model.params]
    losses, grads = zip(*numpy_steps(params, x, y, 32, 0.1, 0.9), strict=True)
    history = model.fit(x, y, shuffle=False)    # the last batch holds 6
    assert history.history["loss"] == [pytest.approx(sum(losses) / 70, rel=1e-13)]
    for got, expected in zip(model.params + model.grads, params + grads[-1], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_float32_follows_float64(make: Any, problem: Any) -> None:
    losses = {}
    for dtype in ("float32", "float64"):
        model = make([nn.Flatten(input_shape=(4, 5)), nn.Dense(8, activation="relu"),
                      nn.Dense(3, activation="softmax")], dtype=dtype, momentum=0.9)
        losses[dtype] = model.fit(*problem(70, dtype), epochs=3).history["loss"]
    assert losses["float32"] == pytest.approx(losses["float64"], rel=1e-5)
    assert losses["float32"] != losses["float64"]


def test_the_optimizer_steps_by_the_gradient_buffers(make: Any, problem: Any) -> None:
    model = make(lr=1.0)
    before = [p.copy() for p in model.params]
    model.train_on_batch(*problem(20))
    for p, old, g in zip(model.params, before, model.grads, strict=True):
        assert g.any()
        np.testing.assert_array_equal(p, old - g)


def test_learns_64_digits_by_heart() -> None:
    (x, y), _ = fm.data.load_digits(64, 1, cache=False)
    model = nn.Sequential([nn.Flatten(input_shape=(28, 28)), nn.Dense(128, activation="relu"),
                           nn.Dropout(0.2), nn.Dense(10, activation="softmax")])
    model.compile("sgd", lr=0.05, momentum=0.9, nesterov=True, metrics=["accuracy"])
    model.fit(x / 255, y, epochs=60, verbose=0)
    loss, accuracy = model.evaluate(x / 255, y)
    assert accuracy == 1
    assert loss < 0.05


def test_compiling_again_keeps_the_weights(make: Any, problem: Any) -> None:
    (x, y), model = problem(20), make(momentum=0.9)
    model.fit(x, y)
    first, weights = model.optimizer, [p.copy() for p in model.params]
    model.compile(fm.SGD(lr=0.0), metrics=["acc"])
    assert set(model.fit(x, y).history) == {"loss", "acc"}
    assert (first.iterations, model.optimizer.iterations) == (1, 1)
    for p, q in zip(weights, model.params, strict=True):
        np.testing.assert_array_equal(p, q)


# The same in every run ----------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_seed_same_bits_with_any_threads(dtype: str, problem: Any) -> None:
    x, y = problem(256, dtype, shape=(28, 28), classes=10)
    runs = []
    for threads, seed in ((1, 7), (1, 7), (2, 7), (1, 8)):
        model = nn.Sequential([nn.Flatten(input_shape=(28, 28)), nn.Dense(128, activation="relu"),
                               nn.Dropout(0.2), nn.Dense(10, activation="softmax")],
                              seed=seed, dtype=dtype)
        model.compile("sgd", momentum=0.9, nesterov=True, metrics=["accuracy"])
        with fm.num_threads(threads):
            history = model.fit(x, y, epochs=2, validation_data=(x, y))
        runs.append((model, history.history))
    (first, expected), *again, (other, different) = runs
    for model, got in again:
        assert same(first, model)
        assert got == expected
    assert not same(first, other)
    assert different != expected


def test_using_the_model_does_not_disturb_its_training(make: Any, problem: Any) -> None:
    quiet, watched = make(momentum=0.9), make(momentum=0.9)
    for seed in range(5):
        x, y = problem(9, seed=seed)
        assert quiet.train_on_batch(x, y) == watched.train_on_batch(x, y)
        big = problem(3000, seed=100)       # more than any buffer so far
        assert watched.evaluate(*big) == watched.evaluate(*big)
        np.testing.assert_array_equal(watched.predict(big[0]), watched.predict(big[0]))
    assert same(quiet, watched)


def test_fit_is_a_step_per_batch(make: Any, problem: Any) -> None:
    (x, y), whole, stepwise = problem(70), make(momentum=0.9), make(momentum=0.9)
    history = whole.fit(x, y, shuffle=False)
    parts = [(i, min(32, 70 - i)) for i in (0, 32, 64)]
    logs = [stepwise.train_on_batch(x[i:i + n], y[i:i + n], return_dict=True) for i, n in parts]
    assert same(whole, stepwise)
    for name in ("loss", "accuracy"):
        mean = sum(log[name] * n for log, (_, n) in zip(logs, parts, strict=True)) / 70
        assert history.history[name] == [pytest.approx(mean, rel=1e-14)]


def test_every_epoch_takes_every_sample_in_a_new_order(make: Any, problem: Any,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), seen = problem(70), []
    model = make([nn.Dropout(0.0, input_shape=x.shape[1:]), nn.Flatten(), nn.Dense(3, "softmax")])
    step = Training.step
    monkeypatch.setattr(Training, "step", lambda self, xb, yb, w: seen.extend(
        zip(xb[:, 0, 0].tolist(), yb.tolist(), strict=True)) or step(self, xb, yb, w))
    model.fit(x, y, epochs=2)
    expected = list(zip(x[:, 0, 0].tolist(), y.tolist(), strict=True))
    first, second = seen[:70], seen[70:]
    assert sorted(first) == sorted(second) == sorted(expected)
    assert first != second
    assert expected not in (first, second)


@pytest.mark.parametrize("view", [lambda x: x[::2], lambda x: x[::-1], lambda x: x[3:]])
def test_views_are_as_good_as_copies(make: Any, problem: Any, view: Any) -> None:
    (x, y), a, b = problem(70), make(), make()
    a_history, b_history = a.fit(view(x), view(y)), b.fit(view(x).copy(), view(y).copy())
    assert a_history.history == b_history.history
    assert same(a, b)
    assert a.evaluate(view(x), view(y)) == b.evaluate(view(x).copy(), view(y).copy())


# Using a model ------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 2, 999, 1000, 1001, 2500])
def test_evaluate_and_predict_agree(make: Any, problem: Any, n: int) -> None:
    (x, y), model = problem(n, np.float64), make(dtype="float64")
    model.train_on_batch(x[:1], y[:1])      # small buffers
    p, (loss, accuracy) = model.predict(x), model.evaluate(x, y)
    assert p.shape == (n, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    for i in range(0, n, 700):
        np.testing.assert_allclose(model.predict(x[i:i + 1]), p[i:i + 1], rtol=1e-12)
    assert loss == pytest.approx(-np.log(p[np.arange(n), y]).mean(), rel=1e-13)
    assert accuracy == np.mean(p.argmax(axis=1) == y)


def test_predict_gives_a_new_array_and_reads_only(make: Any, problem: Any) -> None:
    (x, y), model = problem(20), make()
    x.flags.writeable = y.flags.writeable = False
    first = model.predict(x)
    kept = first.copy()
    model.fit(x, y)
    model.fit(x, y, shuffle=False)
    model.evaluate(x, y)
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(model.predict(x), kept)
    assert model.predict(x[:0]).shape == (0, 3)


# Memory -------------------------------------------------------------------------------------------

def buffers(model: nn.Sequential) -> dict[str, int]:
    """The address of every array in the model and its optimizer."""
    found = {}
    for i, layer in enumerate(model.layers):
        arrays = [(k, v) for k, v in vars(layer).items() if isinstance(v, np.ndarray)]
        arrays += [(f"grads{j}", g) for j, g in enumerate(layer.grads)]
        found |= {f"{i}.{name}": a.ctypes.data for name, a in arrays if name != "x"}
    for i, state in enumerate(model.optimizer.state if model.optimizer else []):
        found |= {f"state{i}.{name}": a.ctypes.data for name, a in state.items()}
    return found


def test_buffers_are_made_once(make: Any, problem: Any) -> None:
    (x, y), model = problem(64), make(momentum=0.9)
    model.fit(x, y, batch_size=64)
    before, grads = buffers(model), model.grads
    assert {"1.y", "1.kernel", "1.grads0", "2.y", "2.kept", "3.dx", "state3.velocity"} <= {*before}
    assert "1.dx" not in before     # nobody would read it
    for n in (64, 1, 7):
        model.train_on_batch(x[:n], y[:n])
        model.predict(x[:n])
        model.evaluate(x[:n], y[:n])
        model.train_on_batch(x[:n], y[:n])
        assert buffers(model) == before
    assert all(a is b for a, b in zip(model.grads, grads, strict=True))


def test_memory_does_not_grow(make: Any, problem: Any) -> None:
    (x, y), model = problem(64), make(momentum=0.9)
    model.fit(x, y, epochs=3, validation_data=(x, y))
    model.train_on_batch(x, y)      # a larger batch
    tracemalloc.start()
    try:
        model.fit(x, y, epochs=3, validation_data=(x, y))
        first, _ = tracemalloc.get_traced_memory()
        for _ in range(500):
            model.train_on_batch(x, y)
            model.predict(x)
        model.fit(x, y, epochs=250, validation_data=(x, y))     # of two steps each
        growth = tracemalloc.get_traced_memory()[0] - first
        assert growth < 20 * 1000       # in 1000 steps; an array is 100 bytes without its data
    finally:
        tracemalloc.stop()


class Peaks(nn.Callback):
    """Notes how much memory each batch needed besides what was there."""

    def __init__(self) -> None:
        self.peaks: list[int] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now, peak = tracemalloc.get_traced_memory()
        self.peaks.append(peak - now)
        tracemalloc.reset_peak()


@pytest.mark.parametrize("step", [1, 2])
def test_a_batch_needs_no_new_array(make: Any, problem: Any, step: int) -> None:
    batch, units = 256, 512
    model = make([nn.Flatten(input_shape=(28, 28)), nn.Dense(units, activation="relu"),
                  nn.Dropout(0.2), nn.Dense(units, activation="relu"),
                  nn.Dense(3, activation="softmax")], momentum=0.9)
    x, y = problem(1024 * step, shape=(28, 28))
    x, y, peaks = x[::step], y[::step], Peaks()
    model.fit(x, y, batch_size=batch)
    tracemalloc.start()
    try:
        model.fit(x, y, batch_size=batch, callbacks=[peaks])
    finally:
        tracemalloc.stop()
    # what there is: views of buffers, and figures; an activation takes 512 kB
    assert max(peaks.peaks[1:]) < 4000


def test_epochs_take_no_more_and_more_memory(make: Any, problem: Any) -> None:
    (x, y), model, after = problem(2000), make(momentum=0.9), []
    measure = nn.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after.append(tracemalloc.get_traced_memory()[0]))
    tracemalloc.start()
    try:
        model.fit(x, y, epochs=10, verbose=0, callbacks=[measure], validation_data=(x, y))
    finally:
        tracemalloc.stop()
    assert max(after[2:]) - after[1] < 5000     # the history and the callback's list


def test_data_is_not_kept_alive(make: Any, problem: Any) -> None:
    (x, y), model = problem(64), make()
    model.fit(x, y)
    model.evaluate(x, y)
    model.predict(x)
    alive = weakref.ref(x)
    del x
    assert alive() is None
