"""Paths of the library's optimizers on surfaces of two parameters, where momentum can be seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastmom.optim import SGD, Optimizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles: TypeAlias = NDArray[np.float64]

Point: TypeAlias = tuple[float, float]

FAR = 10.0      # half-widths of the bounds from their middle: a path that gets there has diverged
BLOCK = 64      # steps between two looks at whether it has
NEAR = 0.02     # of the diagonal of the bounds: a path that ends so close to a minimum has found it


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


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """The path of one optimizer on one surface.

    Attributes
    ----------
    surface : Surface
    label : str
        The method's name, and its momentum if it has one.
    lr : float
    points : ndarray of float64, shape (steps + 1, 2)
        From the start on; fewer rows if the path diverged.
    values : ndarray of float64, shape (steps + 1,)
        The function at these points.
    diverged : bool
        Whether the next point was not finite, or farther from the middle of the surface's bounds
        than ten times their half-width, or the function there not finite. Then it is left out,
        and so is all that would follow.
    """

    surface: Surface
    label: str
    lr: float
    points: Doubles
    values: Doubles
    diverged: bool

    @property
    def steps(self) -> int:
        return len(self.values) - 1

    def __repr__(self) -> str:
        end = ("diverged" if self.diverged else "no minimum" if self.minimum is None else
               f"the minimum {as_text(self.surface.minima[self.minimum])}")
        return (f"<Trajectory of {self.label} on {self.surface.name!r}, lr {self.lr:.3g}: "
                f"{self.steps} step{'s' * (self.steps != 1)} to f = {self.values[-1]:.3g}, {end}>")

    def distance(self, minimum: int = 0) -> float:
        """Return the distance of the last point to this minimum of the surface."""
        return math.dist(self.points[-1], self.surface.minima[minimum])

    @property
    def minimum(self) -> int | None:
        """Index of the minimum it ended at (within 2% of the bounds' diagonal), or None."""
        (left, right), (low, high) = self.surface.bounds
        near = NEAR * math.hypot(right - left, high - low)
        ends = [i for i in range(len(self.surface.minima)) if self.distance(i) <= near]
        return ends[0] if ends and not self.diverged else None


def as_text(at: Point) -> str:
    """Return a point as text."""
    return f"({at[0]:g}, {at[1]:g})"


# Surfaces -----------------------------------------------------------------------------------------

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


# Paths --------------------------------------------------------------------------------------------

def classics(momentum: float = 0.9) -> dict[str, Callable[..., Optimizer]]:
    """Return plain descent, the heavy ball and Nesterov's momentum, by name.

    Each is called with parameters and ``lr=``, and gives the optimizer. Any class of the library
    can be put beside them: ``classics() | {"Adam": fm.Adam}``.
    """
    return {"SGD": SGD, "momentum": partial(SGD, momentum=momentum),
            "Nesterov": partial(SGD, momentum=momentum, nesterov=True)}


def paths(surface: Surface, steps: int | None = None,
          methods: Mapping[str, Callable[..., Optimizer]] | None = None, *,
          lr: float | None = None) -> dict[str, Trajectory]:
    """Let each method descend from the surface's start, in float64.

    Parameters
    ----------
    surface : Surface
        One of `SURFACES`, `ravine` with other arguments, or your own.
    steps : int, optional
        >= 1; the surface's own number if None.
    methods : mapping of str to callable, optional
        Each returns an optimizer when called with parameters and ``lr=``; `classics` if None.
    lr : float, optional
        For all methods; if None, each takes the surface's for its name.

    Returns
    -------
    dict of str to Trajectory
        For each method, in order.

    Raises
    ------
    TypeError, ValueError
        If `steps` is not an integer >= 1, the optimizer refuses `lr`, or neither `lr` nor the
        surface has one for a method.

    Examples
    --------
    >>> from fastmom import landscape
    >>> found = landscape.paths(landscape.SURFACES["double-well"])
    >>> {name: path.minimum for name, path in found.items()}   # 0 is the better one
    {'SGD': 1, 'momentum': 0, 'Nesterov': 0}
    >>> found["momentum"].points.shape
    (151, 2)
    """
    steps = surface.steps if steps is None else steps
    if isinstance(steps, (bool, np.bool_)) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be an integer >= 1 or None, not {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be an integer >= 1 or None, not {steps!r}")
    methods = classics() if methods is None else methods
    if lr is None and (missing := [name for name in methods if name not in surface.lr]):
        raise ValueError(f"lr must be given: {surface.name} has one for {', '.join(surface.lr)}, "
                         f"not for {missing[0]!r}")
    return {name: descend(surface, int(steps), name, make, surface.lr[name] if lr is None else lr)
            for name, make in methods.items()}


def descend(surface: Surface, steps: int, name: str, make: Callable[..., Optimizer],
            lr: float) -> Trajectory:
    """Return one path, cut before the first point that is not finite or far out of bounds."""
    point, gradient = np.array(surface.start, np.float64), np.empty(2)
    optimizer: Any = make([point], lr=lr)
    momentum = getattr(optimizer, "momentum", 0.0)
    points = np.empty((steps + 1, 2))
    points[0] = point
    n = 1               # points within reach
    with np.errstate(all="ignore"):     # overflow is found below
        values = np.atleast_1d(np.float64(surface.function(*point)))
        while n <= steps:
            block = min(n + BLOCK, steps + 1)
            for i in range(n, block):
                try:        # Python's numbers are several times as fast as NumPy's
                    gradient[:] = surface.gradient(*point.tolist())
                except ArithmeticError:     # where NumPy's become infinite
                    gradient[:] = surface.gradient(*point)
                optimizer.step([gradient])
                points[i] = point
            found, within = checked(surface, points[n:block])
            values = np.concatenate([values, found[:within]])
            n += within
            if n < block:
                break
    return Trajectory(surface, f"{name} {momentum:g}" if momentum else name, optimizer.lr,
                      points[:n].copy(), values, n <= steps)


def checked(surface: Surface, points: Doubles) -> tuple[Doubles, int]:
    """Return the values, and how many points there are before the first that is out of reach."""
    low, high = np.array(surface.bounds).T
    values = np.broadcast_to(np.asarray(surface.function(*points.T), np.float64), len(points))
    near = (abs(points - (low + high) / 2) <= FAR * (high - low) / 2).all(axis=1)
    bad = ~(near & np.isfinite(values))
    return values, int(bad.argmax()) if bad.any() else len(points)
