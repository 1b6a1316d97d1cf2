"""The layers' kernels, in every build, against NumPy in float64 or other plain code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builds import functions, using

from fastmom.kernels import layers

EPS = {dtype: float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}
ROWS, N = 7, 83     # no multiple of a vector
KEY, STEP = 0x299F31D0A4093822, 0x0370734413198A2E


# Philox -------------------------------------------------------------------------------------------

def philox(counter: tuple[int, ...], key: int) -> list[int]:
    """Four words by Philox4x32-10, from the paper: J. K. Salmon et al., 2011."""
    c, k = list(counter), [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & 0xFFFFFFFF, p >> 32 ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


# Random123's known answers
ANSWERS: list[tuple[tuple[int, ...], int, str]] = [
    ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, 2 ** 64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822,
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: int, answer: str) -> None:
    assert " ".join(f"{word:08x}" for word in philox(counter, key)) == answer


def test_the_kernels_known_answer(k: Any) -> None:
    words = k.random_words(0, 0, 0)[:, 0]
    assert " ".join(f"{word:08x}" for word in words) == ANSWERS[0][2]


@pytest.mark.parametrize("first", [0, 16, 2 ** 32 - 7])
@pytest.mark.parametrize(("key", "step"), [
    (0, 0), (KEY, STEP), (2 ** 64 - 1, 2 ** 64 - 1), (1, 2 ** 32), (2 ** 32, 1)])
def test_random_words(k: Any, first: int, key: int, step: int) -> None:
    words = k.random_words(first, key, step)
    for lane in range(16):
        counter = ((first + lane) % 2 ** 32, 0, step & 0xFFFFFFFF, step >> 32)
        assert words[:, lane].tolist() == philox(counter, key)


def mask(size: int, rate: float) -> Any:
    """The mask that dropout draws: 64 elements to a group of words."""
    words = [layers.random_words(16 * group, KEY, STEP).ravel()
             for group in range(-(-size // 64))]
    return np.concatenate(words)[:size] >= rate * 2 ** 32


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.99])
def test_dropouts_statistics(k: Any, rate: float) -> None:
    n = 2 ** 18
    x = np.ones(n, np.float32)
    masks = []
    for key, step in ((KEY, 0), (KEY, 1), (KEY, 2 ** 32), (KEY + 1, 0), (KEY + 2 ** 32, 0)):
        y, kept = np.empty_like(x), np.empty(n, np.uint8)
        k.dropout(x, y, kept, rate, key, step)
        assert {*np.unique(y)} == {0, np.float32(1 / (1 - rate))}
        np.testing.assert_array_equal(y > 0, kept)
        masks.append(kept.astype(float) - (1 - rate))
    sigma = math.sqrt(rate * (1 - rate))
    for i, a in enumerate(masks):
        assert abs(a.mean()) < 5 * sigma / math.sqrt(n)
        for shift in (1, 4, 16, 64):        # neighbours, words, counters, groups
            assert abs((a[shift:] * a[:-shift]).mean()) < 5 * sigma ** 2 / math.sqrt(n)
        for b in masks[:i]:
            assert abs((a * b).mean()) < 5 * sigma ** 2 / math.sqrt(n)


@pytest.mark.parametrize(("rate", "kept"), [(0.0, True), (1 - 2 ** -53, False)])
def test_extreme_rates(k: Any, rate: float, kept: bool) -> None:
    x = np.ones(1000)
    y, flags = np.empty(1000), np.empty(1000, np.uint8)
    k.dropout(x, y, flags, rate, KEY, STEP)
    assert (flags == kept).all()
    assert (y == kept).all()


# Every kernel against NumPy -----------------------------------------------------------------------

def draws(k: Any, dtype: Any, *shape: int) -> Any:
    """Numbers of this dtype; without kernels, for NumPy, the same in float64."""
    x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)
    return x.astype(np.float64) if k is None else x


def gather(k: Any, dtype: Any) -> list[Any]:
    out = []
    order = np.array([3, 0, 3, 4, 1])
    for source in (np.uint8, np.float32, np.float64):
        for scale, offset in ((1, 0), (1 / 255, 0), (-0.3, 7.7)):
            x = (100 * np.abs(draws(k, np.float64, 5, 3, 29))).astype(source)
            if k is None:
                out.append(scale * x[order].astype(np.float64) + offset)
            else:
                out.append(np.empty((5, 3, 29), dtype))
                k.gather(x, order, out[-1], scale, offset)
    return out


def bias_activation(k: Any, dtype: Any) -> list[Any]:
    out = []
    for slope in (1, 0, 0.3):
        y, bias = draws(k, dtype, ROWS, N), draws(k, dtype, N)
        if k is None:
            z = y + bias
            out.append(np.where(z > 0, z, slope * z))
        else:
            k.bias_activation(y, bias, slope)
            out.append(y)
    return out


def activation_gradient(k: Any, dtype: Any) -> list[Any]:
    out = []
    for slope in (1, 0, 0.3):
        y, dy, db = draws(k, dtype, ROWS, N), draws(k, dtype, N, ROWS).T.copy(), np.empty(N, dtype)
        if k is None:
            dz = np.where(y > 0, dy, slope * dy)
            out += [dz, dz.sum(axis=0)]
        else:
            k.activation_gradient(dy, y, db, slope)
            out += [dy, db]
    return out


def gelu(k: Any, dtype: Any) -> list[Any]:
    z = np.append(draws(k, dtype, N), np.array([0, -5, 5, 1e4, -1e4], draws(k, dtype).dtype))
    if k is None:
        below = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in z])
        density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return [z * below, below + z * density, z * below]
    alone, slopes = z.copy(), np.empty_like(z)
    k.gelu(z, slopes)
    k.gelu(alone)
    return [z, slopes, alone]


def dropout(k: Any, dtype: Any) -> list[Any]:
    out = []
    for rate in (0.0, 0.2, 0.9):
        x, dy = draws(k, dtype, ROWS, N), draws(k, dtype, N, ROWS)
        if k is None:
            kept = mask(ROWS * N, rate)
            out += [kept.reshape(ROWS, N), x * kept.reshape(ROWS, N) / (1 - rate),
                    dy * kept.reshape(N, ROWS) / (1 - rate)]
        else:
            y, kept = np.empty_like(x), np.empty(x.shape, np.uint8)
            k.dropout(x, y, kept, rate, KEY, STEP)
            k.dropout_gradient(dy, kept, rate)
            out += [kept, y, dy]
    return out


def softmax_cross_entropy(k: Any, dtype: Any) -> list[Any]:
    out: list[Any] = []
    labels, w = np.arange(ROWS) * 5, np.abs(draws(k, dtype, ROWS))
    for scale in (1, 10):
        for weights in (None, w):
            z, dz = scale * draws(k, dtype, ROWS, N), np.empty((ROWS, N), dtype)
            if k is None:
                p = np.exp(z - z.max(axis=1, keepdims=True))
                p /= p.sum(axis=1, keepdims=True)
                one, share = np.eye(N)[labels], np.ones(ROWS) if weights is None else weights
                gradient = (p - one) * share[:, np.newaxis] / ROWS
                out += [p, p, p, gradient, -share @ np.log(p[one > 0]),
                        -share @ np.log(p[one > 0])]
            else:
                three = [z, z.copy(), z.copy()]
                loss = k.softmax_cross_entropy(three[0], labels, weights, dz)
                out += [*three, dz, loss, k.softmax_cross_entropy(three[1], labels, weights)]
                assert k.softmax_cross_entropy(three[2]) == 0
    return out


def count_hits(k: Any, dtype: Any) -> list[Any]:
    p, labels = draws(k, dtype, 99, 3), np.arange(99) % 3
    p[5] = p[6] = 1     # of equal ones the first counts
    return [(p.argmax(axis=1) == labels).sum() if k is None else k.count_hits(p, labels)]


KERNELS: list[Callable[[Any, Any], list[Any]]] = [
    gather, bias_activation, activation_gradient, gelu, dropout, softmax_cross_entropy, count_hits]


def test_every_kernel_is_tested() -> None:
    assert functions(layers) == {each.__name__ for each in KERNELS} | {
        "Batch", "Nonzeros", "DenseBatch", "is_sparse", "dropout_gradient", "random_words"}


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_against_numpy(kernel: Any, dtype: Any, k: Any) -> None:
    results = kernel(k, dtype)
    with using("baseline"):
        baselines = kernel(k, dtype)
    for got, expected, baseline in zip(results, kernel(None, dtype), baselines, strict=True):
        scale = max(1, float(np.abs(expected).max()))
        np.testing.assert_allclose(got, expected, rtol=8 * EPS[dtype], atol=8 * scale * EPS[dtype])
        assert np.asarray(got).tobytes() == np.asarray(baseline).tobytes()


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("slope", [0, 1e-40, 0.2, 1])
def test_activations_of_infinities(k: Any, slope: float, biased: bool, dtype: Any) -> None:
    values = np.array([-np.inf, -1, -0.0, 0, 1, np.inf, np.nan])
    y, dy = np.array(np.meshgrid(values, values, indexing="ij")).astype(dtype)   # each with each
    zeros = np.zeros(len(values), dtype)
    k.bias_activation(y, zeros if biased else None, slope)
    # each row is of one value, and 1e-40 is flushed to 0 in float32
    s = 0 if slope < np.finfo(dtype).tiny else slope
    negative = [-s * np.inf, -s] if s else [0, 0]
    expected = np.array([*negative, 0, 0, 1, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(y, np.repeat(expected, len(values)).reshape(y.shape))
    with np.errstate(invalid="ignore"):     # no slope times an infinite gradient is no number
        dz = np.where(y > 0, dy, dtype(s) * dy)
    sums = np.empty(len(values), dtype)
    k.activation_gradient(dy, y, sums if biased else None, slope)
    np.testing.assert_array_equal(dy, dz)
    if biased:
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(sums, dz.sum(axis=0))


# Softmax ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("logits", "label", "loss", "p"), [
    ([0, 1e4], 0, 1e4, [0, 1]), ([0, 1e4], 1, 0, [0, 1]), ([-1e4, -1e4], 0, math.log(2), [.5, .5]),
    ([3e38, -3e37], 0, 0, [1, 0]), ([5], 0, 0, [1]),
    ([88.8, 88.8, 88.8], 2, math.log(3), [1 / 3] * 3),
    ([-3e38, -3e38], 1, math.log(2), [.5, .5])])
def test_extreme_logits(k: Any, logits: list[float], label: int, loss: float, p: list[float],
                        dtype: Any) -> None:
    z, dz = np.array([logits] * 2, dtype), np.empty((2, len(logits)), dtype)
    got = k.softmax_cross_entropy(z, np.full(2, label), None, dz)
    assert got == pytest.approx(2 * loss, rel=2 * EPS[dtype], abs=0)
    np.testing.assert_allclose(z, [p, p], rtol=2 * EPS[dtype], atol=2e-38)
    expected = (np.array(p) - np.eye(len(p))[label]) / 2
    np.testing.assert_allclose(dz, [expected] * 2, rtol=2 * EPS[dtype], atol=2e-38 + EPS[dtype])


def test_accuracy_of_the_exponential(k: Any) -> None:
    x = np.concatenate([np.linspace(-87, 0, 300_001), -np.logspace(-30, 0, 1000)])
    z = np.stack([np.zeros_like(x), x], axis=1).astype(np.float32)
    exact = np.exp(z[:, 1].astype(np.float64))
    k.softmax_cross_entropy(z)
    ratio = z[:, 1].astype(np.float64) / z[:, 0]
    assert np.abs(ratio / exact - 1).max() < 2e-7
    z = np.array([[0, -87], [0, -87.5], [0, -1e4], [0, -np.inf]], np.float32)
    k.softmax_cross_entropy(z)
    assert (z == z[0]).all()        # what is below e^-87 is that


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows(k: Any, bad: float, dtype: Any) -> None:
    z = np.array([[0, bad, 1], [0, 1, 2]], dtype)
    assert math.isnan(k.softmax_cross_entropy(z, np.array([1, 1])))
    assert np.isnan(z[0]).any()
    assert np.isfinite(z[1]).all()
