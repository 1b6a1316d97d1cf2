"""Paths on surfaces: what the figure and the animation show."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curves import lines

import fastmom as fm
from fastmom import plot
from fastmom.landscape import SURFACES, Surface, classics, paths
from fastmom.plot.style import COLOURS

WELL = SURFACES["double-well"]
RESULTS = {"well": paths(WELL, 30), "beale": paths(SURFACES["beale"], 20, lr=0.02)}


def test_landscape_shows_paths_values_start_and_minima() -> None:
    figure = plot.plot_landscape(RESULTS)
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["well", "beale"]
    for (left, right), row in zip(zip(figure.axes[::2], figure.axes[1::2], strict=True),
                                  RESULTS.values(), strict=True):
        for colour, path in zip(COLOURS, row.values(), strict=False):
            shown = [line.get_xydata() for line in left.lines if line.get_color() == colour]
            margin, line, end = shown
            np.testing.assert_array_equal(margin, path.points)
            np.testing.assert_array_equal(line, path.points)
            np.testing.assert_array_equal(end, path.points[-1:])
            np.testing.assert_array_equal(lines(right, colour)[0], path.values)
            cross = [line.get_marker() for line in right.lines if line.get_color() == colour][1]
            assert (cross == "X") == path.diverged
        surface = next(iter(row.values())).surface
        marks = {tuple(line.get_xydata()[0]) for line in left.lines
                 if line.get_color() in ("black", "white")}
        assert marks == {surface.start, *surface.minima}
        assert right.get_yscale() == "log"
        assert right.get_ylabel() == "f(x, y) (log)"
    assert figure.axes[1].get_title(loc="left") == "lr 0.05"
    assert {path.diverged for path in RESULTS["beale"].values()} == {True, False}


@pytest.mark.parametrize(("results", "marks"), [
    (RESULTS, {"worse minimum", "diverged"}), ({"well": RESULTS["well"]}, {"worse minimum"}),
    ({"beale": RESULTS["beale"]}, {"diverged"})], ids=["both", "well", "beale"])
def test_the_legend_explains_what_is_there(results: Any, marks: set[str]) -> None:
    texts = {text.get_text() for text in plot.plot_landscape(results).legends[0].get_texts()}
    assert texts == marks | {"SGD", "momentum 0.9", "Nesterov 0.9", "start", "best minimum"}


def test_learning_rates_that_differ_are_told_apart() -> None:
    figure = plot.plot_landscape({"ravine": paths(SURFACES["ravine"], 5)})
    assert figure.axes[1].get_title(loc="left") == (
        "lr 0.0198 (SGD); 0.01 (momentum, Nesterov)\nSGD's best lr can be too high for Nesterov")
    assert paths(SURFACES["ravine"], lr=SURFACES["ravine"].lr["SGD"])["Nesterov"].diverged


def test_a_path_under_others_is_seen_by_its_margins() -> None:
    surface = plot.plot_landscape({"rosenbrock": paths(SURFACES["rosenbrock"], 400)}).axes[0]
    widths = [[line.get_linewidth() for line in surface.lines if line.get_color() == colour][:2]
              for colour in COLOURS[:3]]
    margins, lines = zip(*widths, strict=True)
    assert min(-np.diff(margins)) >= 2
    assert lines == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("lr", "empty"), [(5, True), (0.02, False), (0.001, False)])
def test_an_empty_panel_says_why(lr: float, empty: bool, tmp_path: Path) -> None:
    figure = plot.plot_landscape({"rosenbrock": paths(SURFACES["rosenbrock"], 100, lr=lr)})
    assert [text.get_text() for text in figure.axes[1].texts] == (
        ["diverged at the first step:\nlower lr"] if empty else [])
    plot.save_figure(figure, tmp_path / "a.png")


def test_a_surface_with_holes_and_a_path_that_starts_at_the_minimum(tmp_path: Path) -> None:
    root = Surface("root", "root", lambda x, y: np.sqrt(x) + y * y, lambda x, y: (0.0, 2 * y),
                   start=(0.0, 0.0), bounds=((-1.0, 1.0), (-1.0, 1.0)), minima=((0.0, 0.0),),
                   lr={"SGD": 0.1}, steps=3)
    figure = plot.plot_landscape({"root": paths(root, methods={"SGD": fm.SGD})})
    plot.save_figure(figure, tmp_path / "figure.png")
    assert lines(figure.axes[1], COLOURS[0])[0].tolist() == [0, 0, 0, 0]


# The animation -----------------------------------------------------------------------------------

def test_an_animation_moves_and_ends_with_the_whole_paths(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmom.plot.landscape.PAUSE", 2)
    image = pytest.importorskip("PIL.Image")
    file, calls = tmp_path / "paths.gif", []
    plot.animate_landscape({"well": RESULTS["well"]}, file, frames=4,
                           progress=lambda: calls.append(1))
    assert len(calls) == 4
    with image.open(file) as gif:
        frames = []
        for i in range(gif.n_frames):
            gif.seek(i)
            frames.append(np.asarray(gif.convert("RGB"), np.int64))
    assert len(frames) == 4     # and the last one for longer

    def coloured(frame: np.ndarray) -> int:
        return int(np.sum(np.ptp(frame, axis=2) > 60))
    counts = [coloured(frame) for frame in frames]
    assert counts == sorted(set(counts))


def test_an_interrupted_animation_leaves_nothing(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        plot.animate_landscape({"well": RESULTS["well"]}, tmp_path / "paths.gif", frames=3,
                               progress=interrupt)
    assert [*tmp_path.iterdir()] == []


def test_an_animation_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(writer: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("matplotlib.animation.PillowWriter.finish", full)
    monkeypatch.setattr("fastmom.plot.landscape.PAUSE", 0)
    with pytest.raises(OSError, match=r"No space left on device: .*paths\.gif"):
        plot.animate_landscape({"well": RESULTS["well"]}, tmp_path / "paths.gif", frames=2)
    assert [*tmp_path.iterdir()] == []


# Refusals -----------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "animation": (lambda d: plot.animate_landscape(RESULTS, d / "a.mp4"),
                  r"path must end in \.gif, not"),
    "frames": (lambda d: plot.animate_landscape(RESULTS, d / "a.gif", frames=1),
               "frames must be an integer >= 2, not 1"),
    "no paths": (lambda d: plot.plot_landscape({"well": {}}), "'well' has no paths"),
    "methods": (lambda d: plot.plot_landscape({str(m): paths(WELL, 1, classics(m))
                                               for m in (0.1, 0.2, 0.3, 0.4)}), "not 9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str, tmp_path: Path) -> None:
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert [*tmp_path.iterdir()] == []
