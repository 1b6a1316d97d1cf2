"""The room of landscapes: paths of optimizers that follow the sliders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import numpy as np
from bokeh.events import Pan, PanEnd, PanStart, Tap
from bokeh.models import CheckboxGroup, Column, ColumnDataSource, Div, Range1d, Select
from bokeh.plotting import contour

from fastmom import optim
from fastmom.landscape import SURFACES, Surface, Trajectory, paths, ravine
from fastmom.playground.page import FAINT, INK, chart, coloured, heading, slider
from fastmom.playground.words import sentence
from fastmom.plot.style import COLOURS

POINTS = 120        # of the grid of the contours, to each side
LEVELS = 20
LOWEST = 1e-12      # on the logarithmic axes
MOMENTUM = 0.9
LEAST_LR, MOST_LR = -4.0, 0.5       # decimal logarithms

# By the name on the check box: what makes the optimizer from parameters, lr and momentum.
Make = Callable[..., optim.Optimizer]
METHODS: dict[str, Callable[[float], Make]] = {
    "plain": lambda m: optim.SGD,
    "momentum": lambda m: partial(optim.SGD, momentum=m),
    "Nesterov": lambda m: partial(optim.SGD, momentum=m, nesterov=True),
    "QHM": lambda m: partial(optim.QHM, momentum=m),
}
if "yellowfin" in optim.OPTIMIZERS:
    METHODS["YellowFin"] = lambda m: optim.OPTIMIZERS["yellowfin"]
COLOUR = dict(zip(METHODS, (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3], COLOURS[4]),
                  strict=False))


class Landscape:
    """The models of the room, and what they do.

    Attributes
    ----------
    roots : list of Model
        Named after their places on the page.
    updates : int
        How often paths were computed.
    """

    def __init__(self, later: Callable[[Callable[[], None]], Any] | None = None) -> None:
        self._later, self._waiting = later, False
        self.updates, self.start = 0, SURFACES["ravine"].start
        self._dragging = False
        self._make_controls()
        self._make_charts()
        self.roots = [self.controls, self.map, self.values, self.speeds]
        self.choose()

    # Models ---------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        self.surface = Select(name="surface", options=[
            (name, surface.title.partition(",")[0]) for name, surface in SURFACES.items()],
            value="ravine", sizing_mode="stretch_width")
        self.condition = slider("condition", "condition number κ", 0, 3, 0.1, 2, log=True)
        self.lr = slider("lr", "learning rate", LEAST_LR, MOST_LR, 0.01, -2.0, log=True)
        self.momentum = slider("momentum", "momentum", 0, 0.999, 0.001, MOMENTUM)
        self.momentum.format = "0.000"
        self.steps = slider("steps", "steps", 20, 1000, 10, 300)
        self.methods = CheckboxGroup(
            name="methods", labels=list(METHODS), active=[0, 1, 2], sizing_mode="stretch_width",
            stylesheets=[coloured([COLOUR[name] for name in METHODS], "label")])
        self.says = Div(name="says", sizing_mode="stretch_width")
        for widget in (self.condition, self.lr, self.momentum, self.steps):
            widget.on_change("value", self._changed)
        self.methods.on_change("active", self._changed)
        self.surface.on_change("value", lambda attr, old, new: self.choose())
        self.controls = Column(
            self.surface, self.condition, self.lr, self.momentum, self.steps,
            heading("methods"), self.methods, heading("what happens"), self.says,
            name="landscape-controls", sizing_mode="stretch_width", spacing=4)

    def _make_charts(self) -> None:
        names = "x", "y", "step", "value", "speed", "colour", "label"
        self.lines = ColumnDataSource({name: [] for name in names}, name="paths")
        self.ends = ColumnDataSource({name: [] for name in ("x", "y", "colour", "marker")})
        self.begin = ColumnDataSource({"x": [], "y": []}, name="start")
        self.minima = ColumnDataSource({"x": [], "y": [], "colour": []})
        self.map = chart("landscape-surface", "drag the square to start elsewhere",
                         x_range=Range1d(), y_range=Range1d())
        self.map.grid.visible = False
        levels = np.geomspace(1e-4, 1, LEVELS)
        x = np.linspace(0, 1, 3)
        self._contours = self.map.contour(x, x, np.outer(x, x), levels=[0, *levels],
                                          fill_color=shades(LEVELS), line_color="#9fb0c3",
                                          line_width=0.6)
        self.map.multi_line("x", "y", source=self.lines, line_color="colour", line_width=2,
                            line_join="round")
        self.map.scatter("x", "y", source=self.minima, marker="star", size=20, fill_color="colour",
                         line_color=INK)
        self.map.scatter("x", "y", source=self.ends, marker="marker", size=10, fill_color="colour",
                         line_color="white", line_width=1.5)
        self.map.scatter("x", "y", source=self.begin, marker="square", size=15, fill_color=INK,
                         line_color="white", line_width=2)
        self.values = chart("landscape-values", "value", "step", y_axis_type="log")
        self.speeds = chart("landscape-speeds", "velocity: length of each step", "step",
                            y_axis_type="log", x_range=self.values.x_range)
        for where, name in ((self.values, "value"), (self.speeds, "speed")):
            where.multi_line("step", name, source=self.lines, line_color="colour", line_width=2)
        self.map.on_event(PanStart, self._grab)
        self.map.on_event(Pan, self._drag)
        self.map.on_event(PanEnd, self._drop)
        self.map.on_event(Tap, lambda event: self._move(event.x, event.y))

    # What they do ---------------------------------------------------------------------------------

    def _changed(self, attr: str, old: Any, new: Any) -> None:
        self.condition.visible = self.surface.value == "ravine"
        self._soon(self.update)

    def _soon(self, function: Callable[[], None]) -> None:
        """Do it once for all changes that have come meanwhile."""
        if self._later is None:
            function()
        elif not self._waiting:
            self._waiting = True
            self._later(self._now)

    def _now(self) -> None:
        self._waiting = False
        self.update()

    def choose(self) -> None:
        """Show another surface, from its start and with its learning rate."""
        surface = self._surface()
        self.start = surface.start
        self.condition.visible = surface.name == "ravine"
        self.lr.value = round(math.log10(surface.lr["momentum"]), 2)
        self._soon(self.update)

    def _surface(self) -> Surface:
        if self.surface.value == "ravine":
            return ravine(round(10 ** self.condition.value, 3), angle=20)
        return SURFACES[str(self.surface.value)]

    def _grab(self, event: Any) -> None:
        (left, right), (low, high) = self._surface().bounds
        apart = math.hypot((event.x - self.start[0]) / (right - left),
                           (event.y - self.start[1]) / (high - low))
        self._dragging = apart < 0.12

    def _drag(self, event: Any) -> None:
        if self._dragging:
            self._move(event.x, event.y)

    def _drop(self, event: Any) -> None:
        self._drag(event)
        self._dragging = False

    def _move(self, x: float | None, y: float | None) -> None:
        """Start at this place, but within the picture."""
        if x is None or y is None:
            return
        bounds = self._surface().bounds
        at = [min(max(float(v), low), high) for v, (low, high) in zip((x, y), bounds, strict=True)]
        self.start = at[0], at[1]
        self._soon(self.update)

    def update(self) -> None:
        """Compute the paths and show them."""
        surface = replace(self._surface(), start=self.start)
        lr, m = 10 ** float(self.lr.value), float(self.momentum.value)
        names = [list(METHODS)[i] for i in sorted(self.methods.active)]
        found = paths(surface, int(self.steps.value),
                      {name: METHODS[name](m) for name in names}, lr=lr)
        self._draw_surface(surface)
        self.lines.tags = [lr, m]           # what the picture is of
        self.lines.data = {
            "x": [path.points[:, 0] for path in found.values()],
            "y": [path.points[:, 1] for path in found.values()],
            "step": [np.arange(path.steps + 1) for path in found.values()],
            "value": [np.maximum(path.values, LOWEST) for path in found.values()],
            "speed": [speeds(path) for path in found.values()],
            "colour": [COLOUR[name] for name in names], "label": names}
        self.ends.data = {
            "x": [path.points[-1, 0] for path in found.values()],
            "y": [path.points[-1, 1] for path in found.values()],
            "colour": [COLOUR[name] for name in names],
            "marker": ["x" if path.diverged else "circle" for path in found.values()]}
        self.begin.data = {"x": [self.start[0]], "y": [self.start[1]]}
        self.says.text = "".join(
            f'<p style="margin:0 0 6px"><b style="color:{COLOUR[name]}">{escape(name)}</b> '
            f'{escape(sentence(name, path, lr, m))}.</p>' for name, path in found.items()) or (
            f'<p style="color:{FAINT}">Choose a method.</p>')
        self.updates += 1

    _drawn: tuple[str, float] | None = None

    def _draw_surface(self, surface: Surface) -> None:
        """Draw the contours, unless it is the surface that is there."""
        key = surface.name, float(self.condition.value)
        if key == self._drawn:
            return
        self._drawn = key
        (left, right), (low, high) = surface.bounds
        x, y = np.linspace(left, right, POINTS), np.linspace(low, high, POINTS)
        values = surface.function(*np.meshgrid(x, y))
        self._contours.set_data(contour.contour_data(
            x, y, np.minimum(values / values.max(), 1.0),
            levels=[0, *np.geomspace(1e-4, 1, LEVELS)]))
        self.map.x_range.update(start=left, end=right)
        self.map.y_range.update(start=low, end=high)
        self.minima.data = {"x": [at[0] for at in surface.minima],
                            "y": [at[1] for at in surface.minima],
                            "colour": [INK, *["white"] * (len(surface.minima) - 1)]}


def speeds(path: Trajectory) -> Any:
    """Return the length of each step, one as many as there are points."""
    lengths = np.hypot(*np.diff(path.points, axis=0).T)
    return np.maximum(np.append(lengths, np.nan), LOWEST)


def shades(count: int) -> list[str]:
    """Return colours from white, for low, to a soft blue."""
    low, high = np.array([255, 255, 255]), np.array([176, 196, 218])
    return ["#{:02x}{:02x}{:02x}".format(*np.rint(low + (high - low) * t ** 1.2).astype(int))
            for t in np.linspace(0, 1, count)]
