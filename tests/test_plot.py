"""Figures: what they show, and the files they are written to."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import plot
from fastmom.landscape import SURFACES, Surface, classics, paths
from fastmom.plot.style import COLOURS

WELL = SURFACES["double-well"]
RESULTS = {"well": paths(WELL, 30), "beale": paths(SURFACES["beale"], 20, lr=0.02)}


def run(seed: int, *names: str, epochs: int = 3) -> dict[str, list[float]]:
    """A history with these names."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.1, 0.9, epochs * (5 if name == "batch_loss" else 1)).tolist()
            for name in names}


ALL = "loss", "batch_loss", "accuracy", "val_loss", "val_accuracy"
FULL = {label: [run(10 * i + seed, *ALL) for seed in range(3)]
        for i, label in enumerate(("SGD", "momentum"))}


def lines(axes: Any, colour: str) -> list[np.ndarray]:
    """The y values of the lines of this colour."""
    return [np.asarray(line.get_ydata()) for line in axes.lines if line.get_color() == colour]


def test_history_shows_means_ranges_and_raw_losses() -> None:
    train, val_loss, accuracy = plot.plot_history(FULL, momentum=0.8).axes
    for colour, runs in zip(COLOURS, FULL.values(), strict=False):
        raw = np.array([run["batch_loss"] for run in runs])
        shown = lines(train, colour)
        np.testing.assert_allclose(shown[0], fm.smooth(raw, 0.8).mean(axis=0))
        np.testing.assert_allclose(shown[1:], raw)
        np.testing.assert_allclose(lines(val_loss, colour),
                                   [np.mean([run["val_loss"] for run in runs], axis=0)])
        np.testing.assert_allclose(lines(accuracy, colour), [
            100 * np.mean([run[name] for run in runs], axis=0)
            for name in ("accuracy", "val_accuracy")])
    band = val_loss.collections[0].get_paths()[0].vertices[:, 1]
    values = [run["val_loss"] for run in FULL["SGD"]]
    assert (band.min(), band.max()) == (np.min(values), np.max(values))
    assert [axes.get_xlabel() for axes in (train, val_loss, accuracy)] == ["step", "epoch", "epoch"]
    assert [axes.get_yscale() for axes in (train, val_loss, accuracy)] == ["log", "log", "linear"]


def test_the_legend_names_each_label_once() -> None:
    texts = plot.plot_history(FULL).legends[0].get_texts()
    assert [text.get_text() for text in texts] == ["SGD", "momentum"]


@pytest.mark.parametrize(("names", "panels"), [
    (("loss",), ["training loss"]),
    (("loss", "val_loss"), ["training loss", "validation loss"]),
    (("loss", "accuracy"), ["training loss", "accuracy (%)"]),
    (ALL, ["training loss", "validation loss", "accuracy (%)"])])
def test_one_run_and_no_more_panels_than_data(names: tuple[str, ...], panels: list[str],
                                              tmp_path: Path) -> None:
    figure = plot.plot_history({"run": [run(0, *names, epochs=1)]})
    assert [axes.get_ylabel() for axes in figure.axes] == panels
    assert not any(axes.collections for axes in figure.axes)    # no band
    plot.save_figure(figure, tmp_path / "figure.png")


@pytest.mark.parametrize(("names", "momentum", "effective"), [
    (("loss",), None, 0.0), (("loss",), 0.5, 0.5), (("loss", "batch_loss"), None, 0.9),
    (("loss", "batch_loss"), 0.0, 0.0)])
def test_momentum_of_the_smoothing(names: tuple[str, ...], momentum: float | None,
                                   effective: float) -> None:
    one = run(0, *names)
    shown = lines(plot.plot_history({"run": [one]}, momentum=momentum).axes[0], COLOURS[0])
    np.testing.assert_array_equal(shown[0], fm.smooth(one[names[-1]], effective))
    assert len(shown) == 1 + (effective > 0)


def test_a_history_of_the_library_with_a_loss_that_is_gone(tmp_path: Path) -> None:
    one: Any = {"loss": [0.5, None, float("inf")], "accuracy": [0.5, 0.1, 0.1],
                "seconds": [1.0, 1.0, 1.0]}
    figure = plot.plot_history({"run": [one, one]})
    np.testing.assert_array_equal(lines(figure.axes[0], COLOURS[0])[0], [0.5, np.nan, np.inf])
    plot.save_figure(figure, tmp_path / "figure.png")


def test_landscape_shows_paths_values_start_and_minima() -> None:
    figure = plot.plot_landscape(RESULTS)
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["well", "beale"]
    for (left, right), row in zip(zip(figure.axes[::2], figure.axes[1::2], strict=True),
                                  RESULTS.values(), strict=True):
        for colour, path in zip(COLOURS, row.values(), strict=False):
            shown = [line.get_xydata() for line in left.lines if line.get_color() == colour]
            np.testing.assert_array_equal(shown[0], path.points)
            np.testing.assert_array_equal(shown[1], path.points[-1:])
            np.testing.assert_array_equal(lines(right, colour)[0], path.values)
            cross = [line.get_marker() for line in right.lines if line.get_color() == colour][1]
            assert (cross == "X") == path.diverged
        surface = next(iter(row.values())).surface
        marks = {tuple(line.get_xydata()[0]) for line in left.lines
                 if line.get_color() in ("black", "white")}
        assert marks == {surface.start, *surface.minima}
        assert right.get_yscale() == "log"
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
    assert figure.axes[1].get_title(loc="left") == "lr 0.0198 (SGD); 0.01 (momentum, Nesterov)"


def test_a_surface_with_holes_and_a_path_that_starts_at_the_minimum(tmp_path: Path) -> None:
    root = Surface("root", "root", lambda x, y: np.sqrt(x) + y * y, lambda x, y: (0.0, 2 * y),
                   start=(0.0, 0.0), bounds=((-1.0, 1.0), (-1.0, 1.0)), minima=((0.0, 0.0),),
                   lr={"SGD": 0.1}, steps=3)
    figure = plot.plot_landscape({"root": paths(root, methods={"SGD": fm.SGD})})
    plot.save_figure(figure, tmp_path / "figure.png")
    assert lines(figure.axes[1], COLOURS[0])[0].tolist() == [0, 0, 0, 0]


# Files --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "begin"), [
    ("figure.png", b"\x89PNG"), ("figure.PNG", b"\x89PNG"), ("new/figure.svg", b"<?xml"),
    ("figure.pdf", b"%PDF")])
def test_figures_are_written(name: str, begin: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    plot.save_figure(plot.plot_history({"run": [run(0, "loss")]}), str(file))
    assert file.read_bytes().startswith(begin)
    assert [*file.parent.iterdir()] == [file]


def test_a_figure_that_fails_leaves_the_file_as_it_was(tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    figure, file = plot.plot_history({"run": [run(0, "loss")]}), tmp_path / "figure.png"

    def full(path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure, "savefig", full)
    file.write_text("before")
    with pytest.raises(OSError, match="no space left"):
        plot.save_figure(figure, file)
    assert file.read_text() == "before"
    assert [*tmp_path.iterdir()] == [file]


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


def test_figures_from_threads_and_no_global_state(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)     # importing it is an error
    files = [tmp_path / f"{i}.png" for i in range(3)]

    def draw(file: Path) -> None:
        plot.save_figure(plot.plot_history({"run": [run(0, *ALL)]}), file)

    threads = [threading.Thread(target=draw, args=[file]) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({file.read_bytes() for file in files}) == 1


# Refusals -----------------------------------------------------------------------------------------

def history(**changed: Any) -> Callable[[Path], Any]:
    return lambda folder: plot.plot_history({"a": [run(0, "loss"), run(1, "loss")], **changed})


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "suffix": (lambda d: plot.save_figure(plot.plot_history(FULL), d / "figure.jpg"),
               r"path must end in \.png or \.svg or \.pdf, not be '.*figure\.jpg'"),
    "no suffix": (lambda d: plot.save_figure(plot.plot_history(FULL), d / "png"),
                  "path must end in"),
    "animation": (lambda d: plot.animate_landscape(RESULTS, d / "a.mp4"),
                  r"path must end in \.gif, not"),
    "frames": (lambda d: plot.animate_landscape(RESULTS, d / "a.gif", frames=1),
               "frames must be an integer >= 2, not 1"),
    "no labels": (lambda d: plot.plot_history({}), "1 to 7 labels .*, not 0"),
    "labels": (lambda d: plot.plot_history({str(i): [run(0, "loss")] for i in range(8)}),
               "1 to 7 labels .*, not 8"),
    "no runs": (history(b=[]), "'b' has no runs"),
    "no loss": (history(b=[run(0, "val_loss")]), "each run of 'b' must have 'loss'"),
    "other names": (history(b=[run(0, "loss"), run(0, "loss", "accuracy")]), "each run of 'b'"),
    "names": (history(b=[run(0, "loss", "accuracy")]), "'b' has loss, accuracy, but 'a' has loss"),
    "lengths": (history(b=[run(0, "loss"), run(0, "loss", epochs=2)]), "'loss' has 2, 3 numbers"),
    "empty": (history(b=[run(0, "loss", epochs=0)]), "not empty; 'loss' has 0 numbers"),
    "momentum": (lambda d: plot.plot_history(FULL, momentum=2), "momentum must be a number from 0"),
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


@pytest.mark.parametrize("call", [lambda: plot.plot_history(FULL),
                                  lambda: plot.plot_landscape(RESULTS)], ids=["history", "paths"])
def test_without_matplotlib(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "fastmom\[plot\]"'):
        call()


def test_a_test_set_is_called_so() -> None:
    figure = plot.plot_history({"a": [run(0, "loss", "accuracy", "test_loss", "test_accuracy")]})
    assert [axes.get_ylabel() for axes in figure.axes] == ["training loss", "test loss",
                                                           "accuracy (%)"]
    assert figure.axes[2].get_title("left") == "solid: test; dashed: training"
    with pytest.raises(ValueError, match="of a validation or of a test set, not of both"):
        plot.plot_history({"a": [run(0, "loss", "val_loss", "test_loss")]})


def test_what_diverges_and_what_is_rare_does_not_hide_the_rest() -> None:
    good, bad = run(0, "loss", "batch_loss", epochs=400), run(1, "loss", "batch_loss", epochs=400)
    good["batch_loss"][1000] = 1e-30
    bad["batch_loss"][100:] = [1e30] * 1900
    axes = plot.plot_history({"good": [good], "bad": [bad]}).axes[0]
    low, high = axes.get_ylim()
    assert 0.05 < low < 0.2
    assert 0.9 < high < 20


def test_runs_without_a_finite_number(tmp_path: Path) -> None:
    nothing = {"loss": [None, None], "batch_loss": [None] * 6, "val_loss": [None, None]}
    figure = plot.plot_history({"a": [nothing], "b": [nothing]})
    plot.save_figure(figure, tmp_path / "a.png")
    assert [axes.get_xlim()[1] > edge for axes, edge in
            zip(figure.axes, (6, 2), strict=True)] == [True, True]
