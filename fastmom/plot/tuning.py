"""The map of a search over learning rate and momentum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmom.plot.style import NORMAL, SMALL, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastmom.tuning import Tuning

EDGE = "#D55E00"
DARK = 0.55         # of the colour scale: above it texts are white


def plot_tuning(found: Tuning) -> Figure:
    """Draw the loss of each pair over learning rate and momentum, with the edge of stability.

    Parameters
    ----------
    found : Tuning
        What `fastmom.tune` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Pairs that were given up early are pale and show the loss they had then; the recommended one
        is framed. The edge is estimated from the curvature at the first weights (dashed), and at
        those that the recommended pair has led to (solid).

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    figure = new_figure(2.2 + 0.85 * len(found.lrs), 2.3 + 0.5 * len(found.momenta))
    axes: Axes = figure.subplots()
    draw_pairs(axes, found)
    draw_edges(axes, found)
    axes.set_xticks(range(len(found.lrs)), [f"{lr:.3g}" for lr in found.lrs], fontsize=SMALL)
    axes.set_yticks(range(len(found.momenta)), [f"{m:g}" for m in found.momenta], fontsize=SMALL)
    axes.set_xlabel("learning rate", fontsize=NORMAL)
    axes.set_ylabel("momentum" + " (Nesterov)" * found.nesterov, fontsize=NORMAL)
    axes.set(xlim=(-0.5, len(found.lrs) - 0.5), ylim=(-0.5, len(found.momenta) - 0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(f"best: lr {found.lr:.3g}, momentum {found.momentum:g}, validation "
                   f"{found.shown(found.best)}\nnumbers: validation loss after {found.budget:,} "
                   f"samples; pale: given up earlier", fontsize=NORMAL, loc="left")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower left", frameon=False, fontsize=NORMAL, ncols=2)
    return figure


def draw_pairs(axes: Axes, found: Tuning) -> None:
    """Draw a tile with its loss for each pair."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle
    losses = [math.log(t.loss) for t in found.trials if 0 < t.loss < math.inf]
    low, high = (min(losses), float(np.quantile(losses, 0.8))) if losses else (0.0, 1.0)
    for trial in found.trials:
        x, y = found.lrs.index(trial.lr), found.momenta.index(trial.momentum)
        bad = not trial.samples or trial.diverged
        height = math.log(trial.loss) if 0 < trial.loss < math.inf else low
        part = min(max((height - low) / max(high - low, 1e-9), 0.0), 1.0)
        whole = trial.samples >= found.budget or trial is found.best
        colour = "#eeeeee" if bad else colormaps["viridis_r"](0.05 + 0.9 * part)
        axes.add_patch(Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, facecolor=colour, lw=0,
                                 alpha=1.0 if whole or bad else 0.45))
        text = "diverged" if trial.diverged else f"{trial.loss:.3g}" if trial.samples else "-"
        axes.text(x, y, text, ha="center", va="center", fontsize=SMALL,
                  color="#777777" if bad else "white" if part > DARK and whole else "black")
    axes.add_patch(Rectangle(
        (found.lrs.index(found.lr) - 0.48, found.momenta.index(found.momentum) - 0.47), 0.96, 0.94,
        fill=False, edgecolor="black", lw=2.2))


def draw_edges(axes: Axes, found: Tuning) -> None:
    """Draw the edges of stability over the tiles, where they are within the grid."""
    if len(found.lrs) < 2:
        return
    heights = np.linspace(-0.5, len(found.momenta) - 0.5, 200)
    momenta = np.interp(heights, range(len(found.momenta)), found.momenta)
    for end, style, words in ((False, "--", "first"), (True, "-", "last")):
        edges = [found.edge(m, end=end) for m in momenta]
        if not all(0 < edge < math.inf for edge in edges):
            continue
        places = np.interp(np.log(edges), np.log(found.lrs), range(len(found.lrs)),
                           left=np.nan, right=np.nan)
        if np.isfinite(places).any():
            axes.plot(places, heights, style, color=EDGE, lw=1.8,
                      label=f"edge {found.formula}, L at the {words} weights")
