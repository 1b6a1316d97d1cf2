"""`fastmom landscape`: its table, its files and what it refuses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import run, start

from fastmom.landscape import SURFACES, classics, paths

landscape = partial(run, command="landscape")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and terminals")


def rows(out: str) -> list[list[str]]:
    """The cells of the table: two of fixed width, and five more."""
    others = "figure:", "animation:", "lr in the"
    lines = [line for line in out.splitlines() if not line.startswith(others)]
    table = [[line[:12].strip(), line[13:27].strip(), *line[28:].split(maxsplit=4)]
             for line in lines]
    assert table[0] == ["surface", "method", "lr", "steps", "value", "distance", "ended"]
    return table[1:]


def test_the_table_and_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert landscape() == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("\nlr in the ravine: SGD's best lr can be too high for Nesterov\n"
                        "figure: landscape.png\n")
    table = rows(out)
    assert [row[:2] for row in table] == [
        [name, method] for name in SURFACES for method in ("SGD", "momentum 0.9", "Nesterov 0.9")]
    for row, path in zip(table, (path for surface in SURFACES.values()
                                 for path in paths(surface).values()), strict=True):
        assert float(row[2]) == pytest.approx(path.lr, rel=1e-2)
        assert int(row[3]) == path.surface.steps
        assert float(row[4]) == pytest.approx(path.values[-1], rel=1e-2)
        assert float(row[5]) == pytest.approx(path.distance(), rel=1e-2)
    ended = {(row[0], row[1]): row[6] for row in table}
    assert ended["double-well", "SGD"] == "a worse minimum, (1, 0.5)"
    assert ended["double-well", "momentum 0.9"] == "the best minimum, (-1.1, -0.55)"
    assert ended["ravine", "SGD"] == "no minimum yet"
    assert Path("landscape.png").read_bytes().startswith(b"\x89PNG")
    assert [*tmp_path.iterdir()] == [tmp_path / "landscape.png"]


# Options, and what `paths` is called with
OPTIONS: list[tuple[list[str], dict[str, Any], float]] = [
    (["--steps", "7"], {"steps": 7}, 0.9),
    (["--lr", "0.3"], {"lr": 0.3}, 0.9),
    (["--momentum", "0.5"], {}, 0.5),
    (["--momentum", "0"], {}, 0.0),
]


@pytest.mark.parametrize(("options", "given", "momentum"), OPTIONS, ids=str)
def test_options(options: list[str], given: dict[str, Any], momentum: float, tmp_path: Path,
                 capsys: pytest.CaptureFixture[str]) -> None:
    assert landscape("--surface", "beale", "--output", tmp_path / "figure.png", *options) == 0
    found = paths(SURFACES["beale"], methods=classics(momentum), **given)
    shown = rows(capsys.readouterr().out)
    assert [row[:5] for row in shown] == [
        ["beale", path.label, f"{path.lr:.3g}", str(path.steps), f"{path.values[-1]:.2e}"]
        for path in found.values()]
    for row, path in zip(shown, found.values(), strict=True):
        assert (row[6] == f"diverged at step {path.steps + 1}") == path.diverged
    assert (tmp_path / "figure.png").is_file()


def test_surfaces_come_in_the_order_given(tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert landscape("--surface", "double-well", "ravine", "--steps", 9, "--output",
                     tmp_path / "a.png") == 0
    assert [row[0] for row in rows(capsys.readouterr().out)] == 3 * ["double-well"] + 3 * ["ravine"]


# Options, and what the message holds
WRONG: list[tuple[list[str], str]] = [
    (["--surface", "beal"], "argument --surface: invalid choice: 'beal' (choose from "),
    (["--surface"], "argument --surface: expected at least one argument"),
    (["--steps", "0"], "argument --steps: must be an integer >= 1, not '0'"),
    (["--steps", "1e3"], "argument --steps: must be an integer >= 1, not '1e3'"),
    (["--lr", "-1"], "argument --lr: must be a finite number >= 0, not '-1'"),
    (["--lr", "inf"], "argument --lr: must be a finite number >= 0, not 'inf'"),
    (["--lr", "fast"], "argument --lr: must be a finite number >= 0, not 'fast'"),
    (["--momentum", "1.5"], "argument --momentum: must be a number from 0 to 1, not '1.5'"),
    (["--momentum", "nan"], "argument --momentum: must be a number from 0 to 1, not 'nan'"),
    (["--output", "a.jpg"], "argument --output: must be a file that ends in .png or .svg or .pdf, "
                            "not 'a.jpg'"),
    (["--output", "no/such/a.png"], "--output: there is no directory no/such"),
    (["--output", "folder.png"], "--output: folder.png is there and is not a file"),
    (["--animate", "a.mp4"], "argument --animate: must be a file that ends in .gif, not 'a.mp4'"),
    (["--animate", "no/such/a.gif"], "--animate: there is no directory no/such"),
    (["--anim", "a.gif"], "unrecognized arguments: --anim a.gif; did you mean --animate?"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options(options: list[str], message: str, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    assert landscape(*options) == 2
    out, err = capsys.readouterr()
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith(("fastmom landscape: error: ", "fastmom: error: "))
    assert out == ""
    assert [*tmp_path.iterdir()] == [tmp_path / "folder.png"]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert landscape("--output", tmp_path / "a.png") == 2
    out, err = capsys.readouterr()
    assert 'pip install "fastmom[plot]"' in err
    assert out == ""
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
@POSIX
def test_a_terminal_gets_a_progress_bar_and_ctrl_c_leaves_no_part(tmp_path: Path) -> None:
    import pty
    ours, theirs = pty.openpty()
    shown = b""
    handled = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with start("--surface", "beale", "--output", tmp_path / "landscape.png", "--animate",
               tmp_path / "paths.gif", command="landscape", stdout=theirs,
               preexec_fn=handled) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):      # Linux says by an error that it is closed
            while part := os.read(ours, 4096):
                if b"paths.gif:" in part and b"paths.gif:" not in shown:
                    process.send_signal(signal.SIGINT)
                shown += part
        os.close(ours)
        assert process.stderr
        assert process.stderr.read() == b"interrupted\n"
        assert process.wait(60) == 130
    assert re.search(rb"\rpaths\.gif: +\d+%\|.*\| \d+/60 \[", shown)
    assert [*tmp_path.iterdir()] == [tmp_path / "landscape.png"]


@pytest.mark.slow
def test_an_animation_in_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("fastmom.cli.landscape.FRAMES", 2)
    monkeypatch.setattr("fastmom.plot.landscape.PAUSE", 1)
    figure, gif = tmp_path / "a.pdf", tmp_path / "a.gif"
    assert landscape("--surface", "beale", "--output", figure, "--animate", gif) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith(f"\nfigure: {figure}\nanimation: {gif}\n")
    assert gif.read_bytes().startswith(b"GIF89a")
    assert {*tmp_path.iterdir()} == {figure, gif}
