"""Texts at the ends of lines, and the legend."""

from __future__ import annotations

import numpy as np
import pytest

from fastmom.plot.style import LINE, legend, new_figure, spread


@pytest.mark.parametrize(("heights", "expected"), [
    ([], []), ([0.5], [0.5]), ([0.5, 0.2], [0.5, 0.2]), ([0.5, 0.5], [0.45, 0.55]),
    ([0.5, 0.52, 0.54], [0.42, 0.52, 0.62]), ([0.9, 0.1, 0.1], [0.9, 0.05, 0.15])])
def test_spread(heights: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(spread(np.array(heights), 0.1), expected)


LONG = "word " * 40


@pytest.mark.parametrize(("labels", "title", "lines"), [
    ([], "", 0), ([], "title", 1), (["a"], "", 1), (["a", "b", "c"], "two\nlines", 3),
    ([LONG], "", 3), ([LONG], LONG, 5), ([f"{i}" * 30 for i in range(5)], "", 3)])
def test_the_legend_wraps_reads_by_rows_and_makes_room_for_itself(
        labels: list[str], title: str, lines: int) -> None:
    from matplotlib.lines import Line2D
    figure = new_figure(8, 3)
    figure.subplots()
    legend(figure, [Line2D([], [], label=label) for label in labels], title)
    assert figure.get_figheight() == pytest.approx(3 + LINE * lines)
    assert len(figure.legends) == bool(lines)
    figure.draw_without_rendering()
    for drawn in figure.legends:
        assert drawn.get_window_extent().width <= figure.bbox.width
        places = [text.get_window_extent() for text in drawn.get_texts()]
        at = {text.get_text().replace("\n", " "): (-round(place.y0), round(place.x0))
              for text, place in zip(drawn.get_texts(), places, strict=True)}
        assert sorted(at, key=lambda label: at[label]) == [label.strip() for label in labels]
