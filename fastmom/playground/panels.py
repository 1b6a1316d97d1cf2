"""The charts of a training: loss, accuracy, effective step, lengths and their angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, Legend, LegendItem, Range1d

from fastmom.playground.page import chart, style_legend
from fastmom.playground.recording import ACCURACIES, MEASURES, STEPS, Recording
from fastmom.plot.style import COLOURS

MOST = 4000         # points of a curve; beyond, every second one is shown
RUN_COLOURS = COLOURS[1], COLOURS[0]


class Curve:
    """Columns of a recording as a source that grows, thinned out so that it stays small."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.source = ColumnDataSource({column: [] for column in columns}, name=name)
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self._seen, self._stride = 0, 1
        self.source.data = {name: [] for name in self.source.data}

    def follow(self, columns: Mapping[str, Sequence[float]]) -> None:
        """Show what these columns have more than the last time."""
        n = len(columns[next(iter(self.source.data))])      # the first is the last to be written
        if n == self._seen:
            return
        start = -(-self._seen // self._stride) * self._stride
        if n // self._stride > MOST:
            while n // self._stride > MOST:
                self._stride *= 2
            self.source.data = self._rows(columns, 0, n)
        else:
            self.source.stream(self._rows(columns, start, n))
        self._seen = n

    def _rows(self, columns: Mapping[str, Sequence[float]], start: int, stop: int) -> Any:
        return {name: columns[name][start:stop:self._stride] for name in self.source.data}


class Curves:
    """All that is shown of one run."""

    def __init__(self, label: str) -> None:
        self.steps = Curve(f"{label} steps", STEPS)
        self.measures = Curve(f"{label} measures", MEASURES)
        self.accuracies = Curve(f"{label} accuracies", ACCURACIES)
        self.marks = ColumnDataSource({"step": [], "text": [], "loss": []}, name=f"{label} marks")

    def clear(self) -> None:
        for curve in (self.steps, self.measures, self.accuracies):
            curve.clear()
        self.marks.data = {"step": [], "text": [], "loss": []}

    def follow(self, record: Recording, marks: Sequence[tuple[int, str]] = ()) -> None:
        """Show what the recording has more than the last time, and the marks."""
        self.steps.follow(record.steps)
        self.measures.follow(record.measures)
        self.accuracies.follow(record.accuracies)
        done = len(record.steps["step"])
        there = [(step, text) for step, text in marks if step < done]
        if len(there) != len(self.marks.data["step"]):
            first = record.steps["step"][0] - 1     # of a training that was resumed
            self.marks.data = {
                "step": [step for step, _ in there], "text": [text for _, text in there],
                "loss": [record.steps["smooth"][int(step - first)] for step, _ in there]}


class Panels:
    """The charts, with the curves of up to two runs.

    Attributes
    ----------
    charts : list of figure
    curves : list of Curves
    """

    def __init__(self, labels: Sequence[str], tools: str = "") -> None:
        def made(name: str, title: str, **options: Any) -> Any:
            made = chart(f"training-{name}", title, "step", **options, tools=tools,
                         toolbar_location="above" if tools else None)
            made.toolbar.update(autohide=True, logo=None)
            return made
        self.loss = made("loss", "training loss (bold: smoothed)", y_axis_type="log")
        shared = {"x_range": self.loss.x_range}
        self.accuracy = made("accuracy", "accuracy held out (%)", **shared)
        self.step = made("step", "effective step: ‖Δp‖ / ‖g‖", y_axis_type="log", **shared)
        self.norms = made("norms", "velocity ‖v‖, gradient ‖g‖ (dashed)", y_axis_type="log",
                          **shared)
        self.cosine = made("cosine", "cosine between v and g", y_range=Range1d(-1.05, 1.05),
                           **shared)
        self.charts = [self.loss, self.accuracy, self.step, self.norms, self.cosine]
        self.curves = [Curves(label) for label in labels]
        # Axes need something to span before the first step
        self._anchor = ColumnDataSource({"x": [0, 100], "y": [0.1, 1]})
        for each in self.charts:
            each.line("x", "y", source=self._anchor, line_alpha=0)
        items = [LegendItem(label=label, renderers=self._draw(curves, colour)) for
                 label, curves, colour in zip(labels, self.curves, RUN_COLOURS, strict=False)]
        self.legend = Legend(items=items, visible=len(items) > 1)
        self.loss.add_layout(self.legend)
        style_legend(self.legend)

    def follow(self, i: int, record: Recording, marks: Sequence[tuple[int, str]] = ()) -> None:
        """Show what a run's recording has more than the last time, and the turns of its knobs."""
        self.curves[i].follow(record, marks)
        if len(record.steps["step"]) > 1 and len(self._anchor.data["x"]):
            self._anchor.data = {"x": [], "y": []}

    def clear(self, i: int) -> None:
        """Show nothing of a run."""
        if not any(len(curves.steps.source.data["step"]) for j, curves in enumerate(self.curves)
                   if j != i):
            self._anchor.data = {"x": [0, 100], "y": [0.1, 1]}
        self.curves[i].clear()

    def _draw(self, curves: Curves, colour: str) -> list[Any]:
        """Draw a run in all charts; return what the legend shows of it."""
        for each in self.charts:
            each.vspan(x="step", source=curves.marks, line_color=colour, line_dash="dotted",
                       line_width=1.2)
        steps, measures = curves.steps.source, curves.measures.source
        look: dict[str, Any] = {"line_color": colour, "line_width": 1.6}
        self.loss.line("step", "loss", source=steps, line_color=colour, line_alpha=0.22)
        bold = self.loss.line("step", "smooth", source=steps, **look | {"line_width": 2.2})
        self.loss.text("step", "loss", "text", source=curves.marks, text_color=colour, x_offset=5,
                       y_offset=-16, text_font_size="12px", background_fill_color="white",
                       background_fill_alpha=0.8)
        self.accuracy.line("step", "accuracy", source=curves.accuracies.source, **look)
        self.accuracy.scatter("step", "accuracy", source=curves.accuracies.source, size=4,
                              color=colour)
        self.step.line("step", "effective", source=measures, **look)
        self.norms.line("step", "velocity", source=measures, **look)
        self.norms.line("step", "gradient", source=measures, line_dash="dashed",
                        **look | {"line_alpha": 0.6})
        self.cosine.line("step", "cosine", source=measures, **look | {"line_width": 1.0})
        return [bold]

