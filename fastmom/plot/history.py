"""Curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastmom.plot.style import colours_of, decorate, legend, new_figure, whole_numbers
from fastmom.smoothing import smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Runs: TypeAlias = Sequence[Mapping[str, Sequence[float | None]]]

HELD_OUT = {"val_": "validation", "test_": "test"}      # prefixes, and what the axes say
CURVES = ("loss", "batch_loss", "accuracy",
          *(f"{prefix}{name}" for prefix in HELD_OUT for name in ("loss", "accuracy")))
TICKS = 4           # on a logarithmic axis, at least
DOTTED = 20         # up to so many points are marked, so that it is seen that there are few


def plot_history(histories: Mapping[str, Runs], *, momentum: float | None = None) -> Figure:
    """Curves of training: for each label the mean over its runs, and their range as a band.

    Parameters
    ----------
    histories : mapping of str to list of mapping
        For each label (up to 7) its runs, such as those of several seeds; each run maps ``"loss"``
        and, if there are, ``"accuracy"``, ``"val_loss"`` and ``"val_accuracy"`` to one number per
        epoch, as `fastmom.nn.History.history` does, and ``"batch_loss"`` to one per step. What is
        held out may be a test set instead, ``"test_loss"`` and ``"test_accuracy"``. All runs have
        the same of these names, and the runs of a label equally many numbers. Other names are left
        alone. None and numbers that are not finite leave a gap.
    momentum : float, optional
        The training loss is shown as `fastmom.smooth` makes it with this momentum, and faintly as
        it is. None means 0.9 for losses per step, and 0 for those per epoch, which are means.

    Returns
    -------
    matplotlib.figure.Figure
        With the training loss per step (per epoch without ``"batch_loss"``), the loss held out
        and the accuracies; what no run has is left out.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If there are no runs, too many labels, or runs that do not go together.

    Examples
    --------
    >>> from fastmom import plot
    >>> run = {"loss": [2.0, 1.0, 0.5], "val_loss": [1.8, 1.1, 0.7]}
    >>> figure = plot.plot_history({"SGD": [run]})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['training loss', 'validation loss']
    """
    colours = colours_of(histories)
    curves = {label: stacked(label, runs) for label, runs in histories.items()}
    has = common_names(curves)
    train = "batch_loss" if "batch_loss" in has else "loss"
    if momentum is None:
        momentum = 0.9 if train == "batch_loss" else 0.0
    prefix = held_out(has)
    accuracies = [name for name in ("accuracy", f"{prefix}accuracy") if name in has]
    below = ["held_out"] * (f"{prefix}loss" in has) + ["accuracy"] * bool(accuracies)
    layout: list[Any] = [["train"] * max(len(below), 1)] + [below] * bool(below)
    figure = new_figure(8, 3 + 2.6 * bool(below))
    panels: dict[str, Axes] = figure.subplot_mosaic(layout)

    faint = 0.3 / len(curves) ** 0.5
    for label, curve in curves.items():
        draw_runs(panels["train"], smooth(curve[train], momentum), colours[label], label)
        if momentum:
            panels["train"].plot(places(curve[train]), curve[train].T, color=colours[label],
                                 lw=0.5, alpha=faint / len(curve[train]), rasterized=True, zorder=1)
        if "held_out" in panels:
            draw_runs(panels["held_out"], curve[f"{prefix}loss"], colours[label], label)
        for name in accuracies:
            dashed = name == "accuracy" and len(accuracies) == 2
            draw_runs(panels["accuracy"], 100 * curve[name], colours[label], label, dashed)
    texts = {
        "train": ("step" if train == "batch_loss" else "epoch", "training loss",
                  f"faint: as it is; bold: smoothed, momentum {momentum:g}" if momentum else ""),
        "held_out": ("epoch", f"{HELD_OUT[prefix]} loss", ""),
        "accuracy": ("epoch", "accuracy (%)",
                     f"solid: {HELD_OUT[prefix]}; dashed: training" if accuracies[1:] else "")}
    panels["train"].set_ylim(*limits([curve[train] for curve in curves.values()], momentum))
    for panel, axes in panels.items():
        decorate(axes, *texts[panel])
        if panel != "accuracy":
            log_scale(axes)
        whole_numbers(axes)
        last = max(curve[train if panel == "train" else "loss"].shape[1]
                   for curve in curves.values())
        margin = 0.02 * (last - 1) or 0.5
        axes.set_xlim(1 - margin, last + margin)        # also where a run has gaps at the end
    legend(figure, panels["train"].get_legend_handles_labels()[0])
    return figure


def stacked(label: str, runs: Runs) -> dict[str, NDArray[np.float64]]:
    """The curves of a label's runs by name, each of shape (runs, epochs or steps)."""
    if not runs:
        raise ValueError(f"histories: {label!r} has no runs")
    names = [[name for name in CURVES if name in run] for run in runs]
    if "loss" not in names[0] or any(other != names[0] for other in names):
        raise ValueError(f"histories: each run of {label!r} must have 'loss', and all the same "
                         f"names; they have {', '.join(map(str, names))}")
    curves = {}
    for name in names[0]:
        lengths = {len(run[name]) for run in runs}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"histories: the runs of {label!r} must be equally long and not "
                             f"empty; {name!r} has {', '.join(map(str, sorted(lengths)))} numbers")
        curves[name] = np.array([run[name] for run in runs], np.float64)
    return curves


def common_names(curves: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The names of the curves, which must be the same for all labels."""
    first, *others = curves
    for other in others:
        if curves[other].keys() != curves[first].keys():
            raise ValueError(f"histories: {other!r} has {', '.join(curves[other])}, but {first!r} "
                             f"has {', '.join(curves[first])}")
    return set(curves[first])


def held_out(names: set[str]) -> str:
    """The prefix of what is held out."""
    found = [prefix for prefix in HELD_OUT if any(name.startswith(prefix) for name in names)]
    if len(found) > 1:
        raise ValueError(f"histories: there must be figures of a validation or of a test set, not "
                         f"of both: {', '.join(sorted(names))}")
    return found[0] if found else "val_"


def places(curves: NDArray[Any]) -> NDArray[Any]:
    return np.arange(1, curves.shape[-1] + 1)


def draw_runs(axes: Axes, curves: NDArray[Any], colour: str, label: str,
              dashed: bool = False) -> None:
    """The mean over the runs, and the range they span."""
    at, marker = places(curves), "o" if curves.shape[-1] <= DOTTED else ""
    axes.plot(at, curves.mean(axis=0), color=colour, label=label, marker=marker, ms=3.5,
              lw=1.0 if dashed else 1.6, ls="--" if dashed else "-")
    if len(curves) > 1:
        axes.fill_between(at, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.2,
                          lw=0)


def limits(curves: Sequence[NDArray[Any]], momentum: float) -> tuple[float | None, float | None]:
    """The range of the smoothed losses and of all but the rarest raw ones.

    Of a run that diverges it shows that it does: no more than ten times where all began.
    """
    with np.errstate(invalid="ignore"):
        raw = np.concatenate([curve.ravel() for curve in curves])
        smoothed = np.concatenate([smooth(curve, momentum).mean(axis=0) for curve in curves])
    raw, smoothed = (a[np.isfinite(a) & (a > 0)] for a in (raw, smoothed))
    if not smoothed.size:
        return None, None
    most = 10 * max(curve[:, 0].max() for curve in curves)
    low, high = np.quantile(raw, (0.01, 0.999))
    return 0.9 * min(low, smoothed.min()), 1.1 * min(max(high, smoothed.max()), most)


def log_scale(axes: Axes) -> None:
    """Logarithmic with plain numbers, in steps that give enough of them."""
    from matplotlib.ticker import LogLocator
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low <= 0:        # there is nothing to show
        axes.set_ylim(0.1, 1.0)
        return
    for subs in (1,), (1, 3), (1, 2, 5), (1, 2, 3, 5), (1, 1.5, 2, 3, 5, 7):
        locator = LogLocator(subs=subs)
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) >= TICKS:
            break
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
