"""What an optimizer does near a minimum, from the theory of quadratics, in a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmom.tuning.curvature import stability_edge

if TYPE_CHECKING:
    from fastmom.landscape import Point, Surface, Trajectory

NEAR = 0.02         # of the root of the momentum: what counts as near the critical one
REACH = 1e-5        # of the finite differences


def curvatures(surface: Surface, at: Point) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of the Hessian, by central differences."""
    x, y = at
    columns = [(np.array(surface.gradient(x + dx, y + dy)) - surface.gradient(x - dx, y - dy))
               / (2 * REACH) for dx, dy in ((REACH, 0.0), (0.0, REACH))]
    low, high = np.linalg.eigvalsh(columns)
    return float(low), float(high)


def critical_momentum(lr: float, curvature: float) -> float:
    r"""Return the momentum that is fastest along a direction: ``(1 - sqrt(lr h))^2``.

    Below it the direction is overdamped, above it underdamped. With ``lr = 4 / (sqrt(L) +
    sqrt(mu))^2`` it is ``((sqrt(k) - 1) / (sqrt(k) + 1))^2`` for the smallest curvature mu and for
    the largest, L, alike, with ``k = L / mu`` (B. T. Polyak, 1964).
    """
    return (1 - math.sqrt(lr * curvature)) ** 2 if lr * curvature < 1 else 0.0


def best_pair(low: float, high: float) -> tuple[float, float]:
    """Return Polyak's learning rate and momentum for curvatures from `low` to `high`."""
    roots = math.sqrt(low), math.sqrt(high)
    return 4 / sum(roots) ** 2, ((roots[1] - roots[0]) / sum(roots)) ** 2


def sentence(kind: str, path: Trajectory, lr: float, momentum: float) -> str:
    """Return what this path shows.

    Parameters
    ----------
    kind : {"plain", "momentum", "Nesterov", ...}
        Others are described by their path alone.
    path : Trajectory
    lr, momentum : float
        Those that it was made with.
    """
    surface = path.surface
    nearest = min(range(len(surface.minima)), key=path.distance)
    low, high = curvatures(surface, surface.minima[nearest])
    m = momentum if kind != "plain" else 0.0
    edge = stability_edge(m, high, nesterov=kind == "Nesterov")
    formula = {"plain": "2/L", "momentum": "2(1 + m)/L",
               "Nesterov": "2(1 + m)/((1 + 2m)L)"}.get(kind)
    if formula is not None and lr > edge:
        return f"diverges: lr above {formula} = {edge:.3g}"
    if path.diverged:
        return (f"diverges at step {path.steps + 1}: on the way the slope is steeper than near the "
                f"minimum")
    end = ("" if path.minimum is None else "finds a minimum, but not the best one" if path.minimum
           else "finds the minimum")
    if formula is None or low <= 0:
        return end or f"not there yet after {path.steps} steps"
    said = (of_plain(lr, low, high) if m == 0 else of_momentum(lr, m, low, high)
            if kind == "momentum" else of_nesterov(lr, m, low))
    return f"{said}; {end}" if end else said


def of_plain(lr: float, low: float, high: float) -> str:
    keeps = max(abs(1 - lr * low), abs(1 - lr * high))
    if lr * high > 1.5:
        return f"zigzags across the steep direction: lr is near the edge 2/L = {2 / high:.3g}"
    return (f"creeps: a step takes only {100 * (1 - keeps):.2g} % of the error away along the flat "
            f"direction")


def of_momentum(lr: float, m: float, low: float, high: float) -> str:
    critical, (best_lr, best) = critical_momentum(lr, low), best_pair(low, high)
    if abs(math.sqrt(m) - math.sqrt(critical)) <= NEAR:
        if abs(math.sqrt(m) - math.sqrt(best)) <= NEAR:
            return f"near the critical momentum ((√κ - 1)/(√κ + 1))² = {best:.3g}: the fastest"
        return (f"near the critical momentum (1 - √(lr μ))² = {critical:.3g} of this lr; with lr "
                f"{best_lr:.3g} it is ((√κ - 1)/(√κ + 1))² = {best:.3g}, the fastest")
    if m < critical:
        return (f"overdamped: friction wins along the flat direction; the critical momentum is "
                f"(1 - √(lr μ))² = {critical:.3g}")
    return (f"underdamped: overshoots and swings, a step leaves √m = {math.sqrt(m):.1%} of the "
            f"error; the critical momentum is (1 - √(lr μ))² = {critical:.3g}")


def of_nesterov(lr: float, m: float, low: float) -> str:
    # roots of z^2 - (1 + m)(1 - lr h) z + m (1 - lr h) are complex where (1 + m)^2 (1 - lr h) < 4 m
    left = 1 - lr * low
    critical = (1 - math.sqrt(1 - left)) / (1 + math.sqrt(1 - left)) if left < 1 else 1.0
    if abs(m - critical) <= NEAR:
        return f"near the critical momentum (1 - √(lr μ))/(1 + √(lr μ)) = {critical:.3g}"
    if m < critical:
        return (f"overdamped: friction wins along the flat direction; the critical momentum is "
                f"(1 - √(lr μ))/(1 + √(lr μ)) = {critical:.3g}")
    return (f"underdamped: overshoots and swings; the critical momentum is "
            f"(1 - √(lr μ))/(1 + √(lr μ)) = {critical:.3g}")
