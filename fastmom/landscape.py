"""Paths of the library's optimizers on surfaces of two parameters, where momentum can be seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastmom.optim import SGD, Optimizer
from fastmom.surfaces import NAMES as NAMES
from fastmom.surfaces import SURFACES as SURFACES
from fastmom.surfaces import Point as Point
from fastmom.surfaces import Surface as Surface
from fastmom.surfaces import as_text
from fastmom.surfaces import ravine as ravine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles: TypeAlias = NDArray[np.float64]

FAR = 10.0      # half-widths of the bounds from their middle: a path that gets there has diverged
BLOCK = 64      # steps between two looks at whether it has
NEAR = 0.02     # of the diagonal of the bounds: a path that ends so close to a minimum has found it


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
