"""Show what state in fewer bytes costs in accuracy.

MNIST: the test accuracy of the README's network after five epochs, for five seeds. A quadratic with
condition number 10^4 under the best momentum for it: the steps after which the distance has shrunk
to 10^-4, and how near it comes. Ends with status 1 if a mean accuracy is more than 0.15 percentage
points below float32's, or bfloat16 takes over a tenth more steps. Draws a figure.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

import fastmom as fm
from bench.results import table

SEEDS, EPOCHS = range(5), 5
OPTIMIZERS: dict[str, Any] = {"SGD": lambda **formats: fm.SGD(lr=0.01, momentum=0.9, **formats),
                              "AdamW": lambda **formats: fm.AdamW(lr=0.001, **formats)}
FORMATS: dict[str, dict[str, str]] = {
    "float32": {}, "bfloat16": {"state_dtype": "bfloat16"},
    "bfloat16, noise": {"state_dtype": "bfloat16", "rounding": "stochastic"},
    "int8": {"state_dtype": "int8"}, "float8": {"state_dtype": "float8"},
    "float8, noise": {"state_dtype": "float8", "rounding": "stochastic"}}
KAPPA, SIZE, GOAL, MOST = 1e4, 1024, 1e-4, 20_000
LOSS, MORE = 0.15, 1.1      # percentage points; times the steps


def accuracy(optimizer: fm.Optimizer, seed: int, data: Any) -> float:
    """Return the percentage of test images that are recognised after training."""
    (x, y), (x_test, y_test) = data
    model = fm.nn.Sequential([
        fm.nn.Rescaling(1 / 255, input_shape=(28, 28)), fm.nn.Flatten(),
        fm.nn.Dense(128, activation="relu"), fm.nn.Dropout(0.2),
        fm.nn.Dense(10, activation="softmax")], seed=seed)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=EPOCHS, verbose=0)
    return 100 * float(model.evaluate(x_test, y_test, verbose=0)[1])


def distances(formats: dict[str, str]) -> list[float]:
    """Return the distance from the optimum of a quadratic after each step; 1 before the first."""
    curvature = np.geomspace(1 / KAPPA, 1, SIZE).astype(np.float32)
    root = math.sqrt(KAPPA)
    x = np.ones(SIZE, np.float32)
    optimizer = fm.SGD([x], lr=(2 / (1 + 1 / root)) ** 2,
                       momentum=((root - 1) / (root + 1)) ** 2, **formats)
    result = []
    for _ in range(MOST):
        optimizer.step([curvature * x])
        result.append(float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))))
    return result


def steps_of(curve: list[float]) -> int | None:
    """Return the number of steps to the goal."""
    return next((t for t, distance in enumerate(curve, 1) if distance <= GOAL), None)


def draw(path: Path, found: dict[str, dict[str, list[float]]],
         curves: dict[str, list[float]]) -> None:
    from fastmom.plot.style import COLOURS, decorate, new_figure, save_figure
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    for i, (name, rows) in enumerate(found.items()):
        for j, (word, values) in enumerate(rows.items()):
            place = i * (len(FORMATS) + 1) + j
            left.plot([place] * len(values), values, "o", color=COLOURS[j], alpha=0.6, ms=4,
                      label=word if i == 0 else None)
            left.plot(place, np.mean(values), "_", color="black", ms=14)
        left.text(i * (len(FORMATS) + 1) + 2.5, 0.02, name, ha="center",
                  transform=left.get_xaxis_transform())
    decorate(left, "", "test accuracy, %", "MNIST, five seeds")
    left.set_xticks([])
    left.margins(y=0.15)
    for j, (word, curve) in enumerate(curves.items()):
        right.loglog(range(1, len(curve) + 1), curve, color=COLOURS[j], label=word, lw=1.2)
    right.axhline(GOAL, color="#777777", lw=0.8)
    decorate(right, "steps", "distance", "A quadratic, condition number 10\N{SUPERSCRIPT FOUR}")
    right.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--figure", type=Path, default=Path("bench/results/rounding.png"))


def run(args: argparse.Namespace) -> int:
    data = fm.data.load_mnist()
    found = {name: {word: [accuracy(make(**formats), seed, data) for seed in SEEDS]
                    for word, formats in FORMATS.items()} for name, make in OPTIMIZERS.items()}
    curves = {word: distances(formats) for word, formats in FORMATS.items()}
    steps = {word: steps_of(curve) for word, curve in curves.items()}
    means = {name: {word: float(np.mean(values)) for word, values in rows.items()}
             for name, rows in found.items()}
    print(table(["state", *(f"{name}, %" for name in found), "steps to 10^-4", "nearest"], [
        [word, *(f"{rows[word]:.2f}" for rows in means.values()),
         "never" if steps[word] is None else f"{steps[word]:,}", f"{min(curves[word]):.1g}"]
        for word in FORMATS]))
    draw(args.figure, found, curves)
    print(f"figure: {args.figure}")
    good = all(rows["float32"] - value <= LOSS for rows in means.values() for value in
               rows.values())
    at_most = MORE * (steps["float32"] or 0)
    return 0 if good and (steps["bfloat16"] or math.inf) <= at_most else 1
