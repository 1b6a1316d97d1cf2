"""Programs as articles on momentum and users of Keras write them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn

MNIST = os.environ.get("FASTMOM_DATA")


# One: a small regression by name of the optimizer -------------------------------------------------

def regression(**hyper: Any) -> tuple[Any, list[Any], list[Any], Any]:
    """The model, its weights before and after, and history, of the program of the article."""
    rng = np.random.default_rng(0)
    x, y = rng.random((100, 5)), rng.random((100, 1))

    model = nn.Sequential()
    model.add(nn.Dense(10, input_shape=[5]))
    model.add(nn.Dense(1))
    model.compile(optimizer="sgd", **hyper)
    before = model.get_weights()
    history = model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    return (x, y), before, model.weights, history.history["loss"]


def heavy_ball(data: Any, params: list[Any], lr: float, momentum: float) -> list[float]:
    """The same in plain NumPy and float64: v = momentum v + g; p -= lr v. Returns the losses."""
    x, y = data
    w1, b1, w2, b2 = params
    velocity, losses = [np.zeros_like(p) for p in params], []
    for _ in range(3):
        total = 0.0
        for i in range(0, 100, 32):
            xb, yb = x[i:i + 32], y[i:i + 32]
            hidden = xb @ w1 + b1
            difference = hidden @ w2 + b2 - yb
            total += (difference ** 2).sum()
            dz = 2 * difference / len(xb)
            dh = dz @ w2.T
            grads = [xb.T @ dh, dh.sum(axis=0), hidden.T @ dz, dz.sum(axis=0)]
            for p, v, g in zip(params, velocity, grads, strict=True):
                v[...] = momentum * v + g
                p -= lr * v
        losses.append(total / 100)
    return losses


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_article_one(momentum: float) -> None:
    data, before, after, losses = regression(momentum=momentum)
    params = [p.astype(np.float64) for p in before]
    expected = heavy_ball(data, params, 0.01, momentum)
    assert losses == pytest.approx(expected, rel=1e-5)
    for got, p in zip(after, params, strict=True):
        np.testing.assert_allclose(got, p, rtol=1e-4, atol=1e-6)


def test_article_one_is_about_momentum() -> None:
    (_, start, plain, slow), (_, same_start, ball, fast) = regression(), regression(momentum=0.9)
    for a, b, p, q in zip(start, same_start, plain, ball, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.allclose(p, q, rtol=1e-2)
    assert slow != fast


# Two: digits, with momentum and without -----------------------------------------------------------

def digits(data: Any, momentum: float) -> tuple[dict[str, Any], Any]:
    """History and evaluation of the program of the article."""
    (x_train, y_train), (x_test, y_test) = data
    x_train, x_test = x_train / 255.0, x_test / 255.0

    model = nn.Sequential([
        nn.Flatten(input_shape=(28, 28)),
        nn.Dense(128, activation="relu"),
        nn.Dropout(0.2),
        nn.Dense(10, activation="softmax")])
    sgd = fm.SGD(lr=0.01, decay=1e-6, momentum=momentum, nesterov=True)
    model.compile(optimizer=sgd, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, epochs=5, validation_data=(x_test, y_test))
    return history.history, model.evaluate(x_test, y_test, verbose=2)


def check(data: Any, capsys: pytest.CaptureFixture[str]) -> tuple[float, float]:
    """Run it with momentum 0.9 and 0; return the accuracies on the test images."""
    found = []
    for momentum in (0.9, 0.0):
        history, (loss, accuracy) = digits(data, momentum)
        *lines, last = capsys.readouterr().out.splitlines()
        assert [line[:9] for line in lines] == [f"epoch {i}/5" for i in range(1, 6)]
        assert last == f"loss {loss:.4f}  accuracy {accuracy:.4f}"
        for name in ("acc", "val_acc", "loss", "val_loss"):
            assert len(history[name]) == 5
        assert history["loss"][-1] < history["loss"][0]
        assert history["acc"][-1] > history["acc"][0]
        assert (history["val_loss"][-1], history["val_acc"][-1]) == (loss, accuracy)
        found.append(accuracy)
    return found[0], found[1]


def test_article_two(capsys: pytest.CaptureFixture[str]) -> None:
    with_momentum, without = check(fm.data.load_digits(2000, 500, cache=False), capsys)
    assert with_momentum > 0.85
    assert with_momentum > without + 0.05


@pytest.mark.slow
@pytest.mark.skipif(not MNIST, reason="FASTMOM_DATA names no directory with MNIST")
def test_article_two_on_mnist(capsys: pytest.CaptureFixture[str]) -> None:
    data = fm.data.load("mnist")
    with_momentum, without = check(((data.x_train, data.y_train), (data.x_test, data.y_test)),
                                   capsys)
    assert with_momentum > 0.97
    assert 0.93 < without < 0.95
