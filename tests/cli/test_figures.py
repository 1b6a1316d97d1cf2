"""The figures of `fastmom train` and `fastmom compare`: what stands above the curves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from commands import run
from curves import legend_of

import fastmom as fm
from fastmom import plot
from fastmom.cli.figures import figure_of_comparison, figure_of_training

SETTINGS: dict[str, Any] = {"batch_size": 32, "hidden": [64, 32], "dropout": 0.2, "seed": 3}
RUN = {"loss": [1.0, 0.5], "accuracy": [0.5, 0.75], "test_loss": [0.9, 0.6],
       "test_accuracy": [0.6, 0.8], "batch_loss": [1.0] * 200}
BANDS = "lines: mean of the 2 runs; bands: from the lowest to the highest"
COMPARED: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "momenta": (
        {"momentum 0": fm.SGD(lr=0.01, decay=1e-6),
         "momentum 0.9": fm.SGD(lr=0.01, momentum=0.9, nesterov=True, decay=1e-6)}, 2,
        ["MNIST, batch 32, hidden layers 64-32, dropout 0.2, seeds 0 to 1",
         "all with lr 0.01, decay 1e-06", BANDS,
         "momentum 0", "momentum 0.9"]),
    "optimizers": (
        {"SGD": fm.SGD(lr=0.01, momentum=0.9, nesterov=True), "Adam": fm.Adam(),
         "RMSprop": fm.RMSprop(lr=0.002)}, 2,
        ["MNIST, batch 32, hidden layers 64-32, dropout 0.2, seeds 0 to 1", BANDS,
         "SGD, lr 0.01, momentum 0.9", "Adam, lr 0.001", "RMSprop, lr 0.002, momentum 0"]),
    "one": ({"SGD": fm.SGD(lr=0.01, momentum=0.5, weight_decay=0.1)}, 1,
            ["MNIST, batch 32, hidden layers 64-32, dropout 0.2, seed 0",
             "all with lr 0.01, momentum 0.5, weight decay 0.1", "SGD"]),
}


@pytest.mark.parametrize("case", COMPARED)
def test_above_a_comparison(case: str) -> None:
    optimizers, seeds, expected = COMPARED[case]
    figure = figure_of_comparison(dict.fromkeys(optimizers, [RUN] * seeds), optimizers, "mnist",
                                  SETTINGS, momentum=0.9)
    assert legend_of(figure) == expected
    training, _, accuracy = figure.axes
    assert training.get_title("left").startswith("mean of the 19 steps around each")
    assert accuracy.get_title("left") == (
        "solid: test; dashed: training\ndropout lowers that of training")


@pytest.mark.parametrize(("data", "shown"), [
    ("digits", "synthetic digits"), ("/some/where", "/some/where")])
def test_above_a_training(data: str, shown: str) -> None:
    optimizer = fm.SGD(lr=0.01, momentum=0.9)
    figure = figure_of_training(RUN, optimizer, data, {**SETTINGS, "dropout": 0.0})
    assert legend_of(figure) == [f"{shown}, batch 32, hidden layers 64-32, dropout 0, seed 3",
                                 repr(optimizer)]
    training, _, accuracy = figure.axes
    assert training.get_title("left").startswith("mean of the 4 steps around each; faint: ")
    assert accuracy.get_title("left") == "solid: test; dashed: training"


@pytest.mark.parametrize(("command", "first", "window"), [
    (["train", "--plot"], "seed 0", 2), (["train", "--smooth", 0.5, "--plot"], "seed 0", 3),
    (["compare", "--seeds", 1, "--output"], "seed 0", 2),
    (["compare", "--seeds", 1, "--smooth", 0.5, "--output"], "seed 0", 3)])
def test_the_commands_draw_them(command: list[Any], first: str, window: int, digits: Path,
                                tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    save = plot.save_figure
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: (
        figures.append(figure), save(figure, path)))
    name, *options = command
    assert run(*options, tmp_path / "a.png", "--data", digits, "--hidden", 8, "--epochs", 10,
               command=name) == 0
    figure, = figures
    assert legend_of(figure)[0] == (
        f"{digits}, batch 32, hidden layers 8, dropout 0.2, {first}")
    assert {"lr", "momentum"} <= {*re.findall(r"\w+", " ".join(legend_of(figure)[1:]))}
    assert figure.axes[0].get_title("left").startswith(f"mean of the {window} steps around each")
