"""Paths on surfaces, as a figure and as an animation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastmom.files import replacing
from fastmom.plot.style import (
    check_suffix,
    colours_of,
    decorate,
    legend,
    naming,
    new_figure,
    whole_numbers,
    write_inside,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from fastmom.landscape import Surface, Trajectory

    Results: TypeAlias = Mapping[str, Mapping[str, Trajectory]]

SHADES = [f"#{shade:02x}{shade:02x}{shade:02x}" for shade in range(255, 255 - 23 * 2, -2)]
PAUSE = 20          # frames of an animation's end, to look at
DOTTED = 300        # steps of a path, at most, that can be told apart
LOWEST = 1e-12      # of the values on the axis: what is below shows rounding only


def plot_landscape(results: Results) -> Figure:
    """Draw paths on surfaces, and beside each surface the value at each step.

    Parameters
    ----------
    results : mapping of str to mapping
        For each row's title what `fastmom.landscape.paths` returns for one surface.

    Returns
    -------
    matplotlib.figure.Figure
        A path that diverged ends in a cross. A notebook shows it.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If there are no paths, or more than 7 methods.

    Examples
    --------
    >>> from fastmom import landscape, plot
    >>> surface = landscape.SURFACES["beale"]
    >>> figure = plot.plot_landscape({surface.title: landscape.paths(surface, 20)})
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Beale', 'lr 0.005']
    """
    return draw(results)[0]


def animate_landscape(results: Results, path: str | os.PathLike[str], *, frames: int = 60,
                      progress: Callable[[], object] | None = None) -> None:
    """Write `plot_landscape` as an animated GIF, whole or not at all.

    Parameters
    ----------
    results : mapping of str to mapping
        As for `plot_landscape`.
    path : path
        Ends in ``.gif``. Its directory is made if need be.
    frames : int, default 60
        >= 2. Each row takes all of them, whatever its number of steps.
    progress : callable, optional
        Called after each frame, as ``tqdm.tqdm(total=frames).update``.

    Raises
    ------
    ImportError
        Without matplotlib.
    OSError
        If the file cannot be written: names it, and leaves the one that was there.
    ValueError
        For another ending, fewer frames, or as `plot_landscape` does.
    """
    target = check_suffix(path, (".gif",))
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 2:
        raise ValueError(f"frames must be an integer >= 2, not {frames!r}")
    figure, rows = draw(results)
    from matplotlib.animation import PillowWriter

    from fastmom.plot.figure import SCREEN
    freeze(figure, [artist for row in rows for line in row for artist in line.artists])
    writer = PillowWriter(fps=20)
    with naming(target), replacing(target) as partial:
        writer.setup(figure, str(partial), SCREEN)
        for frame in range(frames):
            for row in rows:
                steps = max(line.trajectory.steps for line in row)
                for line in row:
                    line.show(round(frame / (frames - 1) * steps))
            writer.grab_frame()
            if progress is not None:
                progress()
        for _ in range(PAUSE):
            writer.grab_frame()
        writer.finish()


def freeze(figure: Figure, moving: Sequence[Artist]) -> None:
    """Make a picture of all that does not move: drawing contours anew takes most of a frame."""
    from fastmom.plot.figure import SCREEN
    figure.draw_without_rendering()     # settles the layout, which is to stay
    figure.set_layout_engine("none")
    for artist in moving:
        artist.set_visible(False)
    pixels = BytesIO()
    figure.savefig(pixels, format="rgba", dpi=SCREEN)
    width, height = (round(SCREEN * inches) for inches in figure.get_size_inches())
    picture = np.frombuffer(pixels.getvalue(), np.uint8).reshape(height, width, 4)
    still = [child for axes in figure.axes for child in axes.get_children()]
    for artist in [*still, *figure.legends]:
        artist.set_visible(artist in moving)
    figure.set_dpi(SCREEN)
    figure.figimage(picture, zorder=-1)


# Drawing ------------------------------------------------------------------------------------------

class Moving:
    """The lines of one trajectory, which can be shown in part."""

    def __init__(self, trajectory: Trajectory, on_surface: Axes, over_steps: Axes,
                 colour: str, above: int) -> None:
        self.trajectory = trajectory
        # where others lie on it, a path is seen by its margins
        self.margin, = on_surface.plot([], [], color=colour, lw=1 + 3 * above, alpha=0.4)
        self.path, = on_surface.plot([], [], color=colour, lw=1.0, ms=2.2, mew=0,
                                     marker="o" if trajectory.steps <= DOTTED else "")
        self.head, = on_surface.plot([], [], color=colour, mec="white", zorder=4)
        self.value, = over_steps.plot([], [], color=colour, lw=1.6)
        self.last, = over_steps.plot([], [], color=colour, mec="white", zorder=4)
        self.artists = [self.margin, self.path, self.head, self.value, self.last]

    def show(self, step: int) -> None:
        """Show the path up to this step."""
        whole = self.trajectory
        n = min(step, whole.steps) + 1
        self.margin.set_data(*whole.points[:n].T)
        self.path.set_data(*whole.points[:n].T)
        self.head.set_data(*whole.points[n - 1:n].T)
        self.value.set_data(range(n), whole.values[:n])
        self.last.set_data([n - 1], whole.values[n - 1:n])
        for end in (self.head, self.last):
            gone = whole.diverged and step >= whole.steps
            end.set(marker="X" if gone else "o", markersize=9 if gone else 6)


def draw(results: Results) -> tuple[Figure, list[list[Moving]]]:
    """Return the whole figure, and the lines of each row."""
    if empty := [title for title, row in results.items() if not row]:
        raise ValueError(f"results: {empty[0]!r} has no paths")
    colours = colours_of(path.label for row in results.values() for path in row.values())
    figure = new_figure(8, 0.2 + 2.75 * len(results))
    grid = figure.subplots(len(results), 2, squeeze=False)
    moving = []
    for (title, row), (left, right) in zip(results.items(), grid, strict=True):
        found = list(row.values())
        draw_surface(left, found[0].surface)
        decorate(left, "x", "y", title)
        left.grid(False)
        decorate(right, "step", "f(x, y) (log)", rates(row))
        lines = [Moving(path, left, right, colours[path.label], len(found) - 1 - i)
                 for i, path in enumerate(found)]
        values = np.concatenate([path.values for path in found])
        last, low, high = max(path.steps for path in found), values.min(), values.max()
        margin = 0.02 * max(last, 1)
        right.set(yscale="log", xlim=(-margin, max(last, 1) + margin),
                  ylim=np.maximum((min(low, high / 10), high), LOWEST) * (0.5, 2))
        if not last:
            write_inside(right, "diverged at the first step:\nlower lr")
        right.yaxis.set_minor_formatter("")
        whole_numbers(right)
        for line in lines:
            line.show(line.trajectory.steps)
        moving.append(lines)
    legend(figure, list(explained(results, colours)))
    return figure, moving


MARKS: dict[str, dict[str, Any]] = {
    "start": {"color": "black", "marker": "s", "ms": 6, "mec": "white", "ls": ""},
    "best minimum": {"color": "black", "marker": "*", "ms": 17, "mec": "white", "ls": ""},
    "worse minimum": {"color": "white", "marker": "*", "ms": 17, "mec": "black", "ls": ""},
    "diverged": {"color": "black", "marker": "X", "ms": 9, "mec": "white", "ls": ""},
}


def explained(results: Results, colours: Mapping[str, str]) -> Iterator[Line2D]:
    """Yield the legend's entries: the methods, and the marks that the figure has."""
    from matplotlib.lines import Line2D
    for label, colour in colours.items():
        yield Line2D([], [], color=colour, lw=2, label=label)
    every = [path for row in results.values() for path in row.values()]
    lacking = {"worse minimum": all(len(path.surface.minima) == 1 for path in every),
               "diverged": not any(path.diverged for path in every)}
    for label, look in MARKS.items():
        if not lacking.get(label):
            yield Line2D([], [], label=label, **look)


def draw_surface(axes: Axes, surface: Surface) -> None:
    """Draw contours at equal ratios, the start and the minima."""
    (left, right), (low, high) = surface.bounds
    x, y = np.meshgrid(np.linspace(left, right, 300), np.linspace(low, high, 300))
    with np.errstate(all="ignore"):
        values = np.ma.masked_invalid(surface.function(x, y))
    levels = np.geomspace(values.max() * 1e-4, values.max(), 22)
    axes.contourf(x, y, values, levels=[0, *levels], colors=SHADES, extend="max")
    axes.contour(x, y, values, levels=levels, colors="#8a8a8a", linewidths=0.4)
    for place, mark in [(surface.start, "start"), (surface.minima[0], "best minimum"),
                        *((other, "worse minimum") for other in surface.minima[1:])]:
        axes.plot(*place, zorder=3, **MARKS[mark])
    axes.set(xlim=(left, right), ylim=(low, high))


def rates(row: Mapping[str, Trajectory]) -> str:
    """Return the learning rates of a row; if they differ, of which methods and why."""
    by_rate: dict[float, list[str]] = {}
    for name, path in row.items():
        by_rate.setdefault(path.lr, []).append(name)
    if len(by_rate) == 1:
        return f"lr {next(iter(by_rate)):.3g}"
    why = next(iter(row.values())).surface.why_lr
    return "lr " + "; ".join(f"{lr:.3g} ({', '.join(names)})" for lr, names in by_rate.items()) \
        + f"\n{why}" * bool(why)
