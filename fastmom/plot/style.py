"""Colours, axes, legends and files of all figures."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.extras import need
from fastmom.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# The colours of Okabe and Ito, told apart with any colour vision; their yellow is too pale for
# lines on white.
COLOURS = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
SUFFIXES = ".png", ".svg", ".pdf"
SMALL, NORMAL = 8, 9        # points
DPI = 150
LINE = 0.2          # inches of a line in the legend
TICKS = 5           # on a logarithmic axis, at least


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure, whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path
        Ends in ``.png``, ``.svg`` or ``.pdf``. Its directory is made if need be.

    Raises
    ------
    OSError
        If the file cannot be written: names it, and leaves the one that was there.
    ValueError
        For any other ending.
    """
    target = check_suffix(path, SUFFIXES)
    with naming(target), replacing(target) as partial:
        figure.savefig(partial, format=target.suffix.lower()[1:], dpi=DPI)


def check_suffix(path: str | os.PathLike[str], allowed: Collection[str]) -> Path:
    """Return the path; raises ValueError unless it ends in one of these."""
    target = Path(path)
    if target.suffix.lower() not in allowed:
        raise ValueError(f"path must end in {' or '.join(allowed)}, not be {str(path)!r}")
    return target


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Name the file in an error of writing it: that of a full disk knows no name."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{target} cannot be written: {error}") from error
        raise OSError(error.errno, error.strerror, str(target)) from error


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches; raises ImportError without matplotlib."""
    need("matplotlib.figure", "plot", "figures")
    from fastmom.plot.figure import Figure
    return Figure((width, height), layout="constrained", facecolor="white")


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """Return a colour for each label, in order; raises ValueError if there are too few."""
    distinct = list(dict.fromkeys(labels))
    if not 1 <= len(distinct) <= len(COLOURS):
        raise ValueError(f"there must be 1 to {len(COLOURS)} labels to be told apart by colour, "
                         f"not {len(distinct)}")
    return dict(zip(distinct, COLOURS, strict=False))


def decorate(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Set labels and a thin grid behind the data; no frame where there are no numbers."""
    axes.set_xlabel(x, fontsize=NORMAL)
    axes.set_ylabel(y, fontsize=NORMAL)
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.tick_params(which="both", labelsize=SMALL)
    axes.grid(lw=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, handles: Sequence[Any], title: str = "") -> None:
    """Add one legend for all axes above them, where it hides nothing; in columns that fit."""
    if not (handles or title):
        return
    room = int(13 * figure.get_figwidth())      # in letters, roughly
    for handle in handles:
        handle.set_label(textwrap.fill(str(handle.get_label()), room - 7))
    widths = [7 + max(map(len, handle.get_label().split("\n"))) for handle in handles]
    columns = len(handles) if sum(widths) <= room else room // max(widths)
    by_rows = [handle for column in range(columns) for handle in handles[column::columns]]
    rows = [handles[i:i + columns] for i in range(0, len(handles), columns or 1)]
    lines = sum(1 + max(handle.get_label().count("\n") for handle in row) for row in rows)
    title = "\n".join(textwrap.fill(line, room) for line in title.split("\n"))
    lines += (1 + title.count("\n")) * bool(title)
    figure.set_figheight(figure.get_figheight() + LINE * lines)
    figure.legend(handles=by_rows, loc="outside upper left", ncols=max(columns, 1), frameon=False,
                  fontsize=NORMAL, title=title or None, title_fontsize=NORMAL, alignment="left",
                  columnspacing=1.6)


def whole_numbers(axes: Axes) -> None:
    """Put the ticks of the x axis at integers."""
    from matplotlib.ticker import MaxNLocator
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True,
                                             min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def log_scale(axes: Axes) -> None:
    """Make the y axis logarithmic with plain numbers, in steps that give enough of them."""
    from matplotlib.ticker import LogLocator, MaxNLocator
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low <= 0:        # there is nothing to show
        axes.set_ylim(0.1, 1.0)
        return
    locator: Any = None
    for subs in (1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8):
        locator = LogLocator(subs=subs)
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) >= TICKS:
            break
    else:
        locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def write_inside(axes: Axes, text: str) -> None:
    """Say why axes are empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=NORMAL, transform=axes.transAxes)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str]], form: str) -> None:
    """Write the values at which lines end beside the axes, in their colours.

    To be called when the axes have their limits: the texts keep their distance from each other.
    """
    axes.get_ylim()     # else they may not be settled yet
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = np.array([to_axes.transform((1.0, value))[1] for value, _ in ends])
    for (value, colour), height in zip(ends, spread(heights.clip(0, 1), 0.075), strict=True):
        axes.annotate(form.format(value), (1.0, height), (3, 0), xycoords="axes fraction",
                      textcoords="offset points", color=colour, fontsize=SMALL, va="center",
                      fontweight="bold")


def spread(heights: NDArray[Any], gap: float) -> NDArray[Any]:
    """Move heights as little as needed, in squares, so that neighbours are `gap` apart."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    groups: list[list[float]] = []          # of equal height but for the steps
    for height in heights[order] - steps:
        groups.append([height])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    result = np.empty_like(heights)
    result[order] = [float(np.mean(group)) for group in groups for _ in group] + steps
    return result
