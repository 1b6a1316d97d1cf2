"""`fastmom train --guard`, and how a training that diverges ends without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import metrics_of, run, train

import fastmom as fm

BAD: list[object] = ["--lr", 20, "--momentum", 0.99, "--hidden", 16, "--batch-size", 4]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_with_and_without(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", digits, *BAD) == 3
    out = capsys.readouterr().out
    assert "\ndiverged at epoch 1, step 10: lower momentum or lr\n" in out
    assert "take 0.9 if unsure" in out
    assert out.endswith("; --guard lowers both by itself\n")
    content = train(digits, *BAD, "--guard", "--epochs", 4)
    events = content["guard"]
    assert events[0]["text"].endswith("back to the start, momentum 0.99 → 0.9")
    out = capsys.readouterr().out
    assert all(f"\n{event['text']}\n" in out for event in events)
    assert content["config"]["guard"] is True
    assert content["epochs"][-1]["test_accuracy"] > 0.4
    for option, message in ((["--lr-schedule", "Linear(0.1, 0, 9)"], "--guard: lr of SGD must be"),
                            (["--lr-schedule", "ReduceOnPlateau(0.1)", "--validation-split", 0.2],
                             "--guard lowers numbers")):
        assert run("--data", digits, "--guard", *option) == 2
        assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_resumed_to_the_same_bits(digits: Path, tmp_path: Path) -> None:
    whole, first, second = tmp_path / "whole", tmp_path / "parts", tmp_path / "second.json"
    content = train(digits, *BAD, "--guard", "--epochs", 4, "--checkpoint", whole)
    assert run("--data", digits, *BAD, "--guard", "--epochs", 2, "--checkpoint", first) == 0
    assert run("--checkpoint", first, "--resume", "--epochs", 4, "--json", second) == 0
    resumed = json.loads(second.read_text())
    assert metrics_of(resumed) == metrics_of(content)
    assert resumed["guard"] == content["guard"]
    models = [fm.nn.Sequential.load(sorted(d.iterdir())[-1]) for d in (whole, first)]
    assert len({b"".join(w.tobytes() for w in model.weights) for model in models}) == 1
    assert repr(models[0].optimizer) == repr(models[1].optimizer)
