"""`fastmom train`: its metrics, its options and the data it takes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from commands import N_TEST, N_TRAIN, idx, metrics_of, run, train, write

import fastmom as fm
from fastmom.data import dataset
from fastmom.data.idx import TEST_IMAGES, TRAIN_IMAGES
from fastmom.optim import OPTIMIZERS
from fastmom.optim.hyper import Number

MNIST = os.environ.get("FASTMOM_DATA")      # before a fixture hides it
CONFIG = {"data", "optimizer", "lr", "momentum", "nesterov", "decay", "weight_decay", "epochs",
          "batch_size", "hidden", "dropout", "seed", "validation_split", "threads"}


def test_json(digits: Path) -> None:
    content = train(digits)
    assert set(content) == {"data", "config", "epochs"}
    assert content["data"] == content["config"]["data"] == str(digits)
    assert content["config"] == {
        "data": str(digits), "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True,
        "decay": 1e-6, "weight_decay": 0, "epochs": 2, "batch_size": 32, "hidden": [16],
        "dropout": 0.2, "seed": 0, "validation_split": 0, "threads": None}
    assert len(content["epochs"]) == 2
    for epoch in content["epochs"]:
        assert set(epoch) == {"loss", "accuracy", "test_loss", "test_accuracy", "seconds"}
        assert all(isinstance(value, float) for value in epoch.values())
        assert min(epoch["loss"], epoch["test_loss"], epoch["seconds"]) > 0
        assert epoch["accuracy"] in [n / N_TRAIN for n in range(N_TRAIN + 1)]
        assert epoch["test_accuracy"] in [n / N_TEST for n in range(N_TEST + 1)]


# Options, what they change in the configuration, and whether that changes the metrics
OPTIONS: list[tuple[list[object], dict[str, Any], bool]] = [
    ([], {}, False),
    (["--optimizer", "sgd"], {}, False),
    (["--nesterov"], {}, False),
    (["--lr", 0.02], {"lr": 0.02}, True),
    (["--momentum", 0], {"momentum": 0}, True),
    (["--no-nesterov"], {"nesterov": False}, True),
    (["--decay", 0.1], {"decay": 0.1}, True),
    (["--weight-decay", 0.01], {"weight_decay": 0.01}, True),
    (["--epochs", 1], {"epochs": 1}, True),
    (["--batch-size", 10_000], {"batch_size": 10_000}, True),
    (["--hidden", 17], {"hidden": [17]}, True),
    (["--hidden", 16, 16], {"hidden": [16, 16]}, True),
    (["--hidden", "18,19", 20], {"hidden": [18, 19, 20]}, True),
    (["--dropout", 0], {"dropout": 0}, True),
    (["--seed", 1], {"seed": 1}, True),
    (["--validation-split", 0.1], {"validation_split": 0.1}, True),
    (["--threads", 1], {"threads": 1}, False),
    (["--threads", 2], {"threads": 2}, False),
]


@pytest.mark.parametrize(("options", "config", "matters"), OPTIONS, ids=str)
def test_options(digits: Path, options: list[object], config: dict[str, Any],
                 matters: bool) -> None:
    base, content = train(digits), train(digits, *options)
    assert content["config"] == base["config"] | config
    assert (metrics_of(content) != metrics_of(base)) == matters


def test_every_option_is_tested() -> None:
    assert {key for _, config, _ in OPTIONS for key in config} | {"data", "optimizer"} == CONFIG


def test_data_is_the_data_that_was_named(digits: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", seed=1)
    assert metrics_of(train(other)) != metrics_of(train(digits))
    for array in (TRAIN_IMAGES, TEST_IMAGES):       # and images of any size
        images = np.zeros((N_TRAIN if array is TRAIN_IMAGES else N_TEST, 5, 3), np.uint8)
        (other / f"{array}.gz").write_bytes(idx(images))
    assert train(other)["epochs"][0]["loss"] > 0


def test_threads_hold_for_the_command_alone(digits: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    before = fm.get_num_threads()
    train(digits, "--threads", 1)
    assert "batch 32, 1 thread\n" in capsys.readouterr().out
    assert fm.get_num_threads() == before
    with fm.num_threads(1):
        train(digits, "--threads", 2)
        assert fm.get_num_threads() == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("lr", "epoch", "step"), [
    ("1e30", 1, 2), ("Piecewise([(0, 0.01), (23, 1e30)])", 3, 5)])
def test_a_run_that_diverges_ends_at_once(lr: str, epoch: int, step: int, digits: Path,
                                          tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    report, log, saved = tmp_path / "a.json", tmp_path / "a.csv", tmp_path / "saved"
    option = "--lr-schedule" if "(" in lr else "--lr"
    assert run("--data", digits, "--hidden", 16, option, lr, "--json", report, "--log", log,
               "--checkpoint", saved) == 3
    out, err = capsys.readouterr()
    assert err == ""
    assert f"\ndiverged at epoch {epoch}, step {step}: lower momentum or lr\n" in out
    content = json.loads(report.read_text(), parse_constant=pytest.fail)
    assert content["diverged"] == {"epoch": epoch, "step": step}
    assert len(content["epochs"]) == epoch - 1      # of the broken epoch nothing is kept
    assert len(log.read_text().splitlines()) == (epoch if epoch > 1 else 0)
    assert [file.name for file in sorted(saved.iterdir())] == [
        f"checkpoint-{i:08d}.npz" for i in range(1, epoch)]
    for file in saved.iterdir():
        model = fm.nn.Sequential.load(file)
        assert all(np.isfinite(weights).all() for weights in model.weights)


def test_json_is_forced_to_the_disk(digits: Path, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[int]()

    def fsync(descriptor: int, original: Any = os.fsync) -> None:
        synced.append(os.fstat(descriptor).st_size)
        original(descriptor)
    monkeypatch.setattr(os, "fsync", fsync)
    file = tmp_path / "a.json"
    assert run("--data", digits, "--hidden", 8, "--epochs", 1, "--json", file) == 0
    assert file.stat().st_size in synced        # the file before its directory


@pytest.mark.parametrize("name", ["Adam", "ADAM", "AdamW", "SGD", "NAdam"])
def test_optimizers_by_their_class_names(name: str, digits: Path) -> None:
    upper, lower = (train(digits, "--optimizer", n) for n in (name, name.lower()))
    assert upper["config"] == lower["config"]
    assert metrics_of(upper) == metrics_of(lower)


class Plain(fm.Optimizer):
    """An optimizer without momentum, to be chosen by name."""

    lr = Number(0.5)
    state_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def _row(self, group: Any, age: int) -> Any:
        return fm.SGD()._row({**fm.SGD().param_groups[0], "lr": group["lr"]}, age)


@pytest.mark.parametrize("option", [["--momentum", "0.9"], ["--nesterov"], ["--no-nesterov"],
                                    ["--decay", "0"], ["--weight-decay", "0"]])
def test_hyper_parameters_the_optimizer_has_not(option: list[str], digits: Path,
                                                monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(OPTIMIZERS, "plain", Plain)
    config = train(digits, "--optimizer", "plain")["config"]
    assert config["lr"] == 0.5      # its own default
    assert CONFIG - set(config) == {"momentum", "nesterov", "decay", "weight_decay"}
    capsys.readouterr()
    assert run("--data", digits, "--optimizer", "plain", *option) == 2
    assert f"{option[0]}: Plain has no " in capsys.readouterr().err



def test_auto_without_network_says_what_it_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(dataset, "load_digits",
                        lambda: fm.data.load_digits(N_TRAIN, N_TEST, cache=False))
    file = tmp_path / "metrics.json"
    assert run("--epochs", 1, "--json", file) == 0
    assert re.match(r"MNIST could not be downloaded \(.+\); using the built-in synthetic digits\n",
                    capsys.readouterr().out)
    content = json.loads(file.read_text())
    assert (content["data"], content["config"]["data"]) == ("digits", "auto")


def accuracies(data: str, tmp_path: Path) -> tuple[float, float]:
    """Test accuracy after the five default epochs, with momentum 0.9 and without."""
    found = []
    for momentum in (0.9, 0):
        file = tmp_path / f"{momentum}.json"
        assert run("--data", data, "--momentum", momentum, "--json", file) == 0
        content = json.loads(file.read_text())
        assert content["data"] == data
        assert len(content["epochs"]) == 5
        found.append(content["epochs"][-1]["test_accuracy"])
    return found[0], found[1]


@pytest.mark.slow
def test_momentum_helps_on_the_digits(tmp_path: Path) -> None:
    with_momentum, without = accuracies("digits", tmp_path)
    assert 0.95 <= with_momentum <= 0.995
    assert without < with_momentum


@pytest.mark.slow
@pytest.mark.skipif(not MNIST, reason="FASTMOM_DATA names no directory with MNIST")
def test_momentum_helps_on_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMOM_DATA", str(MNIST))
    with_momentum, without = accuracies("mnist", tmp_path)
    assert with_momentum >= 0.97
    assert 0.93 <= without <= 0.95
