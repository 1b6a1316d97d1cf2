"""`fastmom tune`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from commands import run, start

GRID = "--hidden", 8, "--lr", 0.01, 0.1, "--momentum", 0, 0.9


def test_the_pair_the_map_and_the_command_to_train_with(
        digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure, file = tmp_path / "map.png", tmp_path / "tune.json"
    assert run("--data", digits, *GRID, "--epochs", 3, "--processes", 1, "--output", figure,
               "--json", file, command="tune") == 0
    out, err = capsys.readouterr()
    assert err == ""
    content = json.loads(file.read_text())
    assert len(content["trials"]) == 4
    assert content["config"]["hidden"] == [8]
    assert f"lr {content['lr']:.3g}, momentum {content['momentum']:g}: {content['reason']}" in out
    assert f"train with it: fastmom train --lr {content['lr']:g} --momentum " \
           f"{content['momentum']:g} --data {digits} --hidden 8" in out
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_gives_the_best_so_far(digits: Path, tmp_path: Path) -> None:
    with start("--data", digits, *GRID, "--epochs", 9000, "--processes", 2, "--output",
               tmp_path / "map.svg", command="tune", start_new_session=True) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            if line.startswith(b"round 1 of 3"):
                os.killpg(process.pid, signal.SIGINT)       # all of them, as a terminal does
                break
        out = process.stdout.read()
        assert process.wait(60) == 130
        assert process.stderr.read() == b""
    assert out.startswith(b"interrupted: this is the best so far\nlr ")
    assert (tmp_path / "map.svg").is_file()


@pytest.mark.parametrize(("options", "message"), [
    (["--lr", "0"], "must be a finite number above 0, not '0'"),
    (["--momentum", "2"], "must be a number from 0 to 1, not '2'"),
    (["--seconds", "-1"], "must be a finite number above 0, not '-1'"),
    (["--processes", "0"], "must be an integer >= 1, not '0'"),
    (["--output", "no/a.png"], "--output: there is no directory no"),
])
def test_wrong_options(options: list[str], message: str, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*options, command="tune") == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
