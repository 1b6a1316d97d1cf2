"""What all figures share: colours, axes, files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmom.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, told apart with any colour vision; their yellow is too pale for
# lines on white.
COLOURS = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
SUFFIXES = ".png", ".svg", ".pdf"
SMALL, NORMAL = 8, 9        # points
DPI = 150


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure, whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path
        Ends in ``.png``, ``.svg`` or ``.pdf``. Its directory is made if need be.

    Raises
    ------
    ValueError
        For any other ending.
    """
    target = check_suffix(path, SUFFIXES)
    with replacing(target) as partial:
        figure.savefig(partial, format=target.suffix.lower()[1:], dpi=DPI)


def check_suffix(path: str | os.PathLike[str], allowed: Collection[str]) -> Path:
    """The path, if it ends in one of these."""
    target = Path(path)
    if target.suffix.lower() not in allowed:
        raise ValueError(f"path must end in {' or '.join(allowed)}, not be {str(path)!r}")
    return target


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('figures need matplotlib: pip install "fastmom[plot]"') from None
    return Figure((width, height), layout="constrained", facecolor="white")


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label, in order."""
    distinct = list(dict.fromkeys(labels))
    if not 1 <= len(distinct) <= len(COLOURS):
        raise ValueError(f"there must be 1 to {len(COLOURS)} labels to be told apart by colour, "
                         f"not {len(distinct)}")
    return dict(zip(distinct, COLOURS, strict=False))


def decorate(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Labels, a thin grid behind the data, and no frame where there are no numbers."""
    axes.set_xlabel(x, fontsize=NORMAL)
    axes.set_ylabel(y, fontsize=NORMAL)
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.tick_params(which="both", labelsize=SMALL)
    axes.grid(lw=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, handles: list[Any]) -> None:
    """One legend for all axes, above them, where it hides nothing; in columns that fit."""
    widths = [len(str(handle.get_label())) + 8 for handle in handles]     # in letters, roughly
    room = 14 * figure.get_figwidth()
    columns = len(handles) if sum(widths) <= room else max(1, int(room // max(widths)))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False,
                  fontsize=NORMAL)


def whole_numbers(axes: Axes) -> None:
    """Ticks of the x axis at integers."""
    from matplotlib.ticker import MaxNLocator
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True,
                                             min_n_ticks=1))
