"""Figures of training runs and of paths on surfaces. Needs matplotlib.

All are `matplotlib.figure.Figure` objects of their own: no display, no global state, any thread.
"""

from fastmom.plot.history import plot_history
from fastmom.plot.landscape import animate_landscape, plot_landscape
from fastmom.plot.style import save_figure
from fastmom.plot.tuning import plot_tuning

__all__ = ["animate_landscape", "plot_history", "plot_landscape", "plot_tuning", "save_figure"]
