"""The charts of a training as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from bokeh.core.templates import FILE, get_env
from bokeh.embed import file_html
from bokeh.models import Column, Div
from bokeh.resources import INLINE

from fastmom.files import replacing
from fastmom.playground.page import TEMPLATE, heading
from fastmom.playground.panels import Panels
from fastmom.playground.recording import Recording


def write_report(path: Path, record: Recording, facts: Mapping[str, str]) -> None:
    """Write the report, whole or not at all.

    Parameters
    ----------
    path : path
    record : Recording
        Of at least one step.
    facts : mapping of str to str
        What stands beside the charts, under headings.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    panels = Panels(["training"], tools="xpan,xwheel_zoom,box_zoom,reset")
    panels.follow(0, record)
    said = [part for name, text in facts.items() for part in (heading(escape(name)), Div(
        text=escape(text).replace("\n", "<br>"), sizing_mode="stretch_width",
        styles={"overflow-wrap": "anywhere"}))]
    beside = Column(*said, name="training-controls", sizing_mode="stretch_width", spacing=4)
    text = file_html([beside, *panels.charts], INLINE, "fastmom: training",
                     template=get_env().from_string(TEMPLATE), template_variables={
                         "rooms": {"training": "Training"}, "heading": "fastmom train",
                         "base": FILE})
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
