"""Curves of training: what they show, of what, and how it can be read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from curves import ALL, around, legend_of, lines, run, texts

import fastmom as fm
from fastmom import nn, plot
from fastmom.plot.style import COLOURS

FULL = {label: [run(10 * i + seed, *ALL) for seed in range(3)]
        for i, label in enumerate(("SGD", "momentum"))}


def test_means_ranges_and_no_more_than_that_of_many_runs() -> None:
    train, val_loss, accuracy = plot.plot_history(FULL, momentum=0.8).axes
    for colour, runs in zip(COLOURS, FULL.values(), strict=False):
        shown, = lines(train, colour)
        np.testing.assert_allclose(shown, np.mean(
            [around(run["batch_loss"], 9) for run in runs], axis=0))
        np.testing.assert_allclose(lines(val_loss, colour),
                                   [np.mean([run["val_loss"] for run in runs], axis=0)])
        np.testing.assert_allclose(lines(accuracy, colour), [
            100 * np.mean([run[name] for run in runs], axis=0)
            for name in ("val_accuracy", "accuracy")])
    band = val_loss.collections[0].get_paths()[0].vertices[:, 1]
    values = [run["val_loss"] for run in FULL["SGD"]]
    assert (band.min(), band.max()) == (np.min(values), np.max(values))
    assert [axes.get_xlabel() for axes in (train, val_loss, accuracy)] == ["step", "epoch", "epoch"]
    assert [axes.get_yscale() for axes in (train, val_loss, accuracy)] == ["log", "log", "linear"]


@pytest.mark.parametrize(("runs", "raw"), [(1, True), (2, True), (3, False)])
def test_the_losses_of_each_step_are_shown_of_few_runs(runs: int, raw: bool) -> None:
    given = [run(seed, *ALL) for seed in range(runs)]
    train = plot.plot_history({"a": given}, momentum=0.5).axes[0]
    faint = [line for line in train.lines if line.get_alpha()]
    np.testing.assert_array_equal([line.get_ydata() for line in faint],
                                  [one["batch_loss"] for one in given] if raw else [])
    assert train.get_title("left") == "mean of the 3 steps around each" + "; faint: each one" * raw


# What can be drawn --------------------------------------------------------------------------------

def test_all_that_fit_returns_can_be_drawn() -> None:
    model = nn.Sequential([nn.Dense(2, activation="softmax", input_shape=(2,))])
    model.compile(fm.SGD(lr=0.5, momentum=0.5), metrics=["accuracy"])
    history = model.fit(np.eye(2), [0, 1], epochs=3, verbose=0, validation_data=(np.eye(2), [0, 1]))
    label = repr(model.optimizer)
    for figure, legend in (
            (history.plot(), [label]), (plot.plot_history(history), [label]),
            (plot.plot_history(history.history), []),
            (plot.plot_history(dict(history.history)), []),
            (plot.plot_history({"a": history}), ["a"]),
            (plot.plot_history({"a": history.history}), ["a"]),
            (plot.plot_history({"a": [history.history]}), ["a"]),
            (plot.plot_history([history]), [label]),
            (plot.plot_history(SimpleNamespace(history=dict(history.history))), [])):
        assert [axes.get_ylabel() for axes in figure.axes] == [
            "training loss (log)", "validation loss (log)", "accuracy (%)"]
        np.testing.assert_array_equal(lines(figure.axes[0], COLOURS[0]), [history.history["loss"]])
        assert (legend_of(figure) if figure.legends else []) == legend
    seeds = plot.plot_history([history, history.history])
    assert seeds.axes[1].collections        # a band
    assert legend_of(history.plot(title="two\nlines", momentum=0.5)) == ["two", "lines", label]


def test_old_names_of_accuracy() -> None:
    one = {"loss": [0.5], "acc": [0.25], "val_loss": [0.5], "val_acc": [0.75]}
    axes = plot.plot_history(one).axes[2]
    assert [line.tolist() for line in lines(axes, COLOURS[0])] == [[75], [25]]


@pytest.mark.parametrize(("names", "panels"), [
    (("loss",), ["training loss (log)"]),
    (("loss", "val_loss"), ["training loss (log)", "validation loss (log)"]),
    (("loss", "accuracy"), ["training loss (log)", "accuracy (%)"]),
    (ALL, ["training loss (log)", "validation loss (log)", "accuracy (%)"])])
def test_one_run_and_no_more_panels_than_data(names: tuple[str, ...], panels: list[str],
                                              tmp_path: Path) -> None:
    figure = plot.plot_history({"run": [run(0, *names, epochs=1)]})
    assert [axes.get_ylabel() for axes in figure.axes] == panels
    assert not any(axes.collections for axes in figure.axes)    # no band
    plot.save_figure(figure, tmp_path / "figure.png")


def test_a_test_set_is_called_so() -> None:
    one = run(0, "loss", "accuracy", "test_loss", "test_accuracy")
    figure = plot.plot_history(one)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss (log)", "test loss (log)", "accuracy (%)"]
    with pytest.raises(ValueError, match="of a validation or of a test set, not of both"):
        plot.plot_history(one | {"val_loss": one["loss"]})


@pytest.mark.parametrize("dropout", [False, True])
def test_why_training_may_lie_below(dropout: bool) -> None:
    words = "solid: validation; dashed: training" + "\ndropout lowers that of training" * dropout
    layers: list[Any] = [nn.Dropout(0.5)] * dropout
    model = nn.Sequential([nn.Flatten(input_shape=(2,)), *layers, nn.Dense(2, "softmax")])
    model.compile("sgd", metrics=["accuracy"])
    history = model.fit(np.eye(2), [0, 1], verbose=0, validation_data=(np.eye(2), [0, 1]))
    for figure in history.plot(), plot.plot_history(run(0, *ALL), dropout=dropout):
        assert figure.axes[2].get_title("left") == words


# Smoothing ----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("names", "momentum", "window"), [
    (("loss",), None, 1), (("loss",), 0.5, 3), (("loss", "batch_loss"), None, 10),
    (("loss", "batch_loss"), 0.0, 1), (("loss", "batch_loss"), 0.9, 19),
    (("loss", "batch_loss"), 0.99, 199), (("loss",), 1.0, 10 ** 9)])
def test_momentum_of_the_smoothing(names: tuple[str, ...], momentum: float | None,
                                   window: int) -> None:
    one = run(0, *names, epochs=100)
    shown = lines(plot.plot_history({"run": [one]}, momentum=momentum).axes[0], COLOURS[0])
    np.testing.assert_allclose(shown[-1], around(one[names[-1]], window))
    assert len(shown) == 1 + (window > 1)


def test_the_smoothed_loss_lies_within_the_losses_of_the_steps_also_where_they_fall() -> None:
    rng, steps = np.random.default_rng(0), np.arange(5000)
    losses = (0.2 + 2.1 * np.exp(-steps / 60)) * rng.lognormal(0, 0.2, len(steps))

    def above(smoothed: np.ndarray) -> float:
        """The share of the first 400 steps in which the curve lies above nine of ten losses."""
        high = [np.quantile(losses[max(i - 10, 0):i + 11], 0.9) for i in range(400)]
        return float(np.mean(smoothed[:400] > high))
    figure = plot.plot_history({"loss": losses, "batch_loss": losses}, momentum=0.99)
    line = figure.axes[0].lines[-1]
    shown = np.interp(steps + 1, line.get_xdata(), line.get_ydata())
    assert above(shown) < 0.05
    assert above(fm.smooth(losses, 0.99)) > 0.5     # which lags


def test_a_long_curve_is_drawn_with_no_more_points_than_can_be_seen() -> None:
    losses = np.linspace(1.0, 0.5, 10 ** 5)
    *_, line = plot.plot_history({"loss": [1.0], "batch_loss": losses}).axes[0].lines
    assert len(line.get_xdata()) <= 2000
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (1, 10 ** 5)


# Reading it ---------------------------------------------------------------------------------------

def test_the_legend_names_each_label_once_and_what_is_drawn() -> None:
    assert legend_of(plot.plot_history(FULL, title="digits\nlr 0.1")) == [
        "digits", "lr 0.1", "lines: mean of the 3 runs; bands: from the lowest to the highest",
        "SGD", "momentum"]
    fewer = {"a": FULL["SGD"], "b": FULL["momentum"][:1]}
    assert legend_of(plot.plot_history(fewer))[0].startswith("lines: mean of a method's runs; ")
    assert legend_of(plot.plot_history({"a": FULL["SGD"][0]})) == ["a"]


def test_final_values_stand_at_the_ends_and_apart() -> None:
    runs = {str(i): {"loss": [1.0, 0.5 + i / 1e4], "accuracy": [0.5, 0.9 + i / 1e5]}
            for i in range(5)}
    for axes, expected in zip(plot.plot_history(runs).axes, (
            ["0.500", "0.500", "0.500", "0.500", "0.500"],
            ["90.00", "90.00", "90.00", "90.00", "90.00"]), strict=True):
        assert texts(axes) == expected
        heights = sorted(text.xy[1] for text in axes.texts)
        assert min(np.diff(heights)) > 0.07
        assert [text.get_color() for text in axes.texts] == [*COLOURS[:5]]


def test_the_accuracy_axis_shows_what_is_held_out() -> None:
    one = {"loss": [1.0] * 3, "accuracy": [0.1, 0.9, 0.92], "val_accuracy": [0.95, 0.96, 0.97]}
    axes = plot.plot_history(one).axes[1]
    low, high = axes.get_ylim()
    assert 94 < low < 95
    assert 97 < high < 98
    assert texts(axes) == ["97.00"]


@pytest.mark.parametrize("ends", [(0.5, 0.4), (2.3, 0.1), (0.16, 0.08), (0.35, 0.07), (0.101, 0.1),
                                  (1e3, 1e-3), (1e-3, 1e-7)])
def test_a_logarithmic_axis_has_enough_ticks(ends: tuple[float, float]) -> None:
    axes = plot.plot_history({"loss": np.geomspace(*ends, 9)}).axes[0]
    low, high = axes.get_ylim()
    assert 4 <= sum(low <= tick <= high for tick in axes.get_yticks()) <= 11


@pytest.mark.parametrize(("losses", "scale"), [
    ([0.5, 0.1], "log"), ([0.5, 0.0], "linear"), ([0.0, 0.0], "linear"), ([-1.0, -2.0], "linear"),
    ([1e-12, 1e-13], "log"), ([1e300, 1e299], "log"), ([0.5, None], "log")])
def test_losses_that_are_not_positive_need_a_linear_axis(losses: list[Any], scale: str,
                                                         tmp_path: Path) -> None:
    figure = plot.plot_history({"loss": losses, "val_loss": losses})
    for axes, name in zip(figure.axes, ("training loss", "validation loss"), strict=True):
        assert axes.get_yscale() == scale
        assert axes.get_ylabel() == name + " (log)" * (scale == "log")
        low, high = axes.get_ylim()
        assert all(low <= loss <= high for loss in losses if loss is not None)
    plot.save_figure(figure, tmp_path / "a.png")


# Runs that diverge --------------------------------------------------------------------------------

LOST = {name: [1.0, None, float("nan")] for name in ("loss", "val_loss")}
KEPT = {name: [1.0, 0.5, 0.25] for name in ("loss", "val_loss")}


@pytest.mark.parametrize(("runs", "label", "marks"), [
    ([KEPT, KEPT], "a", 0), ([KEPT, LOST], "a (1 of 2 diverged)", 0), ([LOST], "a (diverged)", 1),
    ([LOST, LOST], "a (diverged)", 1)])
def test_runs_that_diverge_are_marked(runs: list[Any], label: str, marks: int) -> None:
    figure = plot.plot_history({"a": runs})
    assert legend_of(figure)[-1] == label
    for axes in figure.axes:
        assert [line.get_marker() for line in axes.lines].count("X") == marks
        assert texts(axes) == ([] if marks else ["0.250"])
        assert axes.get_xlim()[1] > 3


def test_a_history_of_the_library_with_a_loss_that_is_gone(tmp_path: Path) -> None:
    one: Any = {"loss": [0.5, None, float("inf")], "accuracy": [0.5, 0.1, 0.1],
                "seconds": [1.0, 1.0, 1.0]}
    figure = plot.plot_history({"run": [one, one]})
    np.testing.assert_array_equal(lines(figure.axes[0], COLOURS[0])[0], [0.5, np.nan, np.nan])
    plot.save_figure(figure, tmp_path / "figure.png")


def test_what_diverges_and_what_is_rare_does_not_hide_the_rest() -> None:
    good, bad = run(0, "loss", "batch_loss", epochs=400), run(1, "loss", "batch_loss", epochs=400)
    good["batch_loss"][1000] = 1e-30
    bad["batch_loss"][100:] = [1e30] * 1900
    axes = plot.plot_history({"good": [good], "bad": [bad]}).axes[0]
    low, high = axes.get_ylim()
    assert 0.05 < low < 0.2
    assert 0.9 < high < 20


def test_one_epoch_shows_training_too_and_the_values_beside_their_points() -> None:
    one = {"loss": [1.0], "accuracy": [0.5], "val_accuracy": [0.9]}
    axes = plot.plot_history({"a": one, "b": one | {"val_accuracy": [0.7]}}).axes[1]
    low, high = axes.get_ylim()
    assert low < 50
    assert high > 90
    for value, text in zip((90, 70), axes.texts, strict=True):
        assert text.xy[1] == pytest.approx((value - low) / (high - low))


def test_runs_without_a_finite_number(tmp_path: Path) -> None:
    nothing = {"loss": [None, None], "batch_loss": [None] * 6, "val_loss": [None, None],
               "accuracy": [None, None]}
    figure = plot.plot_history({"a": [nothing], "b": [nothing]})
    plot.save_figure(figure, tmp_path / "a.png")
    assert [axes.get_xlim()[1] > edge for axes, edge in
            zip(figure.axes, (6, 2, 2), strict=True)] == [True] * 3
    assert [texts(axes) for axes in figure.axes] == [["diverged"]] * 3


# Refusals -----------------------------------------------------------------------------------------

ONE = run(0, "loss")
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no labels": ({}, ValueError, "1 to 7 labels .*, not 0"),
    "labels": ({str(i): ONE for i in range(8)}, ValueError, "1 to 7 labels .*, not 8"),
    "no runs": ({"a": ONE, "b": []}, ValueError, "'b' has no runs"),
    "a list of no runs": ([], ValueError, "'' has no runs"),
    "no loss": ({"a": [ONE], "b": [run(0, "val_loss")]}, ValueError,
                "each run of 'b' must have 'loss'"),
    "no loss at all": (run(0, "accuracy"), ValueError, "each run of the history must have 'loss'"),
    "other names": ({"a": [ONE], "b": [ONE, run(0, "loss", "accuracy")]}, ValueError,
                    "each run of 'b'"),
    "names": ({"a": [ONE], "b": [run(0, "loss", "accuracy")]}, ValueError,
              "'b' has loss, accuracy, but 'a' has loss"),
    "lengths": ({"b": [ONE, run(0, "loss", epochs=2)]}, ValueError, "'loss' has 2, 3 numbers"),
    "empty": ({"b": [run(0, "loss", epochs=0)]}, ValueError, "not empty; 'loss' has 0 numbers"),
    "an untrained history": (nn.History(), ValueError, "each run of the history must have 'loss'"),
    "a model": (nn.Sequential(), TypeError, "histories must be a History, its dict, a list"),
    "text": ("loss", TypeError, "histories must be"), "None": (None, TypeError, "histories must"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_histories(case: str) -> None:
    given, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        plot.plot_history(given)


@pytest.mark.parametrize("momentum", [2, -0.1, float("nan")])
def test_wrong_momentum(momentum: float) -> None:
    with pytest.raises(ValueError, match="momentum must be a number from 0"):
        plot.plot_history(FULL, momentum=momentum)
