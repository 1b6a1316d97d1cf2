r"""Show what momentum is worth: ``python bench/examples/convergence.py --plot convergence.png``.

Counts the steps that `fastmom.SGD` takes to within 1e-6 of the optimum, relative to where it
starts, on quadratics ``sum(a x^2) / 2`` whose 50 curvatures `a` are spread from 1 to the condition
number K. Step size and momentum are the best that theory knows (B. T. Polyak 1964; Y. Nesterov,
"Introductory lectures on convex optimization", 2004, 2.2), with ``r = sqrt(K)``:

=========== =============== ======================= ===================
method      lr              momentum                error after a step
=========== =============== ======================= ===================
plain       2 / (K + 1)     0                       (K - 1) / (K + 1)
heavy ball  4 / (r + 1)^2   ((r - 1) / (r + 1))^2   (r - 1) / (r + 1)
Nesterov    1 / K           (r - 1) / (r + 1)       1 - 1 / r
=========== =============== ======================= ===================

So theory expects ``ln(10^6) / -ln(error after a step)`` steps: in the long run K times 6.9, r times
6.9 and r times 13.8. That is the asymptotic rate. Plain descent, starting equally far along all
directions, needs a little less, as only the two extreme ones are that slow. With momentum the
slowest directions have a double eigenvalue, so the error falls as k factor^k and a little more is
needed; heavy ball needs most, as its first step overshoots the steepest direction threefold.

With ``nesterov=True`` and convention "torch", v = m v + g(p) and p -= lr (g(p) + m v). That is
Nesterov's method x' = y - lr g(y), y' = x' + m (x' - x) step by step, seen at its look-ahead
points: p is y, and v is (x - x') / lr.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmom as fm
from fastmom.plot.style import new_figure

CONDITIONS = [10.0 ** power for power in range(1, 7)]
DIRECTIONS = 50
WITHIN = 1e-6


class Method(NamedTuple):
    """Hyper-parameters for one condition number, and the factor of the error in a step."""

    hyper: dict[str, Any]
    factor: float

    @property
    def expected(self) -> float:
        return math.log(WITHIN) / math.log(self.factor)


def methods(condition: float) -> dict[str, Method]:
    root = math.sqrt(condition)
    ratio = (root - 1) / (root + 1)
    return {
        "plain": Method({"lr": 2 / (condition + 1)}, (condition - 1) / (condition + 1)),
        "heavy ball": Method({"lr": 4 / (root + 1) ** 2, "momentum": ratio ** 2}, ratio),
        "Nesterov": Method({"lr": 1 / condition, "momentum": ratio, "nesterov": True},
                           1 - 1 / root)}


def steps_needed(condition: float, method: Method) -> int:
    """Return the steps until the distance is `WITHIN` of the first, to 0.1 % of those expected."""
    curvature = np.geomspace(1, condition, DIRECTIONS)
    p = np.ones(DIRECTIONS)
    g = np.empty_like(p)
    optimizer = fm.SGD([p], **method.hyper)
    step, multiply, grads = optimizer.step, np.multiply, [g]
    start = np.linalg.norm(p)
    between = max(1, int(method.expected / 1000))   # looking costs more than a step
    while np.linalg.norm(p) > WITHIN * start:
        for _ in range(between):
            multiply(curvature, p, out=g)
            step(grads)
        if optimizer.iterations > 10 * method.expected:
            raise RuntimeError(f"{method.hyper} does not converge at condition {condition:g}")
    return optimizer.iterations


def measure() -> list[dict[str, Any]]:
    """Print the table while it grows, and return it."""
    print(f"{'':>9}" + "".join(f"{name:^37}" for name in methods(10.0)))
    print(f"{'condition':>9}" + 3 * f"{'steps':>14} {'theory':>13} {'ratio':>8}")
    rows = []
    for condition in CONDITIONS:
        print(f"{condition:9.0e}", end="", flush=True)
        for name, method in methods(condition).items():
            steps = steps_needed(condition, method)
            print(f"{steps:14,} {method.expected:13,.0f} {steps / method.expected:8.2f}", end="",
                  flush=True)
            rows.append({"condition": condition, "method": name, "steps": steps,
                         "theory": method.expected, "hyper": method.hyper})
        print()
    return rows


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    axes = figure.add_subplot(xscale="log", yscale="log")
    # Colors that the colour-blind tell apart, and how high the label stands beside the last point
    styles = {"plain": ("#d55e00", "o", 0), "Nesterov": ("#009e73", "s", 14),
              "heavy ball": ("#0072b2", "D", -14)}
    for name, (color, marker, height) in styles.items():
        mine = [row for row in rows if row["method"] == name]
        x, y = [row["condition"] for row in mine], [row["steps"] for row in mine]
        axes.plot(x, [row["theory"] for row in mine], "--", color=color, lw=1.3)
        axes.plot(x, y, marker, color=color, ms=7)
        axes.annotate(f"{name}\n{y[-1]:,} steps", (x[-1], y[-1]), (12, height),
                      textcoords="offset points", color=color, va="center", fontweight="bold")
    slope(axes, 1.0, 2e4, r"$\propto \kappa$", above=True)
    slope(axes, 0.5, 60, r"$\propto \sqrt{\kappa}$", above=False)
    axes.plot([], [], "o", color="gray", label="measured")
    axes.plot([], [], "--", color="gray", label="theory: $\\ln(10^6)$ / rate")
    axes.legend(loc="upper left", frameon=False)
    axes.set(xlim=(6, 4e7), ylim=(8, 3e7), xlabel=r"condition number $\kappa$",
             ylabel=r"steps until the error is $10^{-6}$ of the initial one",
             xticks=CONDITIONS, title="Steps of fastmom.SGD to the optimum of a quadratic")
    axes.grid(which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def slope(axes: Any, power: float, start: float, label: str, above: bool) -> None:
    """Draw a line from κ = 10^3 to 10^5 beside the data, growing as that power of κ."""
    axes.plot([1e3, 1e5], [start, start * 100 ** power], color="black", lw=1)
    axes.annotate(label, (1e4, start * 10 ** power), (-8, 8) if above else (8, -8), fontsize=13,
                  textcoords="offset points", ha="right" if above else "left",
                  va="bottom" if above else "top")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    figure = new_figure(8, 5.5) if args.plot else None    # before the work, lest it be in vain
    rows = measure()
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if figure:
        draw(figure, rows)
        figure.savefig(args.plot, dpi=150)


if __name__ == "__main__":
    main()
