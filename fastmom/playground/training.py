"""The room of training: a network trains in the background, and its knobs can be turned."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any

from bokeh.models import (
    Button,
    Column,
    CustomJS,
    Div,
    RadioButtonGroup,
    Row,
    Select,
)

from fastmom.playground.page import heading, slider
from fastmom.playground.panels import RUN_COLOURS, Panels
from fastmom.playground.recipe import recipe
from fastmom.playground.runs import METHODS, Knob, Run, Settings

LABELS = "run A", "run B"
LR, MOMENTUM, PACE = 0.01, 0.9, 200.0

SAVE_RECIPE = """
const [text, name] = source.tags;
const blob = new Blob([text], {type: "text/x-python"});
const link = document.createElement("a");
link.href = URL.createObjectURL(blob);
link.download = name;
link.click();
setTimeout(() => URL.revokeObjectURL(link.href), 10000);
"""

# Puts the charts that are on the page, as pictures, onto one canvas: the first one wide, on top
SAVE_FIGURE = """
const views = charts.map((chart) => Bokeh.index.find_one(chart));
const layers = views.map((view) => view.export("png").canvas);
const scale = window.devicePixelRatio, gap = 12 * scale, columns = 2;
const width = Math.max(...layers.map((layer) => layer.width));
const height = Math.max(...layers.slice(1).map((layer) => layer.height));
const canvas = document.createElement("canvas"), first = layers[0];
canvas.width = columns * width + 3 * gap;
canvas.height = first.height + Math.ceil((layers.length - 1) / columns) * (height + gap) + 2 * gap;
const paint = canvas.getContext("2d");
paint.fillStyle = "white";
paint.fillRect(0, 0, canvas.width, canvas.height);
paint.drawImage(first, (canvas.width - first.width) / 2, gap);
layers.slice(1).forEach((layer, i) => paint.drawImage(
  layer, gap + (i % columns) * (width + gap),
  first.height + 2 * gap + Math.floor(i / columns) * (height + gap)));
canvas.toBlob((blob) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "fastmom-training.png";
  link.click();
});
"""


class Training:
    """The models of the room, its runs, and what the controls do.

    Attributes
    ----------
    roots : list of Model
        Named after their places on the page.
    runs : list of (Run or None)
        The one, and the second beside it.
    saved : int
        Recipes so far.
    """

    def __init__(self, data: str = "auto") -> None:
        self._data, self.saved = data, 0
        self.panels = Panels(LABELS)
        self.panels.legend.visible = False
        self.runs: list[Run | None] = [None, None]
        self._make_controls()
        self.roots = [self.controls, *self.panels.charts]
        self._listening = True
        self.tick()

    # Models ---------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        self.method = Select(name="method", options=list(METHODS), value="momentum", **wide)
        self.which = RadioButtonGroup(name="which", labels=list(LABELS), active=0, visible=False,
                                      **wide)
        self.lr = slider("train-lr", "learning rate", -4, 0.5, 0.01, math.log10(LR), log=True)
        self.momentum = slider("train-momentum", "momentum", 0, 0.999, 0.001, MOMENTUM)
        self.momentum.format = "0.000"
        self.pace = slider("pace", "steps per second", 0.7, 3.3, 0.1, math.log10(PACE), log=True)
        self.go = button("go", "Start", self.start_or_pause, "primary")
        self.again = button("restart", "Restart", self.restart)
        self.second = button("second", "Second run beside this one", self.start_second)
        self.save_figure = button("save-figure", "Save figure", None)
        self.save_figure.js_on_event("button_click", CustomJS(
            args={"charts": self.panels.charts}, code=SAVE_FIGURE))
        self.save_recipe = button("save-recipe", "Save recipe", self.write_recipe)
        self.script = Div(name="recipe", visible=False)
        self.script.js_on_change("tags", CustomJS(args={"source": self.script}, code=SAVE_RECIPE))
        self.says = Div(name="status", **wide)
        self.lr.on_change("value", self._turned)
        self.momentum.on_change("value", self._turned)
        self.pace.on_change("value", self._paced)
        self.method.on_change("value", lambda attr, old, new: self.restart())
        self.which.on_change("active", lambda attr, old, new: self._show_knobs())
        self.controls = Column(
            Row(self.go, self.again, spacing=6, **wide), heading("knobs of the running training"),
            self.which, self.lr, self.momentum, self.pace, self.method, self.second,
            Row(self.save_figure, self.save_recipe, spacing=6, **wide),
            heading("how it stands"), self.says, self.script,
            name="training-controls", spacing=4, **wide)

    # What they do ---------------------------------------------------------------------------------

    @property
    def current(self) -> int:
        """The number of the run that the knobs act on."""
        return int(self.which.active or 0)

    def _new_run(self) -> Run:
        run = Run(Settings(data=self._data, method=str(self.method.value)),
                  Knob(rounded(10 ** float(self.lr.value))), Knob(float(self.momentum.value)))
        run.pace = 10 ** float(self.pace.value)
        return run

    def start_or_pause(self) -> None:
        """Let all runs go on, or pause them."""
        if any(run is not None and run.running for run in self.runs):
            for run in self.runs:
                if run is not None:
                    run.pause()
        else:
            if self.runs[self.current] is None:
                self.runs[self.current] = self._new_run()
            for run in self.runs:
                if run is not None:
                    run.go()
        self.tick()

    def restart(self) -> None:
        """Begin the run of the knobs anew, with the knobs as they are."""
        self._replace(self.current)

    def start_second(self) -> None:
        """Begin a second run from the same weights, with its own knobs."""
        self.which.active = 0
        self._replace(1)
        self.which.visible = self.panels.legend.visible = True
        self.which.active = 1

    def _replace(self, i: int) -> None:
        before = self.runs[i]
        if before is not None:
            before.stop()
        self.panels.clear(i)
        self.runs[i] = run = self._new_run()
        if before is None or before.running or not before.alive:
            run.go()
        self.tick()

    def _turned(self, attr: str, old: Any, new: Any) -> None:
        run = self.runs[self.current]
        if run is not None and self._listening:
            run.lr.value = rounded(10 ** float(self.lr.value))
            run.momentum.value = float(self.momentum.value)

    def _paced(self, attr: str, old: Any, new: Any) -> None:
        for run in self.runs:
            if run is not None:
                run.pace = 10 ** float(self.pace.value)

    def _show_knobs(self) -> None:
        """Let the sliders stand where the knobs of the chosen run do."""
        run = self.runs[self.current]
        if run is not None:
            self._listening = False
            self.lr.value = round(math.log10(run.lr.value), 2)
            self.momentum.value = run.momentum.value
            self._listening = True

    def write_recipe(self) -> None:
        """Hand the browser the script that repeats the run of the knobs."""
        run = self.runs[self.current]
        if run is not None and run.step:
            self.saved += 1         # so that the tags differ, and the browser is told
            self.script.tags = [recipe(run), f"recipe_{run.step}.py", self.saved]

    def tick(self) -> None:
        """Show what has come since the last time."""
        lines = []
        for i, (label, colour, run) in enumerate(zip(LABELS, RUN_COLOURS, self.runs, strict=True)):
            if run is None:
                continue
            if run.record is not None:
                self.panels.follow(i, run.record, run.marks())
            lines.append(f'<p style="margin:0 0 6px"><b style="color:{colour}">{label}</b> '
                         f'{escape(run.status())}</p>')
        text = "".join(lines) or "A network of 784-128-10 units; press Start."
        going = any(run is not None and run.running for run in self.runs)
        started = any(run is not None for run in self.runs)
        for model, name, value in ((self.says, "text", text), (self.go, "label", "Pause" if going
                                   else "Go on" if started else "Start")):
            if getattr(model, name) != value:
                setattr(model, name, value)

    def close(self) -> None:
        """End the runs."""
        for run in self.runs:
            if run is not None:
                run.stop()


def rounded(value: float) -> float:
    """Return the number as the slider shows it."""
    return float(f"{value:.3g}")


def button(name: str, label: str, does: Callable[[], None] | None, kind: str = "default") -> Button:
    """Return a button that does this."""
    made = Button(name=name, label=label, button_type=kind, sizing_mode="stretch_width")
    if does is not None:
        made.on_click(does)
    return made
