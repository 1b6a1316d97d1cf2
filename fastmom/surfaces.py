"""Surfaces of two parameters, and where to look at them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, eq=False, repr=False)
class Surface:
    """A function of two parameters, and where to look at it.

    Attributes
    ----------
    name, title : str
        The title is for readers.
    function : callable
        ``function(x, y)`` of floats or of float64 arrays that broadcast.
    gradient : callable
        ``gradient(x, y)``, the two partial derivatives.
    start : (float, float)
    bounds : ((float, float), (float, float))
        Lowest and highest x, lowest and highest y to be drawn.
    minima : tuple of (float, float)
        All minima within the bounds; the best first, where the function is 0.
    lr : mapping of str to float
        For each name of `classics` a learning rate that suits.
    steps : int
        How many show what there is to see.
    why_lr : str
        Why the learning rates differ, if they do.
    """

    name: str
    title: str
    function: Callable[[Any, Any], Any]
    gradient: Callable[[Any, Any], tuple[Any, Any]]
    start: Point
    bounds: tuple[Point, Point]
    minima: tuple[Point, ...]
    lr: Mapping[str, float]
    steps: int
    why_lr: str = ""

    def __repr__(self) -> str:
        minima = " and ".join(map(as_text, self.minima))
        return (f"<Surface {self.name!r}: from {as_text(self.start)} to {minima}, {self.steps} "
                f"step{'s' * (self.steps != 1)}>")


def as_text(at: Point) -> str:
    """Return a point as text."""
    return f"({at[0]:g}, {at[1]:g})"


def ravine(condition: float = 100.0, angle: float = 0.0) -> Surface:
    r"""Return a long quadratic valley: ``(u^2 + condition v^2) / 2``, turned by `angle`.

    Plain descent must take short steps for the steep direction, v, and so crawls along u. With the
    learning rate of the best worst case, ``2 / (condition + 1)``, which is taken here, both errors
    shrink by ``(condition - 1) / (condition + 1)`` a step, and v's changes its sign each time. The
    heavy ball with momentum m lets them shrink by ``sqrt(m)`` for a wide range of learning rates.

    Parameters
    ----------
    condition : float, default 100
        Ratio of the curvatures, >= 1.
    angle : float, default 0
        In degrees, counterclockwise; bounds and start turn with the valley.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """
    if not (1 <= condition < math.inf and math.isfinite(angle)):
        raise ValueError(f"condition must be a finite number >= 1 and angle a finite one, not "
                         f"{condition!r} and {angle!r}")
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def function(x: Any, y: Any) -> Any:
        return ((c * x + s * y) ** 2 + condition * (c * y - s * x) ** 2) / 2

    def gradient(x: Any, y: Any) -> tuple[Any, Any]:
        u, v = c * x + s * y, condition * (c * y - s * x)
        return c * u - s * v, s * u + c * v

    def turned(u: float, v: float) -> Point:
        return c * u - s * v, s * u + c * v

    width = 5 / math.sqrt(condition)
    corners = [turned(u, v) for u in (-4.6, 2.0) for v in (-width, width)]
    left, right, low, high = (pick(axis) for axis in zip(*corners, strict=True)
                              for pick in (min, max))
    return Surface(
        "ravine", f"ravine, condition number {condition:g}", function, gradient,
        start=turned(-4.0, 0.7 * width), bounds=((left, right), (low, high)), minima=((0.0, 0.0),),
        lr={"SGD": 2 / (condition + 1), "momentum": 1 / condition, "Nesterov": 1 / condition},
        steps=150, why_lr="SGD's best lr can be too high for Nesterov")


def rosenbrock(x: Any, y: Any) -> Any:
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def rosenbrock_gradient(x: Any, y: Any) -> tuple[Any, Any]:
    off = y - x * x
    return -2 * (1 - x) - 400 * x * off, 200 * off


def beale(x: Any, y: Any) -> Any:
    return sum((c - x * (1 - y ** k)) ** 2 for k, c in BEALE)


def beale_gradient(x: Any, y: Any) -> tuple[Any, Any]:
    errors = [(k, c - x * (1 - y ** k)) for k, c in BEALE]
    return (sum(-2 * e * (1 - y ** k) for k, e in errors),
            sum(2 * e * k * x * y ** (k - 1) for k, e in errors))


BEALE = (1, 1.5), (2, 2.25), (3, 2.625)


def double_well(x: Any, y: Any) -> Any:
    # along x: zero slope at -1.1, 0.1 and 1; the constant lifts the better minimum to 0
    return x ** 4 / 4 - 0.555 * x ** 2 + 0.11 * x + 0.426525 + (y - x / 2) ** 2 / 2


def double_well_gradient(x: Any, y: Any) -> tuple[Any, Any]:
    off = y - x / 2
    return (x + 1.1) * (x - 0.1) * (x - 1) - off / 2, off


NAMES = "SGD", "momentum", "Nesterov"

SURFACES: dict[str, Surface] = {surface.name: surface for surface in (
    ravine(),
    Surface("rosenbrock", "Rosenbrock", rosenbrock, rosenbrock_gradient, start=(-1.2, 1.0),
            bounds=((-1.8, 1.8), (-0.8, 2.2)), minima=((1.0, 1.0),),
            lr=dict.fromkeys(NAMES, 0.001), steps=1000),
    Surface("beale", "Beale", beale, beale_gradient, start=(0.5, 1.5),
            bounds=((-0.5, 4.0), (-1.0, 2.0)), minima=((3.0, 0.5),),
            lr=dict.fromkeys(NAMES, 0.005), steps=300),
    Surface("double-well", "double well", double_well, double_well_gradient, start=(1.8, -1.0),
            bounds=((-2.1, 2.1), (-1.5, 1.5)), minima=((-1.1, -0.55), (1.0, 0.5)),
            lr=dict.fromkeys(NAMES, 0.05), steps=150),
)}
