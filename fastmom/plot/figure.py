"""The figure class. Imports matplotlib: use `fastmom.plot.style.new_figure`."""

from __future__ import annotations

from io import BytesIO

import matplotlib.figure

SCREEN = 100        # dots per inch on a screen


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that a notebook shows by itself, without pyplot and ``%matplotlib``."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png", dpi=SCREEN)
        return picture.getvalue()
