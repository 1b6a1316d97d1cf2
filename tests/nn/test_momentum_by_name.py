"""`compile(optimizer="momentum")`: SGD at the momentum to take when unsure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import run, train, write

from fastmom import nn


@pytest.mark.parametrize(("hyper", "shown"), [
    ({}, "SGD(lr=0.01, momentum=0.9)"),
    ({"momentum": 0.95}, "SGD(lr=0.01, momentum=0.95)"),
    ({"momentum": 0, "lr": 0.5, "nesterov": True}, "SGD(lr=0.5, momentum=0.0, nesterov=True)")])
@pytest.mark.parametrize("name", ["momentum", "Momentum"])
def test_compile(make: Any, name: str, hyper: dict[str, Any], shown: str, tmp_path: Path) -> None:
    model = make(optimizer=name, **hyper)
    assert repr(model.optimizer) == shown
    model.save(tmp_path / "a.npz")
    assert repr(nn.Sequential.load(tmp_path / "a.npz").optimizer) == shown


def test_wrong(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must be one of .*'lion', 'momentum', .* not 'moment'"):
        make(optimizer="moment")
    with pytest.raises(TypeError, match="did you mean 'momentum'"):
        make(optimizer="momentum", mu=0.9)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = write(tmp_path / "digits")
    config = train(digits, "--optimizer", "momentum")["config"]
    assert [config[n] for n in ("optimizer", "lr", "momentum", "nesterov", "decay")] == [
        "momentum", 0.01, 0.9, False, 0.0]
    assert train(digits, "--optimizer", "momentum", "--momentum", 0.8)["config"]["momentum"] == 0.8
    assert run("--data", digits, "--optimizer", "momentum", "sgd", "--epochs", 1, "--seeds", 1,
               "--output", tmp_path / "a.png", command="compare") == 0
    assert "\nmomentum, seed 0: " in capsys.readouterr().out
    assert run("--optimizer", "momentm") == 2
    assert capsys.readouterr().err.endswith("not 'momentm'; did you mean momentum?\n")
    saved = tmp_path / "saved"
    assert run("--data", digits, "--optimizer", "momentum", "--epochs", 1, "--checkpoint",
               saved) == 0
    assert run("--checkpoint", saved, "--resume", "--epochs", 2) == 0
