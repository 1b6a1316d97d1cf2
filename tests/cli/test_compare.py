"""`fastmom compare`: its table, its files and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import metrics_of, run, start, train

from fastmom import plot
from fastmom.cli.compare import span
from fastmom.nn.loop import Task, Training

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and terminals")
HEADER = "method epoch 1 loss test accuracy range epochs to 95% s/epoch"


def compare(digits: Path, *options: object) -> int:
    """With a small network; later options win."""
    return run("--data", digits, "--hidden", 8, "--epochs", 2, "--output",
               digits.parent / "compare.png", *options, command="compare")


def table(out: str) -> dict[str, list[str]]:
    """The cells of each row after its label."""
    lines = out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("method"))
    rows = [re.split(r"  +", line) for line in lines[first:] if not line.startswith("figure: ")]
    return {label: cells for label, *cells in rows}


def test_the_table_the_figure_and_json(digits: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    drawn: list[Any] = []

    def plot_history(histories: Any, **given: Any) -> Any:
        drawn.append((histories, given))
        return original(histories, **given)
    original = plot.plot_history
    monkeypatch.setattr(plot, "plot_history", plot_history)
    monkeypatch.chdir(tmp_path)
    assert run("--data", digits, "--hidden", 16, "--epochs", 4, "--seeds", 2, "--target", 0.5,
               "--lr", 0.05, "--json", "all.json", command="compare") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("\nfigure: compare.png\n")
    assert {file.name for file in tmp_path.iterdir()} == {"compare.png", "all.json"}
    assert Path("compare.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads(Path("all.json").read_text())
    assert set(content) == {"data", "config", "summary", "runs"}
    labels = [f"momentum {m}" for m in ("0", "0.5", "0.9", "0.99")]
    assert [(r["label"], r["seed"]) for r in content["runs"]] == [
        (label, seed) for seed in (0, 1) for label in labels]
    assert [line.partition(":")[0] for line in out.splitlines()[3:11]] == [
        f"{r['label']}, seed {r['seed']}" for r in content["runs"]]
    assert content["config"]["methods"]["momentum 0.5"] == {
        "optimizer": "sgd", "lr": 0.05, "momentum": 0.5, "nesterov": True, "decay": 1e-6,
        "weight_decay": 0}
    rows = table(out)
    assert [*rows] == ["method", *labels]
    (histories, given), = drawn
    assert given == {"momentum": None, "dropout": True, "title":
                     f"{digits}, batch 32, hidden layers 16, dropout 0.2, seeds 0 to 1\n"
                     "all with lr 0.05, Nesterov, decay 1e-06"}
    for label in labels:
        runs = [r["epochs"] for r in content["runs"] if r["label"] == label]
        ends = [epochs[-1]["test_accuracy"] for epochs in runs]
        assert rows[label][:3] == [
            f"{statistics.fmean(epochs[0]['loss'] for epochs in runs):.4f}",
            f"{statistics.fmean(ends):.2%}", f"{min(ends):.2%}-{max(ends):.2%}"]
        reached = content["summary"][label]["epochs_to_target"]
        assert reached == [next((i for i, epoch in enumerate(epochs, 1)
                                 if epoch["test_accuracy"] >= 0.5), None) for epochs in runs]
        for epochs, curves in zip(runs, histories[label], strict=True):
            for name in ("loss", "accuracy", "test_loss", "test_accuracy"):
                assert curves[name] == [epoch[name] for epoch in epochs]
            assert len(curves["batch_loss"]) == 40
    found = {n for s in content["summary"].values() for n in s["epochs_to_target"]}
    assert len(found) > 1       # else it would show little


@pytest.mark.parametrize(("epochs", "shown"), [
    ([3], "3"), ([2, 2], "2"), ([4, 2, 3], "2-4"), ([None, None], "-"), ([None, 3], "3 or -"),
    ([2, None, 5], "2-5 or -")])
def test_epochs_to_the_target(epochs: list[int | None], shown: str) -> None:
    assert span(epochs) == shown


def test_runs_are_those_of_train(digits: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    shared: list[object] = ["--batch-size", 16, "--hidden", 9, "--dropout", 0.1, "--lr", 0.02,
                            "--decay", 0.01, "--no-nesterov", "--weight-decay", 0.001,
                            "--epochs", 2]
    assert compare(digits, "--momentum", 0.7, "--seeds", 2, "--json", file, *shared) == 0
    for found in json.loads(file.read_text())["runs"]:
        single = train(digits, "--momentum", 0.7, "--seed", found["seed"], *shared)
        assert metrics_of(found) == metrics_of(single)


@pytest.mark.parametrize("options", [[], ["--lr", 0.003]])
def test_optimizers(options: list[object], digits: Path, tmp_path: Path,
                    capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.json"
    assert compare(digits, "--optimizer", "adamw", "sgd", "--seeds", 1, "--json", file,
                   *options) == 0
    assert [*table(capsys.readouterr().out)] == ["method", "AdamW", "SGD"]
    content = json.loads(file.read_text())
    lrs = {label: hyper["lr"] for label, hyper in content["config"]["methods"].items()}
    assert lrs == ({"AdamW": 0.003, "SGD": 0.003} if options else {"AdamW": 0.001, "SGD": 0.01})
    for found, name in zip(content["runs"], ("adamw", "sgd"), strict=True):
        single = train(digits, "--hidden", 8, "--optimizer", name, *options)
        assert metrics_of(found) == metrics_of(single)


def test_a_run_that_diverges_is_reported(digits: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.json"

    def run(training: Any, model: Any, epochs: Any, order: Any, evaluate: Any, callbacks: Any,
            original: Any = Training.run) -> None:
        lost = model.seed == 1 and model.optimizer.momentum == 0.5
        nan = {"test_loss": float("nan")} if lost else {}
        original(training, model, epochs, order, lambda: evaluate() | nan, callbacks)
    monkeypatch.setattr(Training, "run", run)
    assert compare(digits, "--momentum", 0.5, 0, "--seeds", 2, "--json", file) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\nmomentum 0.5, seed 1: diverged in epoch 1\n" in out
    rows = table(out)
    assert rows["momentum 0.5"][-1] == "(1 of 2 diverged)"
    assert rows["momentum 0.5"][1] != "diverged"
    assert len(rows["momentum 0"]) == len(rows["method"]) == 5
    content = json.loads(file.read_text(), parse_constant=pytest.fail)
    lost, = (found for found in content["runs"] if found["diverged"])
    assert (lost["seed"], len(lost["epochs"])) == (1, 1)
    assert lost["epochs"][0]["test_loss"] is None


def test_all_diverge(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(digits, "--lr", 1e30, "--momentum", 0, 0.9, "--seeds", 1) == 3
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("diverged at ") == 2
    for label in ("momentum 0", "momentum 0.9"):
        assert f"\n{label}, seed 0: diverged at epoch 1, step 2\n" in out
        assert table(out)[label][:4] == ["-", "diverged", "-", "-"]


# Options, and what the message holds
WRONG: list[tuple[list[str], str]] = [
    (["--momentum", "0.9", "0.90"], "--momentum: must be 1 to 7 different ones, not 0.9 0.9"),
    (["--momentum", *(f"0.{i}" for i in range(8))], "--momentum: must be 1 to 7 different ones"),
    (["--momentum", "1.1"], "argument --momentum: must be a number from 0 to 1, not '1.1'"),
    (["--momentum"], "argument --momentum: expected at least one argument"),
    (["--optimizer", "sgd", "sgd"], "--optimizer: must be 1 to 7 different ones, not sgd sgd"),
    (["--optimizer", "adma"], "not 'adma'; did you mean adam?"),
    (["--optimizer", "sgd", "--momentum", "0"], "not allowed with argument"),
    (["--optimizer", "SGD", "Adam", "--nesterov"], "--nesterov: Adam has no nesterov; its opt"),
    (["--lr", "-1"], "--lr: must be a finite number >= 0, not -1.0"),
    (["--seeds", "0"], "argument --seeds: must be an integer >= 1, not '0'"),
    (["--target", "95"], "argument --target: must be a number above 0 and up to 1, not '95'"),
    (["--smooth", "2"], "argument --smooth: must be a number from 0 to 1, not '2'"),
    (["--output", "a.jpg"], "argument --output: must be a file that ends in .png or .svg or .pdf"),
    (["--output", "no/a.png"], "--output: there is no directory no"),
    (["--json", "no/a.json"], "--json: there is no directory no"),
    (["--output", "a.png", "--json", "a.png"], "--json: a.png is the file of --output"),
    (["--data", "none"], "--data none: source is 'none'"),
    (["--seed", "1"], "unrecognized arguments: --seed 1"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options(options: list[str], message: str, digits: Path, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--data", digits, *options, command="compare") == 2
    out, err = capsys.readouterr()
    assert message in err.splitlines()[-1]
    assert out == ""
    assert [*tmp_path.iterdir()] == []


def test_without_matplotlib(digits: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert compare(digits) == 2
    out, err = capsys.readouterr()
    assert 'pip install "fastmom[plot]"' in err
    assert out == ""


def test_ctrl_c_keeps_the_finished_runs(digits: Path, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    file, output = tmp_path / "all.json", tmp_path / "a.png"

    def epoch(training: Any, model: Any, *rest: Any, original: Any = Training.epoch) -> Any:
        if model.seed == 1 and model.optimizer.momentum == 0.5:
            signal.raise_signal(signal.SIGINT)
        return original(training, model, *rest)
    monkeypatch.setattr(Training, "epoch", epoch)
    assert compare(digits, "--output", output, "--json", file) == 130
    out, err = capsys.readouterr()
    assert err == ""
    assert "\ninterrupted after 5 of 12 runs\n" in out
    assert out.endswith(f"\nfigure: {output}\n")
    assert [*table(out)][1:] == [f"momentum {m:g}" for m in (0, 0.5, 0.9, 0.99)]
    assert [found["seed"] for found in json.loads(file.read_text())["runs"]] == [0, 0, 0, 0, 1]


def test_ctrl_c_before_the_first_run_is_whole(digits: Path, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    def evaluate(*args: Any, original: Any = Task.evaluate) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(*args)
    monkeypatch.setattr(Task, "evaluate", evaluate)
    assert compare(digits, "--output", tmp_path / "a.png") == 130
    assert capsys.readouterr().out.endswith("\ninterrupted after 0 of 12 runs\n")
    assert [*tmp_path.iterdir()] == []


@POSIX
def test_a_terminal_gets_a_progress_bar_over_runs(digits: Path, tmp_path: Path) -> None:
    import pty
    ours, theirs = pty.openpty()
    shown = b""
    handled = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with start("--data", digits, "--hidden", 8, "--epochs", 2, "--seeds", 2, "--output",
               tmp_path / "a.svg", command="compare", stdout=theirs, preexec_fn=handled) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):      # Linux says by an error that it is closed
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert process.wait(60) == 0
    assert re.search(rb"\rcompare: +\d+%\|.*\| \d/8 \[", shown)
    lines = [line.rpartition("\r")[2] for line in shown.decode().replace("\r\n", "\n").split("\n")]
    assert re.sub(" +", " ", lines[3]) == HEADER
    assert lines[8:] == [f"figure: {tmp_path / 'a.svg'}", ""]
