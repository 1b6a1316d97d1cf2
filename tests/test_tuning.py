"""The search for learning rate and momentum, and the edge of stability."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import tuning
from fastmom.tuning import Trial, Tuning, sharpness, stability_edge
from fastmom.tuning.trials import pieces


def network(units: int = 32, **hyper: Any) -> fm.nn.Sequential:
    model = fm.nn.Sequential([
        fm.nn.Rescaling(1 / 255, input_shape=(28, 28)), fm.nn.Flatten(),
        fm.nn.Dense(units, activation="relu"), fm.nn.Dense(10, activation="softmax")])
    model.compile(fm.SGD(**hyper), metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def digits() -> Any:
    return fm.data.load_digits(2000, 1000, cache=False)


def test_sharpness_is_the_largest_eigenvalue() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 5)) * [3, 1, 1, 0.5, 0.1]
    y = rng.standard_normal((300, 1))
    model = fm.nn.Sequential([fm.nn.Dense(1, input_shape=(5,))], dtype="float64")
    model.compile(fm.SGD(), loss="mse")
    before = model.get_weights()
    wide = np.hstack([x, np.ones((300, 1))])
    largest = np.linalg.eigvalsh(2 * wide.T @ wide / 300)[-1]
    assert sharpness(model, x, y) == pytest.approx(largest, rel=1e-3)
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_edge_is_where_the_kernels_diverge(momentum: float, nesterov: bool) -> None:
    curvature = 7.0
    edge = stability_edge(momentum, curvature, nesterov=nesterov)
    ends = []
    for lr in (0.99 * edge, 1.01 * edge):
        p = np.ones(1)
        optimizer = fm.SGD([p], lr=lr, momentum=momentum, nesterov=nesterov)
        for _ in range(2000):
            optimizer.step([curvature * p])
        ends.append(abs(p[0]))
    assert ends[0] < 1e-2
    assert ends[1] > 1e2


def test_pieces_of_the_stream_are_those_of_the_whole() -> None:
    whole = np.concatenate(list(pieces(10, 3, 0, 25)))
    parts = np.concatenate([rows for a, b in ((0, 7), (7, 12), (12, 25))
                            for rows in pieces(10, 3, a, b)])
    assert np.array_equal(whole, parts)
    assert sorted(whole[:10]) == sorted(whole[10:20]) == list(range(10))
    assert not np.array_equal(whole[:10], whole[10:20])


@pytest.mark.slow
def test_it_finds_the_grids_best_for_a_third_of_the_cost(digits: Any) -> None:
    (x, y), held_out = digits
    options: dict[str, Any] = {"epochs": 3, "processes": 2, "validation_data": held_out,
                               "verbose": False}
    model = network()
    before = pickle.dumps(model)
    found = fm.tune(model, x, y, **options)
    grid = fm.tune(model, x, y, **options, halving=False)
    assert found.cost <= 1 / 3
    assert grid.cost == pytest.approx(1, abs=1e-9)
    assert found.best.score >= grid.best.score - 0.003
    same = next(t for t in grid.trials if (t.lr, t.momentum) == (found.lr, found.momentum))
    assert same.loss == found.best.loss
    assert pickle.dumps(model) == before
    alone = fm.tune(model, x, y, **options | {"processes": 1})
    assert [(t.lr, t.momentum, t.loss) for t in alone.trials] == [
        (t.lr, t.momentum, t.loss) for t in found.trials]


def test_rounds(digits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (x, y), _ = digits
    found = fm.tune(network(8), x, y, lr=[0.001, 0.01, 0.1], momentum=[0.0, 0.5, 0.9], epochs=1,
                    batch_size=20, processes=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        "round 1 of 3: 9 pairs to 200 samples", "round 2 of 3: 3 pairs to 600 samples",
        "round 3 of 3: 1 pair to 1,800 samples"]
    assert [t.samples for t in found.trials] == [1800, *2 * [600], *6 * [200]]
    assert found.cost == pytest.approx((9 * 200 + 3 * 400 + 1200) / (9 * 1800))
    assert found.reason in repr(found)
    assert f"accuracy {found.best.score:.2%} after 1,800 samples is the best of 9" in found.reason
    assert found.to_dict()["trials"][0]["loss"] == found.best.loss


def test_without_accuracy_losses_are_compared() -> None:
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    model = fm.nn.Sequential([fm.nn.Dense(1, input_shape=(3,))])
    found = fm.tune(model, x, x.sum(axis=1, keepdims=True), lr=[1e-4, 0.1], momentum=[0.0],
                    processes=1, verbose=False)
    assert found.lr == 0.1
    assert not found.accuracy
    assert found.best.score == -found.best.loss


def test_a_time_budget_cuts_the_training(digits: Any) -> None:
    (x, y), _ = digits
    found = fm.tune(network(8), x, y, lr=[0.01, 0.1], momentum=[0.9], epochs=1e6, processes=1,
                    seconds=2.0, verbose=False)
    assert found.budget < 1e6 * len(x)
    assert found.best.samples > 0


def test_a_search_that_is_cut_short_gives_the_best_so_far(
        digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), _ = digits

    def interrupted(self: Any, trial: Trial, samples: int) -> Trial | None:
        if samples > 600:
            raise KeyboardInterrupt
        return train(self, trial, samples)
    train = tuning.trials.Work.train
    monkeypatch.setattr(tuning.trials.Work, "train", interrupted)
    found = fm.tune(network(8), x, y, lr=[0.001, 0.01, 0.1], momentum=[0.0, 0.5, 0.9],
                    batch_size=20, processes=1, verbose=False)
    assert found.ended == "interrupted"
    assert found.best.samples == 600
    monkeypatch.setattr(tuning.trials.Work, "train", lambda work, trial, _: interrupted(
        work, trial, 601))
    with pytest.raises(KeyboardInterrupt):
        fm.tune(network(8), x, y, lr=[0.1], processes=1, verbose=False)


def test_all_diverged(digits: Any) -> None:
    (x, y), _ = digits
    model = fm.nn.Sequential([fm.nn.Flatten(input_shape=(28, 28)), fm.nn.Dense(1)])
    with pytest.raises(tuning.AllDiverged, match="lower learning rates"):
        fm.tune(model, x, np.float32(y[:, None]), lr=[1e3, 1e4], processes=1, verbose=False)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"lr": []}, TypeError, "lr must be a list of at least one number, not"),
    ({"lr": [0.0]}, ValueError, "each of lr must be a finite number > 0, not 0.0"),
    ({"momentum": [1.5]}, ValueError, "each of momentum must be a number from 0 to 1, not 1.5"),
    ({"epochs": 0}, ValueError, "epochs must be a finite number > 0, not 0"),
    ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, not 0"),
    ({"validation_split": 1.0}, ValueError, "validation_split must be a number above 0 to below 1"),
    ({"validation_data": 3}, TypeError, r"validation_data must be a tuple \(x, y\), not 3"),
    ({"halving": 1}, TypeError, "halving must be True or False, not 1"),
    ({"seconds": -1}, ValueError, "seconds must be a finite number > 0, not -1"),
    ({"processes": 0}, ValueError, "processes must be an integer >= 1, not 0"),
    ({"model": 3}, TypeError, "model must be a Sequential, not 3"),
    ({"y": [1]}, ValueError, "x has 4 samples and y has 1"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG, ids=[str(row[0]) for row in WRONG])
def test_wrong_arguments(given: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"model": fm.nn.Sequential([fm.nn.Dense(1, input_shape=(2,))]),
                 "x": np.ones((4, 2), np.float32), "y": np.ones((4, 1), np.float32)} | given
    with pytest.raises(error, match=message):
        fm.tune(**arguments)


def test_an_optimizer_without_momentum() -> None:
    model = fm.nn.Sequential([fm.nn.Dense(1, input_shape=(2,))])
    model.compile("adam")
    with pytest.raises(ValueError, match="Adam has no momentum"):
        fm.tune(model, np.ones((4, 2)), np.ones((4, 1)))


def test_the_map() -> None:
    plot = pytest.importorskip("matplotlib") and fm.plot
    trials = [Trial(0.1, 0.9, 900, 0.1, 0.95), Trial(0.01, 0.9, 300, 0.5, 0.8),
              Trial(0.1, 0.0, 100, 1.5, 0.4), Trial(0.01, 0.0, 100, math.inf, diverged=True)]
    found = Tuning(trials, 0.3, (40.0, 100.0), False, True, 900)
    axes, = plot.plot_tuning(found).axes
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(1, 1): "0.1", (0, 1): "0.5", (1, 0): "1.5", (0, 0): "diverged"}
    assert [line.get_linestyle() for line in axes.lines] == ["--", "-"]
    for line, curvature in zip(axes.lines, found.curvature, strict=True):
        place = float(np.interp(1.0, line.get_ydata(), line.get_xdata()))
        assert 10 ** (place - 2) == pytest.approx(2 * 1.9 / curvature, rel=0.02)
