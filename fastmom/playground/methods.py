"""The methods of the landscape, and all that is drawn of their paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fastmom import optim
from fastmom.landscape import Trajectory
from fastmom.playground.page import LOWEST
from fastmom.plot.style import COLOURS

COLUMNS = ("x", "y", "step", "value", "speed", "end_x", "end_y", "marker", "colour", "label", "lr",
           "momentum")

# By the name on the check box: what makes the optimizer from parameters, lr and momentum.
Make = Callable[..., optim.Optimizer]
METHODS: dict[str, Callable[[float], Make]] = {
    "plain": lambda m: optim.SGD,
    "momentum": lambda m: partial(optim.SGD, momentum=m),
    "Nesterov": lambda m: partial(optim.SGD, momentum=m, nesterov=True),
    "QHM": lambda m: partial(optim.QHM, momentum=m),
    "YellowFin": lambda m: optim.YellowFin,
}
COLOUR = dict(zip(METHODS, COLOURS, strict=False))


def columns(found: Mapping[str, Trajectory], lr: float, momentum: float) -> dict[str, Any]:
    """Return all that is drawn of the paths: a row for each method."""
    paths = list(found.values())
    rows = {"x": [path.points[:, 0] for path in paths], "y": [path.points[:, 1] for path in paths],
            "step": [np.arange(path.steps + 1, dtype=np.int32) for path in paths],
            "value": [np.maximum(path.values, LOWEST) for path in paths],
            "speed": [speeds(path) for path in paths],
            "end_x": [path.points[-1, 0] for path in paths],
            "end_y": [path.points[-1, 1] for path in paths],
            "marker": ["x" if path.diverged else "circle" for path in paths],
            "colour": [COLOUR[name] for name in found], "label": list(found),
            "lr": [lr] * len(paths), "momentum": [momentum] * len(paths)}
    return {name: rows[name] for name in COLUMNS}


def speeds(path: Trajectory) -> Any:
    """Return the length of each step, one as many as there are points."""
    lengths = np.hypot(*np.diff(path.points, axis=0).T)
    return np.maximum(np.append(lengths, np.nan), LOWEST)
