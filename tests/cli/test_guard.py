"""`fastmom train --guard`, and how a training that diverges ends without it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import metrics_of, run, train

import fastmom as fm
from fastmom.cli.network import make_model, make_optimizer
from fastmom.cli.resume import resumed

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


def test_back_to_the_start_of_a_resumed_training(digits: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    assert run("--data", digits, "--hidden", 16, "--batch-size", 1, "--guard", "--epochs", 1,
               "--checkpoint", saved) == 0
    model, record = resumed(saved)
    fresh = make_model(record.config, (28, 28), 0, make_optimizer("sgd", {}))
    record.guard.begin_with(fresh)
    record.guard.set_model(model)
    record.guard.on_train_begin()
    assert not np.array_equal(model.params[0], fresh.params[0])
    assert record.guard._first > record.guard._best > 0     # as they were
    losses = [record.guard._first] * 300
    record.guard.on_epoch_begin(1)
    for loss in losses:
        record.guard.watch(loss)
    (event,) = record.guard.events
    assert event["text"].endswith("; back to the start, momentum 0.9 → 0")
    assert all(map(np.array_equal, model.params, fresh.params))
    assert model.optimizer.iterations == 0
