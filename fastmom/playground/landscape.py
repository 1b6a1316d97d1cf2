"""The room of landscapes: paths of optimizers that follow the sliders."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import numpy as np
from bokeh.events import Pan, PanEnd, PanStart, Tap
from bokeh.models import (
    CheckboxGroup,
    Column,
    ColumnDataSource,
    CustomJS,
    Div,
    Range1d,
    Row,
    Select,
)
from bokeh.plotting import contour

from fastmom.landscape import SURFACES, Point, Surface, Trajectory, paths, ravine
from fastmom.playground.methods import COLOUR, COLUMNS, columns
from fastmom.playground.methods import METHODS as METHODS
from fastmom.playground.page import (
    FAINT,
    INK,
    coloured,
    heading,
    layers,
    set_decades,
    shades,
    slider,
    within,
)
from fastmom.playground.words import sentence

POINTS = 200        # of the grid of the contours, to each side
LEVELS = 20
PATIENCE = 0.3      # seconds until the browser is not waited for
SAY = 0.5           # seconds between two sentences while a slider moves
MOMENTUM = 0.9
# Asks for the next paths, which are computed meanwhile, and draws these with the screen's next
# picture; Bokeh by itself would draw with every second one at most
TAKEN = """
taken.tags = [performance.now()];
requestAnimationFrame(() => {
  for (const chart of charts) cb_context.index.find_one(chart)?.paint();
});
"""
LEAST_LR, MOST_LR = -4.0, 0.5       # decimal logarithms


class Landscape:
    """The models of the room, and what they do.

    Attributes
    ----------
    roots : list of Model
        Named after their places on the page.
    updates : int
        How often paths were computed.
    """

    def __init__(self, document: Any = None) -> None:
        self._document, self._wanted, self._sent = document, False, -math.inf
        self._shown: Any = None
        self._begun: Any = None
        self._found: Mapping[str, Trajectory] = {}
        self._said, self._waits = -math.inf, False
        self.updates, self.start = 0, SURFACES["ravine"].start
        self._dragging = self._following = False
        self._make_controls()
        self._make_charts()
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
        self.at = [slider(f"start-{axis}", f"start {axis}", 0, 1, 0.01, 0) for axis in "xy"]
        self.methods = CheckboxGroup(
            name="methods", labels=list(METHODS), active=[0, 1, 2], sizing_mode="stretch_width",
            stylesheets=[coloured([COLOUR[name] for name in METHODS], "label")])
        self.says = Div(name="says", sizing_mode="stretch_width")
        for widget in (self.condition, self.lr, self.momentum, self.steps):
            widget.on_change("value", self._changed)
        self.methods.on_change("active", self._changed)
        for axis, place in enumerate(self.at):
            place.format = "0.00"
            place.on_change("value", partial(self._slide, axis))
        self.surface.on_change("value", lambda attr, old, new: self.choose())
        self.controls = Column(
            self.surface, self.condition, self.lr, self.momentum, self.steps,
            Row(*self.at, sizing_mode="stretch_width", spacing=12),
            heading("methods"), self.methods, heading("what happens"), self.says,
            name="landscape-controls", sizing_mode="stretch_width", spacing=4)

    def _make_charts(self) -> None:
        self.lines = ColumnDataSource({name: [] for name in COLUMNS}, name="paths")
        self.begin = ColumnDataSource({"x": [], "y": []}, name="start")
        self.begin.on_change("tags", self._taken)
        self.minima = ColumnDataSource({"x": [], "y": [], "colour": []})
        ground, self.map = layers("landscape-surface", "drag the square to start elsewhere",
                                  x_range=Range1d(), y_range=Range1d())
        ground.grid.visible = ground.axis.visible = False
        levels = np.geomspace(1e-4, 1, LEVELS)
        x = np.linspace(0, 1, 3)
        self._contours = ground.contour(x, x, np.outer(x, x), levels=[0, *levels],
                                        fill_color=shades(LEVELS), line_color="#9fb0c3",
                                        line_width=0.6)
        self.map.multi_line("x", "y", source=self.lines, line_color="colour", line_width=2,
                            line_join="round")
        self.map.scatter("x", "y", source=self.minima, marker="star", size=20, fill_color="colour",
                         line_color=INK)
        self.map.scatter("end_x", "end_y", source=self.lines, marker="marker", size=10,
                         fill_color="colour", line_color="white", line_width=1.5)
        self.map.scatter("x", "y", source=self.begin, marker="square", size=15, fill_color=INK,
                         line_color="white", line_width=2)
        values, self.values = layers("landscape-values", "value", "step", y_axis_type="log",
                                     x_range=Range1d(), y_range=Range1d(1, 10), min_border_left=54)
        speeds, self.speeds = layers("landscape-speeds", "velocity: length of each step", "step",
                                     y_axis_type="log", x_range=self.values.x_range,
                                     y_range=Range1d(1, 10), min_border_left=54)
        self.roots = [self.controls, ground, self.map, values, self.values, speeds, self.speeds]
        for where, name in ((self.values, "value"), (self.speeds, "speed")):
            where.multi_line("step", name, source=self.lines, line_color="colour", line_width=2)
        self.lines.js_on_change("data", CustomJS(code=TAKEN, args={
            "taken": self.begin, "charts": [self.map, self.values, self.speeds]}))
        self.map.on_event(PanStart, self._grab)
        self.map.on_event(Pan, self._drag)
        self.map.on_event(PanEnd, self._drop)
        self.map.on_event(Tap, lambda event: self._move(event.x, event.y))

    # What they do ---------------------------------------------------------------------------------

    def _changed(self, attr: str, old: Any, new: Any) -> None:
        self._wanted = True
        self._draw_next()

    def _draw_next(self) -> None:
        """Show what is wanted, unless the browser has not yet taken what was wanted before.

        So pictures never queue up: while a slider moves, each is of its latest place.
        """
        if not self._wanted:
            return
        if self._document is not None and time.monotonic() - self._sent < PATIENCE:
            self._call_later()      # in case that no answer comes, as from a page that is hidden
            return
        self._wanted, self._sent = False, time.monotonic()
        self.update()

    def _taken(self, attr: str, old: Any, new: Any) -> None:
        self._sent = -math.inf
        self._draw_next()

    def _call_later(self) -> None:
        if not self._waits:
            self._waits = True
            self._document.add_timeout_callback(self._come_back, 1000 * SAY)

    def _come_back(self) -> None:
        self._waits = False
        self._draw_next()
        self._say()

    def _say(self) -> None:
        """Show the sentences, but while a slider moves only now and then: they cost as much."""
        now = time.monotonic()
        if self._document is not None and now - self._said < SAY:
            self._call_later()
            return
        text = "".join(
            f'<p style="margin:0 0 6px"><b style="color:{COLOUR[name]}">{escape(name)}</b> '
            f'{escape(sentence(name, path, *self._pair))}.</p>'
            for name, path in self._found.items()) or (
            f'<p style="color:{FAINT}">Choose a method.</p>')
        if text != self.says.text:
            self.says.text, self._said = text, now

    def choose(self) -> None:
        """Show another surface, from its start and with its learning rate."""
        surface = self._surface()
        self.start = surface.start
        self.condition.visible = surface.name == "ravine"
        self.lr.value = round(math.log10(surface.lr["momentum"]), 2)
        self._changed("", None, None)

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

    def _slide(self, axis: int, attr: str, old: Any, new: Any) -> None:
        if not self._following:
            self.start = (new, self.start[1]) if axis == 0 else (self.start[0], new)
            self._changed("", None, None)

    def _move(self, x: float | None, y: float | None) -> None:
        """Start at this place, but within the picture."""
        if x is None or y is None:
            return
        self.start = x, y
        self._changed("", None, None)

    def update(self) -> None:
        """Compute the paths and show them."""
        self.start = within(self.start, self._surface().bounds)
        surface = replace(self._surface(), start=self.start)
        lr, m = 10 ** float(self.lr.value), float(self.momentum.value)
        names = [list(METHODS)[i] for i in sorted(self.methods.active)]
        found = paths(surface, int(self.steps.value),
                      {name: METHODS[name](m) for name in names}, lr=lr)
        self._draw_surface(surface)
        self.lines.data = columns(found, lr, m)
        self.values.x_range.end = int(self.steps.value)
        for where, name in ((self.values, "value"), (self.speeds, "speed")):
            set_decades(where.y_range, self.lines.data[name])
        self._show_start(surface.bounds)
        self._found, self._pair = found, (lr, m)
        self._say()
        self.updates += 1

    def _show_start(self, bounds: tuple[Point, Point]) -> None:
        """Let square and sliders follow the start, unless they are there."""
        if (self.start, bounds) == self._begun:
            return
        self._begun = self.start, bounds
        self.begin.data = {"x": [self.start[0]], "y": [self.start[1]]}
        self._following = True
        for place, value, (low, high) in zip(self.at, self.start, bounds, strict=True):
            place.update(start=low, end=high, value=value)
        self._following = False

    def _draw_surface(self, surface: Surface) -> None:
        """Draw the contours, unless it is the surface that is there."""
        key = surface.name, float(self.condition.value)
        if key == self._shown:
            return
        self._shown = key
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
