"""Two hundred steps with feedback: gradients are taken where each copy of the parameters stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm
from fastmom.optim.reference import Reference

STEPS = 200
RNG = np.random.default_rng(0)
CURVATURE = np.logspace(0, 3, 60)
X, Y = RNG.standard_normal((40, 6)), RNG.standard_normal((40, 2))


def quadratic(params: list[Any], step: int) -> list[Any]:
    """Ill-conditioned, with a slope that turns and so keeps it from settling."""
    return [CURVATURE * params[0] + np.cos(step + np.arange(60.0))]


def network(params: list[Any], step: int) -> list[Any]:
    """A random regression through tanh, on a part of the samples."""
    w1, b1, w2 = params
    x, y = X[step % 4::4], Y[step % 4::4]
    hidden = np.tanh(x @ w1 + b1)
    error = (hidden @ w2 - y) / len(x)
    back = (error @ w2.T) * (1 - hidden ** 2)
    return [x.T @ back, back.sum(axis=0), hidden.T @ error]


PROBLEMS: list[tuple[Callable[..., list[Any]], list[tuple[int, ...]]]] = [
    (quadratic, [(60,)]), (network, [(6, 8), (8,), (8, 2)])]


@pytest.mark.parametrize(("gradients", "shapes"), PROBLEMS, ids=["quadratic", "network"])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_equals_reference(case: Any, gradients: Callable[..., list[Any]],
                          shapes: list[tuple[int, ...]]) -> None:
    cls, hyper = case
    rng = np.random.default_rng(1)
    params = [rng.standard_normal(shape) for shape in shapes]
    optimizer = cls(params, **{"lr": 1e-4, **hyper})
    reference = Reference(optimizer)
    for step in range(STEPS):
        optimizer.lr = 1e-4 * (1 + step % 7)
        theirs = gradients(reference.params, step)
        assert optimizer.step(gradients(params, step))
        reference.step(theirs)
    scale = max(float(np.max(np.abs(p))) for p in reference.params)
    for p, expected in zip(params, reference.params, strict=True):
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-12 * scale)


def test_the_problems_are_no_formality() -> None:
    """Training lowers the network's gradient."""
    rng = np.random.default_rng(1)
    params = [rng.standard_normal(shape) for shape in PROBLEMS[1][1]]
    before = np.linalg.norm(network(params, 0)[2])
    optimizer = fm.SGD(params, lr=0.05, momentum=0.9)
    for step in range(STEPS):
        optimizer.step(network(params, step))
    assert np.linalg.norm(network(params, 0)[2]) < before / 2
