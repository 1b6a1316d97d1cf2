"""`fastmom train --checkpoint`: what is resumed ends as what was never interrupted."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import metrics_of, run, start, write

from fastmom import checkpoint, nn
from fastmom.cli.resume import Record

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

# Options of trainings that have state of different kinds
KINDS: dict[str, list[object]] = {
    "sgd": [],
    "adamw": ["--optimizer", "adamw", "--seed", 3],
    "schedules": ["--lr-schedule", "Piecewise([(0, Linear(0, 0.1, 12)), (12, Cosine(0.1, 0, 20))])",
                  "--momentum-schedule", "Sutskever(period=5)"],
    "plateau": ["--lr-schedule", "ReduceOnPlateau(0.05, factor=0.5, patience=0, threshold=0.5)",
                "--validation-split", 0.2],
}


def train(directory: Path, digits: Path, *options: object) -> int:
    """Train with the files of metrics beside the directory."""
    return run("--data", digits, "--hidden", 8, "--checkpoint", directory,
               "--json", directory.with_suffix(".json"), "--log", directory.with_suffix(".csv"),
               *options)


def bits(value: Any) -> Any:
    """Return data that is equal only if all arrays in it are, bit by bit."""
    if isinstance(value, dict):
        return {name: bits(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [bits(entry) for entry in value]
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def content(directory: Path) -> dict[str, Any]:
    """All that a training leaves behind, without the seconds."""
    report = json.loads(directory.with_suffix(".json").read_text())
    lines = directory.with_suffix(".csv").read_text().splitlines()
    table = [line.split(",") for line in lines]
    newest = checkpoint.latest(directory)
    assert newest
    saved = checkpoint.load(newest)
    return {"config": report["config"], "epochs": metrics_of(report), "test": report.get("test"),
            "table": [[cell for name, cell in zip(table[0], row, strict=True) if name != "seconds"]
                      for row in table],
            "params": bits(saved.params), "optimizer": bits(saved.optimizer), "rng": saved.rng,
            "losses": saved.extra["extra"]["losses"], "name": newest.name}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_without_a_break(kind: str, digits: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, digits, "--epochs", 5, *KINDS[kind]) == 0
    assert train(parts, digits, "--epochs", 2, *KINDS[kind]) == 0
    assert run("--checkpoint", parts, "--resume", "--epochs", 3) == 0      # no other file
    assert train(parts, digits, "--resume", "--epochs", 5, *KINDS[kind]) == 0
    assert content(parts) == content(whole)
    assert len(content(whole)["table"]) == 6
    if kind == "plateau":       # it has observed something before the break
        newest = checkpoint.latest(parts)
        assert newest
        optimizer = nn.Sequential.load(newest).optimizer
        assert optimizer.lr < 0.05


@POSIX
def test_after_kill_9(digits: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with start("--data", digits, "--hidden", 8, "--checkpoint", parts, "--epochs", 10 ** 6) as it:
        deadline = time.monotonic() + 60
        while not (parts / "checkpoint-00000004.npz").exists():
            assert time.monotonic() < deadline
            assert it.poll() is None
        it.kill()
        it.communicate()
    newest = checkpoint.latest(parts)
    assert newest
    epochs = int(newest.stem[-8:]) + 2
    assert train(parts, digits, "--resume", "--epochs", epochs) == 0
    assert train(whole, digits, "--epochs", epochs) == 0
    assert content(parts) == content(whole)


@POSIX
def test_ctrl_c_says_how_to_go_on(digits: Path, tmp_path: Path) -> None:
    directory, plot = tmp_path / "a b", tmp_path / "figure.png"
    handled = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with start("--data", digits, "--hidden", 8, "--checkpoint", directory, "--epochs", 10 ** 6,
               "--plot", plot, preexec_fn=handled) as process:
        assert process.stdout
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    *_, interrupted, accuracy, figure, saved = out.decode().splitlines()
    done = int(re.fullmatch(r"interrupted after (\d+) of 1000000 epochs", interrupted)[1])
    assert accuracy.endswith(f"after epoch {done}")
    assert figure == f"figure: {plot}"
    newest = directory / f"checkpoint-{done:08d}.npz"
    assert saved.startswith(f"saved: {newest}; go on with: fastmom train --checkpoint ")
    assert newest == checkpoint.latest(directory)
    words = shlex.split(saved.partition("go on with: fastmom train ")[2])
    assert words == ["--checkpoint", str(directory), "--resume", "--plot", str(plot)]
    assert run(*words, "--epochs", done) == 0


def test_ctrl_c_before_the_first_checkpoint(digits: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*args: object) -> None:
        signal.raise_signal(signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Record, "on_epoch_begin", interrupted)
    file = tmp_path / "a.png"
    assert run("--data", digits, "--checkpoint", tmp_path / "new", "--plot", file) == 130
    assert capsys.readouterr().out.endswith(
        f"\ninterrupted after 0 of 5 epochs\nno figure {file}: no epoch is whole\n"
        f"no checkpoint: no epoch is whole\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_a_checkpoint_is_written(digits: Path, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def state(record: Record, original: Any = Record.state) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(record)
    monkeypatch.setattr(Record, "state", state)
    assert run("--data", digits, "--checkpoint", tmp_path) == 130
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-00000001.npz"]
    assert checkpoint.latest(tmp_path)


# Options after a training with adam, lr 0.001 and the defaults, and what the message says
CONTRADICTIONS: list[tuple[list[object], str]] = [
    (["--seed", 1], "--seed: 1, but the checkpoint's training has 0"),
    (["--hidden", 8, 8], "--hidden: [8, 8], but the checkpoint's training has [8]"),
    (["--optimizer", "sgd"], "--optimizer: sgd, but the checkpoint's training has adam"),
    (["--lr", 0.1], "--lr: 0.1, but the checkpoint's training has 0.001"),
    (["--lr-schedule", "Constant(0.001)"],
     "--lr-schedule: Constant(value=0.001), but the checkpoint's training has 0.001"),
    (["--momentum", 0.9], "--momentum: 0.9, but the checkpoint's training has no such option"),
    (["--weight-decay", 1], "--weight-decay: 1.0, but the checkpoint's training has 0.0"),
    (["--batch-size", 8], "--batch-size: 8, but the checkpoint's training has 32"),
    (["--dropout", 0], "--dropout: 0.0, but the checkpoint's training has 0.2"),
    (["--validation-split", 0.1],
     "--validation-split: 0.1, but the checkpoint's training has 0.0"),
    (["--epochs", 1], "--epochs: 1, but the checkpoint is of epoch 2"),
]


@pytest.mark.parametrize(("options", "message"), CONTRADICTIONS, ids=lambda row: str(row[0]))
def test_contradictions(adam: Path, options: list[object], message: str,
                        capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in adam.iterdir()}
    assert run("--checkpoint", adam, "--resume", *options) == 2
    assert capsys.readouterr() == ("", f"fastmom train: error: {message}\n")
    assert {file: file.read_bytes() for file in adam.iterdir()} == before


def test_other_samples(adam: Path, tmp_path: Path, digits: Path,
                       capsys: pytest.CaptureFixture[str]) -> None:
    other = write(tmp_path / "other", seed=1)
    assert run("--checkpoint", adam, "--resume", "--data", other) == 2
    assert capsys.readouterr().err == (
        f"fastmom train: error: --data {other}: other samples than those of the checkpoint's "
        f"training ({digits})\n")
    same = write(tmp_path / "same")         # elsewhere, with the same content
    assert run("--checkpoint", adam, "--resume", "--data", same) == 0


def test_the_same_figure(digits: Path, tmp_path: Path) -> None:
    drawn = []
    for breaks in ([], ["--epochs", 1]):
        directory, file = tmp_path / f"{len(breaks)}", tmp_path / f"{len(breaks)}.png"
        if breaks:
            assert train(directory, digits, *breaks) == 0
        assert train(directory, digits, "--epochs", 3, "--plot", file,
                     *["--resume"] * bool(breaks)) == 0
        drawn.append(file.read_bytes())
    assert drawn[0] == drawn[1]


def test_all_epochs_are_there_already(adam: Path, tmp_path: Path) -> None:
    files = [[tmp_path / f"{i}.{ending}" for ending in ("json", "jsonl")] for i in range(2)]
    for report, log in files:
        assert run("--checkpoint", adam, "--resume", "--json", report, "--log", log) == 0
        assert len(log.read_text().splitlines()) == 2
        assert len(json.loads(report.read_text())["epochs"]) == 2
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.filterwarnings("default:passed over")
def test_a_damaged_checkpoint_is_passed_over(digits: Path, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for directory in (whole, parts):
        assert train(directory, digits, "--epochs", 3) == 0
    damaged = parts / "checkpoint-00000003.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert train(parts, digits, "--resume") == 0
    assert capsys.readouterr().err.startswith(
        f"fastmom train: warning: passed over: {damaged} is damaged: ")
    assert content(parts) == content(whole)
