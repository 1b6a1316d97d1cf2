"""What the landscape says, against what the kernels do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import fastmom as fm
from fastmom.landscape import SURFACES, classics, paths, ravine
from fastmom.playground.words import best_pair, critical_momentum, curvatures, sentence


def left(lr: float, momentum: float, curvature: float, steps: int = 400) -> float:
    """The distance to the minimum of a parabola after so many steps, from 1."""
    p = np.ones(1)
    optimizer = fm.SGD([p], lr=lr, momentum=momentum)
    furthest = 0.0
    for step in range(steps):
        optimizer.step([curvature * p])
        furthest = max(furthest, abs(p[0])) if step >= steps - 50 else 0.0
    return furthest


@pytest.mark.parametrize("lr", [0.001, 0.01, 0.1])
def test_no_momentum_is_faster_than_the_critical_one(lr: float) -> None:
    critical = critical_momentum(lr, 1.0)
    fastest = left(lr, critical, 1.0)
    for other in (critical - 0.05, critical + 0.05):
        if 0 <= other < 1:
            assert left(lr, other, 1.0) > fastest


def test_polyaks_pair_is_critical_at_both_ends() -> None:
    lr, momentum = best_pair(1.0, 100.0)
    assert momentum == pytest.approx((9 / 11) ** 2)
    assert critical_momentum(lr, 1.0) == pytest.approx(momentum)
    assert (1 - math.sqrt(lr * 100.0)) ** 2 == pytest.approx(momentum)


@pytest.mark.parametrize("condition", [1.0, 10.0, 500.0])
def test_curvatures(condition: float) -> None:
    assert curvatures(ravine(condition, angle=30), (0.0, 0.0)) == pytest.approx((1.0, condition))


# Surface, method, lr, momentum, and what is said
SAYS = [
    ("ravine", "plain", 0.01, 0.9, "creeps: a step takes only 1 % of the error away"),
    ("ravine", "plain", 0.0199, 0.9, "zigzags across the steep direction"),
    ("ravine", "plain", 0.021, 0.9, "diverges: lr above 2/L = 0.02"),
    ("ravine", "momentum", 0.01, 0.5, "overdamped"),
    ("ravine", "momentum", 0.01, 0.81, "near the critical momentum (1 - √(lr μ))² = 0.81"),
    ("ravine", "momentum", 0.0331, 0.67, "near the critical momentum ((√κ - 1)/(√κ + 1))² = 0.669"),
    ("ravine", "momentum", 0.01, 0.95, "underdamped"),
    ("ravine", "momentum", 0.039, 0.9, "diverges: lr above 2(1 + m)/L = 0.038"),
    ("ravine", "Nesterov", 0.01, 0.5, "overdamped"),
    ("ravine", "Nesterov", 0.01, 0.818, "near the critical momentum"),
    ("ravine", "Nesterov", 0.01, 0.95, "underdamped"),
    ("ravine", "Nesterov", 0.0137, 0.9, "diverges: lr above 2(1 + m)/((1 + 2m)L) = 0.0136"),
    ("double-well", "momentum", 0.05, 0.9, "finds the minimum"),
    ("double-well", "plain", 0.05, 0.9, "finds a minimum, but not the best one"),
    ("ravine", "QHM", 0.01, 0.9, "finds the minimum"),
]


@pytest.mark.parametrize(("surface", "kind", "lr", "momentum", "said"), SAYS)
def test_sentences(surface: str, kind: str, lr: float, momentum: float, said: str) -> None:
    methods = {"plain": classics()["SGD"], "QHM": lambda params, lr: fm.QHM(params, lr, momentum),
               **{name: classics(momentum)[name] for name in ("momentum", "Nesterov")}}
    path = paths(SURFACES[surface], 600, {kind: methods[kind]}, lr=lr)[kind]
    assert said in sentence(kind, path, lr, momentum)
    assert path.diverged == said.startswith("diverges")


def test_a_start_from_which_it_diverges() -> None:
    steep = replace(SURFACES["beale"], start=(4.0, 2.0))
    path = paths(steep, 100, {"plain": fm.SGD}, lr=0.01)["plain"]
    assert sentence("plain", path, 0.01, 0.0).startswith("diverges at step ")
