"""Histories to draw, and what a figure shows."""

from __future__ import annotations

from typing import Any

import numpy as np

ALL = "loss", "batch_loss", "accuracy", "val_loss", "val_accuracy"


def run(seed: int, *names: str, epochs: int = 3) -> dict[str, list[float]]:
    """A history with these names, with 5 steps per epoch."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.1, 0.9, epochs * (5 if name == "batch_loss" else 1)).tolist()
            for name in names}


def around(numbers: Any, window: int) -> list[float]:
    """The mean of the finite numbers around each, by the definition."""
    means = []
    for i, number in enumerate(numbers):
        reach = min(window, i) // 2
        near = np.array(numbers[i - reach:i + reach + 1])
        means.append(near[np.isfinite(near)].mean() if np.isfinite(number) else np.nan)
    return means


def lines(axes: Any, colour: str) -> list[np.ndarray]:
    """The y values of the lines of this colour."""
    return [np.asarray(line.get_ydata()) for line in axes.lines if line.get_color() == colour]


def texts(axes: Any) -> list[str]:
    """Return the texts at the ends of the lines."""
    return [text.get_text() for text in axes.texts]


def legend_of(figure: Any) -> list[str]:
    """The title's lines and the labels."""
    legend, = figure.legends
    title = legend.get_title().get_text()
    return [*title.split("\n")] * bool(title) + [text.get_text() for text in legend.get_texts()]
