"""Curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import number
from fastmom.plot.runs import (
    HELD_OUT,
    centred_mean,
    common_names,
    diverged,
    held_out,
    labelled,
    mean_of,
    stacked,
)
from fastmom.plot.style import (
    colours_of,
    decorate,
    label_ends,
    legend,
    log_scale,
    new_figure,
    whole_numbers,
    write_inside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from fastmom.plot.runs import Doubles, Runs

DOTTED = 20         # up to so many points are marked, so that it is seen that there are few
POINTS = 1500       # of a smoothed curve, at most: more than the figure has dots
RAW = 2             # up to so many runs in all are shown step by step too
LOST: dict[str, Any] = {"marker": "X", "ms": 9, "mec": "white", "ls": "", "zorder": 4}


def plot_history(histories: Runs | Mapping[str, Runs], *, momentum: float | None = None,
                 title: str = "", dropout: bool | None = None) -> Figure:
    """Draw curves of training: for each label the mean over its runs, and their range as a band.

    Parameters
    ----------
    histories : History, mapping, or list or mapping of them
        What `fit` returns, its ``history``, a list of such runs (of several seeds), or for each
        label (up to 7) a run or a list of them. A run maps ``"loss"`` and, if there are,
        ``"accuracy"``, ``"val_loss"`` and ``"val_accuracy"`` to one number per epoch, and
        ``"batch_loss"`` to one per step. What is held out may be a test set instead,
        ``"test_loss"`` and ``"test_accuracy"``. All runs have the same of these names, and the runs
        of a label equally many numbers. Other names are left alone. None and numbers that are not
        finite leave a gap; a run that ends in one is marked as diverged.
    momentum : float, optional
        Smooth the training loss as strongly as `fastmom.smooth` does with this momentum, but
        without its lag: by the mean of the ``(1 + m) / (1 - m)`` steps around each. If None, by
        that of 2% of the steps, and not at all if there is but one number per epoch.
    title : str, optional
        Above the legend; may have several lines.
    dropout : bool, optional
        Say that the training accuracy is that with dropout. If None, as the histories know.

    Returns
    -------
    matplotlib.figure.Figure
        With the training loss per step (per epoch without ``"batch_loss"``), the loss held out
        and the accuracies; what no run has is left out. The axes of losses are logarithmic unless
        one is 0 or below. A notebook shows the figure.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If there are no runs, too many labels, or runs that do not go together.

    Examples
    --------
    >>> from fastmom import plot
    >>> run = {"loss": [2.0, 1.0, 0.5], "val_loss": [1.8, 1.1, 0.7]}
    >>> figure = plot.plot_history({"SGD": run})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['training loss (log)', 'validation loss (log)']
    """
    runs = labelled(histories)
    colours = colours_of(runs)
    curves = {label: stacked(label, of_label) for label, of_label in runs.items()}
    has = common_names(curves)
    if dropout is None:
        dropout = any(getattr(run, "dropout", False) for of_label in runs.values()
                      for run in of_label)
    prefix, train = held_out(has), "batch_loss" if "batch_loss" in has else "loss"
    accuracies = [name for name in (f"{prefix}accuracy", "accuracy") if name in has]
    below = ["held_out"] * (f"{prefix}loss" in has) + ["accuracy"] * bool(accuracies)
    figure = new_figure(8, 2.9 + 2.6 * bool(below))
    layout: list[Any] = [["train"] * max(len(below), 1)] + [below] * bool(below)
    panels: dict[str, Axes] = figure.subplot_mosaic(layout)

    def of(name: str) -> dict[str, Doubles]:
        return {label: curve[name] for label, curve in curves.items()}

    draw_training(panels["train"], of(train), colours, smoothing(momentum, train, curves),
                  "step" if train == "batch_loss" else "epoch")
    if "held_out" in panels:
        ends = draw_curves(panels["held_out"], of(f"{prefix}loss"), colours)
        finish_losses(panels["held_out"], ends, of(f"{prefix}loss"), "epoch",
                      f"{HELD_OUT[prefix]} loss")
    if accuracies:
        draw_accuracies(panels["accuracy"], [of(name) for name in accuracies], colours)
        words = (f"solid: {HELD_OUT[prefix]}; dashed: training"
                 + "\ndropout lowers that of training" * dropout) * (len(accuracies) > 1)
        decorate(panels["accuracy"], "epoch", "accuracy (%)", words)
    for axes in panels.values():
        whole_numbers(axes)
        if not any(np.isfinite(line.get_ydata(orig=False)).any() for line in axes.lines):
            axes.set_yticks([])
            axes.set_yticks([], minor=True)
            write_inside(axes, "diverged")
    legend(figure, described(of(train), colours), heading(title, of(train)))
    return figure


def smoothing(momentum: float | None, train: str, curves: Mapping[str, Any]) -> int:
    """Return over how many steps the training loss is averaged."""
    if momentum is None:
        steps = max(curve[train].shape[1] for curve in curves.values())
        return max(1, steps // 50) if train == "batch_loss" else 1
    momentum = number("momentum", momentum, 0.0, 1.0)
    return round((1 + momentum) / max(1 - momentum, 1e-9))


def draw_training(axes: Axes, curves: Mapping[str, Doubles], colours: Mapping[str, str],
                  window: int, unit: str) -> None:
    """Draw the smoothed losses and, of few runs, faintly those of each step."""
    raw = window > 1 and sum(map(len, curves.values())) <= RAW
    smoothed, at = {}, {}
    for label, curve in curves.items():
        n = curve.shape[1]
        places = np.unique(np.linspace(0, n - 1, POINTS).round().astype(np.intp))
        if raw:
            axes.plot(np.arange(1, n + 1), curve.T, color=colours[label], lw=0.4, zorder=1,
                      alpha=0.25 if len(curves) == len(curve) == 1 else 0.15, rasterized=True)
        smoothed[label], at[label] = centred_mean(curve, window, places), places + 1
    ends = draw_curves(axes, smoothed, colours, at)
    axes.set_ylim(*limits(curves if raw else smoothed, smoothed, curves))
    words = f"mean of the {window:,} {unit}s around each" + "; faint: each one" * raw
    finish_losses(axes, ends, smoothed, unit, "training loss", words if window > 1 else "")


def finish_losses(axes: Axes, ends: Sequence[tuple[float, str]], curves: Mapping[str, Doubles],
                  unit: str, name: str, words: str = "") -> None:
    """Make the axis logarithmic unless a loss is 0 or below; add the texts."""
    log = all_positive(curves)
    decorate(axes, unit, name + " (log)" * log, words)
    if log:
        log_scale(axes)
    label_ends(axes, ends, "{:#.3g}")


def all_positive(curves: Mapping[str, Doubles]) -> bool:
    """Return whether a logarithmic axis can show all that is finite."""
    return not any((curve <= 0).any() for curve in curves.values())


def draw_accuracies(axes: Axes, curves: Sequence[Mapping[str, Doubles]],
                    colours: Mapping[str, str]) -> None:
    """Draw those held out, over which the axis goes, and thinly those of the training."""
    percent = [{label: 100 * curve for label, curve in of.items()} for of in curves]
    ends = draw_curves(axes, percent[0], colours)
    limits, one = axes.get_ylim(), True
    for of in percent[1:]:
        for label, curve in of.items():
            axes.plot(np.arange(1, curve.shape[1] + 1), mean_of(curve), color=colours[label],
                      lw=1.0, ls="--", ms=4, marker="" if curve.shape[1] > 1 else "_")
            one = one and curve.shape[1] == 1
    if not one:
        axes.set_ylim(limits)
    label_ends(axes, ends, "{:.2f}")


def draw_curves(axes: Axes, curves: Mapping[str, Doubles], colours: Mapping[str, str],
                at: Mapping[str, Any] | None = None) -> list[tuple[float, str]]:
    """Draw each label's mean over its runs and the range they span; return where they end."""
    ends, last = [], 1
    for label, curve in curves.items():
        places = np.arange(1, curve.shape[1] + 1) if at is None else at[label]
        mean, colour, last = mean_of(curve), colours[label], max(last, places[-1])
        there = np.flatnonzero(np.isfinite(mean))
        axes.plot(places, mean, color=colour, label=label, lw=1.6, ms=3.5,
                  marker="o" if len(places) <= DOTTED else "")
        if len(curve) > 1:
            with np.errstate(invalid="ignore"):
                axes.fill_between(places, np.fmin.reduce(curve), np.fmax.reduce(curve),
                                  color=colour, alpha=0.2, lw=0)
        if there.size and diverged(curve) == len(curve):
            axes.plot(places[there[-1]], mean[there[-1]], color=colour, **LOST)
        elif there.size:
            ends.append((float(mean[there[-1]]), colour))
    margin = 0.02 * (last - 1) or 0.5
    axes.set_xlim(1 - margin, last + margin)        # also where a run has gaps at the end
    return ends


def limits(shown: Mapping[str, Doubles], smoothed: Mapping[str, Doubles],
           curves: Mapping[str, Doubles]) -> tuple[float | None, float | None]:
    """Return a range with all smoothed losses and all but the rarest of those of each step.

    Of a run that diverges it shows that it does: no more than ten times where all began.
    """
    raw, smooth = (np.concatenate([curve.ravel() for curve in of.values()])
                   for of in (shown, smoothed))
    raw, smooth = (a[np.isfinite(a) & (a > 0)] for a in (raw, smooth))
    if not (smooth.size and all_positive(smoothed)):
        return None, None
    most = 10 * np.nanmax(np.concatenate([curve[:, 0] for curve in curves.values()]))
    low, high = np.quantile(raw, (0.01, 0.999))
    return 0.9 * min(low, smooth.min()), 1.1 * min(max(high, smooth.max()), most)


def described(curves: Mapping[str, Doubles], colours: Mapping[str, str]) -> list[Line2D]:
    """Return the legend's lines, which say how many of the runs have diverged."""
    from matplotlib.lines import Line2D
    texts = {label: f"{label} ({lost} of {len(curve)} diverged)" if len(curve) > lost > 0 else
             f"{label} (diverged)" if lost else label
             for label, curve in curves.items() for lost in [diverged(curve)]}
    return [Line2D([], [], color=colours[label], lw=2, label=text)
            for label, text in texts.items() if text]


def heading(title: str, curves: Mapping[str, Doubles]) -> str:
    """Return the title and, of several runs, what lines and bands are."""
    runs = {len(curve) for curve in curves.values()}
    of = f"the {max(runs)} runs" if len(runs) == 1 else "a method's runs"
    words = f"lines: mean of {of}; bands: from the lowest to the highest" * (max(runs) > 1)
    return "\n".join(filter(None, (title, words)))
