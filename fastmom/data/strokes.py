"""The shapes of the ten digits, as strokes of our own making.

A stroke is the points "x,y x,y ..." that a smooth curve runs through; a point given twice is a
corner, and "|" lifts the pen. Coordinates are pixels in MNIST's 20x20 box, x to the right and y
down. A digit that people write in several ways has several styles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POINTS = 100  # per digit: at most 0.6 pixels apart, so that strokes have no gaps

_FLAT = "4,1 14.5,1 14.5,1 9,8.5 9,8.5 "  # the top of an angular 3
_ROUND = "4,3.5 8,0.8 12.5,1 14.5,4.5 12.5,8 8.5,9.5 8.5,9.5 "
_BELLY = "13.5,10 16,14 13.5,18.5 8.5,19.5 4,17"
_RING = "14.5,4.5 11,1 6.5,2 4.5,6 7,9.5 11.5,9 14.5,4.5 14.5,4.5 "

DIGITS: tuple[tuple[str, ...], ...] = (
    ("10,0.5 5.5,3.5 4,10 5.5,16.5 10,19.5 14.5,16.5 16,10 14.5,3.5 10,0.5",),
    (
        "10,0.5 10,19.5",
        "6.5,5 10.5,0.5 10.5,0.5 10.5,19.5",
        "6.5,4 10.5,0.5 10.5,0.5 10.5,19.5 | 5.5,19.5 15.5,19.5",
    ),
    (
        "4,5 7,1 12,1 15,5 13,10 8.5,15 4,19 4,19 16,19",
        "4.5,4 8,0.8 13,1.5 14.5,6 11.5,12 6.5,18 3.5,18.5 4,16 7.5,15.8 11.5,18.5 17,18.5",
    ),
    (_ROUND + _BELLY, _FLAT + _BELLY),
    (
        "5.5,1 4,11.5 4,11.5 16.5,11 | 13.5,1.5 12.5,19.5",
        "13,0.5 3.5,13.5 3.5,13.5 17,13 | 13,0.5 12.5,19.5",
        "4.5,1.5 4,7 6.5,10.5 11,10 15,6.5 | 15.5,1 14.5,10 13,19.5",
    ),
    ("15.5,1 6.5,1 6.5,1 5,9 5,9 10,7.5 15,9.5 16,14 13,18.5 8,19.5 4,17.5",),
    ("13,0.5 8,4.5 5,10 5,16 9,19.5 13.5,18 15,14 12.5,11 8.5,11.5 5,15",),
    (
        "3.5,1.5 15.5,1.5 15.5,1.5 11.5,10 8.5,19.5",
        "3.5,1.5 15.5,1.5 15.5,1.5 11.5,10 8.5,19.5 | 6.5,10.5 15,10",
        "3.5,5 4,1.5 4,1.5 15.5,1.5 15.5,1.5 11,10 9,19.5",
    ),
    ("14.5,3.5 10.5,0.8 6,2.5 6.5,6.5 12.5,11 15.5,15 13,19 8,19.5 4.5,16 7,11.5 13,7.5 14.5,3.5",),
    (_RING + "14,11 13,19.5", _RING + "14.5,12 12,18 8,19.5 5,18"),
)


def sample(style: str) -> NDArray[np.float64]:
    """Return POINTS points, shape (POINTS, 2), evenly along the style's strokes."""
    curves = [_curve(stroke) for stroke in style.split("|")]
    starts = np.concatenate([curve[:-1] for curve in curves])
    ends = np.concatenate([curve[1:] for curve in curves])
    steps = ends - starts
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    along = np.cumsum(lengths)
    at = (np.arange(POINTS) + 0.5) * along[-1] / POINTS
    piece = np.searchsorted(along, at)
    back = (along[piece] - at) / lengths[piece]
    points: NDArray[np.float64] = ends[piece] - back[:, None] * steps[piece]
    return points


def _curve(stroke: str) -> NDArray[np.float64]:
    """Return 16 points per step of the Catmull-Rom spline through the stroke's points."""
    points = [[float(number) for number in point.split(",")] for point in stroke.split()]
    knots = np.array([points[0], *points, points[-1]])
    t = np.arange(16)[:, None] / 16
    steps = [
        b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False)
        if (b != c).any()  # between the two points of a corner it would make a loop
    ]
    return np.concatenate([*steps, knots[-1:]])
