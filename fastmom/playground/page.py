"""The page around the rooms: its template, and widgets that all rooms have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import CustomJSTickFormatter, Div, LogAxis, Slider
from bokeh.plotting import figure

from fastmom.plot.style import COLOURS

if TYPE_CHECKING:
    from fastmom.landscape import Point

LOWEST = 1e-12      # on logarithmic axes
INK, FAINT, LINES = "#222b36", "#6b7684", "#e3e7ec"
ROOMS = {"landscape": "Landscape", "training": "Training"}

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f6f9; color: #222b36; height: auto;
       font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { display: flex; align-items: baseline; gap: 1.2rem; padding: .7rem 1.2rem;
         background: #fff; border-bottom: 1px solid #e3e7ec; flex-wrap: wrap; }
header h1 { font-size: 1.15rem; margin: 0; }
header nav button { font: inherit; border: 0; background: none; padding: .3rem .7rem;
                    border-radius: .5rem; color: #4b5664; cursor: pointer; }
header nav button[aria-selected=true] { background: #e5eef7; color: #00548a; font-weight: 600; }
main { max-width: 1500px; margin: 0 auto; padding: .8rem; box-sizing: border-box; }
.room { display: grid; gap: .8rem; }
.room[hidden] { display: none; }
.card { background: #fff; border: 1px solid #e3e7ec; border-radius: .7rem; padding: .6rem;
        min-width: 0; overflow: hidden; }
.plot { position: relative; display: grid; }
.plot > div > * { grid-area: 1 / 1; }
.controls { display: flex; flex-direction: column; gap: .5rem; overflow-y: auto; }
.landscape { grid-template: "controls surface values" 1fr "controls surface speeds" 1fr
             / 250px minmax(0, 5fr) minmax(0, 4fr); height: calc(100vh - 5rem);
             min-height: 560px; max-height: 900px; }
.training { grid-template: "controls loss accuracy" 1fr "controls loss step" 1fr
            "controls norms cosine" 1fr / 250px minmax(0, 1fr) minmax(0, 1fr);
            height: calc(100vh - 5rem); min-height: 660px; max-height: 1000px; }
@media (max-width: 900px) {
  .landscape { grid-template: "surface" 360px "controls" auto "values" 260px "speeds" 260px
               / minmax(0, 1fr); height: auto; max-height: none; }
  .training { grid-template: "controls" auto "loss" 320px "accuracy" 240px "step" 240px
              "norms" 240px "cosine" 240px / minmax(0, 1fr); height: auto; max-height: none; }
  main { padding: .5rem; }
}
"""

SCRIPT = """
function show(name) {
  for (const room of document.querySelectorAll(".room")) room.hidden = room.id != name;
  for (const tab of document.querySelectorAll("nav button"))
    tab.setAttribute("aria-selected", tab.dataset.room == name);
  history.replaceState(null, "", "#" + name);
}
for (const tab of document.querySelectorAll("nav button"))
  tab.addEventListener("click", () => show(tab.dataset.room));
show(location.hash == "#training" ? "training" : "landscape");
"""

TEMPLATE = """
{% extends base %}
{% block title %}{{ title or heading }}{% endblock %}
{% block preamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
{% endblock %}
{% block postamble %}<style>""" + STYLE + """</style>{% endblock %}
{% block contents %}
{% from macros import embed %}
<header><h1>{{ heading }}</h1>
{% if rooms | length > 1 %}
<nav role="tablist">
{% for name, words in rooms.items() %}
<button role="tab" data-room="{{ name }}">{{ words }}</button>
{% endfor %}
</nav>
{% endif %}
</header>
<main>
{% for name in rooms %}
<section id="{{ name }}" class="room {{ name }}">
{% for root in doc.roots if root.name.startswith(name + "-") %}
<div class="card {{ 'controls' if root.name.endswith('-controls') else 'plot' }}"
     style="grid-area: {{ root.name.split('-')[1] }}">
{% for under in doc.roots if under.name == "under-" + root.name.split('-')[1] %}
{{ embed(under) }}
{% endfor %}
{{ embed(root) }}</div>
{% endfor %}
</section>
{% endfor %}
</main>
{% if rooms | length > 1 %}<script>""" + SCRIPT + """</script>{% endif %}
{% endblock %}
"""


def chart(name: str, title: str, x: str = "", y: str = "", **options: Any) -> Any:
    """Return an empty figure in the style of the page."""
    made = figure(**{"name": name, "title": title, "sizing_mode": "stretch_both", "min_width": 200,
                     "min_height": 120, "toolbar_location": None, "tools": "",
                     "x_axis_label": x or None, "y_axis_label": y or None,
                     "border_fill_color": None, "outline_line_color": None, **options})
    made.title.text_color, made.title.text_font_size = INK, "14px"
    for axis in made.axis:
        axis.axis_line_color = axis.minor_tick_line_color = None
        axis.major_tick_line_color = LINES
        axis.major_label_text_color = axis.axis_label_text_color = FAINT
        axis.axis_label_text_font_style, axis.axis_label_text_font_size = "normal", "12px"
        axis.ticker.desired_num_ticks = 4       # each label costs time at each picture
        axis.ticker.num_minor_ticks = 0
        if isinstance(axis, LogAxis):
            axis.ticker.mantissas = [1, 2, 5]       # more would overlap
    made.grid.grid_line_color = LINES
    return made


def layers(name: str, title: str, x: str = "", **options: Any) -> tuple[Any, Any]:
    """Return two figures for one place, which share their ranges: the ground, and one to draw upon.

    The ground has title, axes and whatever else stays. It is not drawn again when curves change,
    which would take longer than the curves themselves.
    """
    borders = {"min_border_top": 32, "min_border_right": 12, "min_border_bottom": 48 if x else 5,
               "min_border_left": 5}
    ground = chart(f"under-{name.split('-')[1]}", title, x, **borders | options)
    shared = {"x_range": ground.x_range, "y_range": ground.y_range, "background_fill_color": None}
    above = chart(name, "", **borders | options | shared)
    above.left = above.below = above.center = []
    above.title.visible = False
    return ground, above


def set_decades(span: Any, curves: Sequence[Any]) -> None:
    """Let an axis span whole decades: it then seldom changes, which would cost time."""
    numbers = np.concatenate(curves) if curves else np.ones(1)
    numbers = numbers[np.isfinite(numbers)]
    low = math.floor(math.log10(max(numbers.min(), LOWEST))) if numbers.size else 0
    high = math.ceil(math.log10(max(numbers.max(), LOWEST))) if numbers.size else 1
    ends = 10.0 ** low, 10.0 ** max(high, low + 1)
    if (span.start, span.end) != ends:
        span.update(start=ends[0], end=ends[1])


def within(at: Point, bounds: tuple[Point, Point]) -> Point:
    """Return the point of the picture that is nearest to this."""
    x, y = (min(max(float(v), low), high) for v, (low, high) in zip(at, bounds, strict=True))
    return x, y


def style_legend(legend: Any, location: str = "top_right") -> None:
    """Make a legend small and let curves be seen through it."""
    legend.location, legend.background_fill_alpha = location, 0.75
    legend.border_line_color, legend.label_text_font_size = None, "12px"
    legend.padding = legend.margin = 4
    legend.spacing, legend.label_height, legend.glyph_height = 0, 16, 16


def slider(name: str, title: str, start: float, end: float, step: float, value: float,
           log: bool = False) -> Slider:
    """Return a slider; with `log` it holds the decimal logarithm and shows the number."""
    options: dict[str, Any] = {"format": CustomJSTickFormatter(
        code="return Number((10 ** tick).toPrecision(3)).toString()")} if log else {}
    return Slider(name=name, title=title, start=start, end=end, step=step, value=value,
                  bar_color=COLOURS[1], sizing_mode="stretch_width", **options)


def heading(text: str) -> Div:
    """Return a small heading among the controls."""
    return Div(text=f'<div style="color:{FAINT};font-size:12px;letter-spacing:.04em;'
                    f'text-transform:uppercase;margin-top:4px">{text}</div>',
               sizing_mode="stretch_width")


def coloured(colours: Sequence[str], selector: str) -> str:
    """Return a style that colours the labels of a group of check boxes one by one."""
    return "\n".join(f"{selector}:nth-of-type({i}) {{ color: {colour}; font-weight: 600; }}"
                     for i, colour in enumerate(colours, 1))


def shades(count: int) -> list[str]:
    """Return colours from white, for low, to a soft blue."""
    low, high = np.array([255, 255, 255]), np.array([176, 196, 218])
    return ["#{:02x}{:02x}{:02x}".format(*np.rint(low + (high - low) * t ** 1.2).astype(int))
            for t in np.linspace(0, 1, count)]
