"""`fastmom train` as a program: in a pipe, on a terminal, interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
from commands import metrics_of, start, train

import fastmom as fm
from fastmom import cli

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, pipes and terminals")

LINE = r"epoch {}/3  loss \d+\.\d{{4}}  accuracy [01]\.\d{{4}}  test loss \d+\.\d{{4}}  " \
       r"test accuracy [01]\.\d{{4}}  \d+\.\d\d s"


def test_output_in_a_pipe_is_plain_lines(digits: Path) -> None:
    with start("--data", digits, "--epochs", 3) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    lines = out.decode("ascii").split(os.linesep)
    assert all(line.isprintable() for line in lines)
    assert lines[0] == f"IDX files from {digits}"
    assert lines[1] == ("300 training + 100 test samples, layers 784-128-10, 101,770 parameters")
    assert re.fullmatch(r"SGD\(lr=0.01, momentum=0.9, .*\), batch 32, \d+ threads?", lines[2])
    for i, line in enumerate(lines[3:6]):
        assert re.fullmatch(LINE.format(i + 1), line)
    assert re.fullmatch(r"test accuracy \d+\.\d\d% after epoch 3", lines[6])
    assert lines[7:] == [""]


def test_the_program_gives_the_same_metrics(digits: Path, tmp_path: Path) -> None:
    expected = train(digits, "--hidden", 128)   # enough parameters for two threads
    for threads in (1, 2):
        file = tmp_path / f"{threads}.json"
        with start("--data", digits, "--hidden", 128, "--epochs", 2, "--threads", threads,
                   "--json", file) as process:
            process.communicate(timeout=60)
        assert process.returncode == 0
        assert metrics_of(json.loads(file.read_text())) == metrics_of(expected)


@POSIX
def test_a_terminal_gets_a_progress_bar(digits: Path) -> None:
    import pty
    ours, theirs = pty.openpty()
    shown = b""
    with start("--data", digits, "--epochs", 3, stdout=theirs) as process:
        os.close(theirs)
        # Linux says by an error that the other end is closed
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert process.wait(60) == 0
    text = shown.decode()
    assert re.search(r"\repoch 1/3  0/10 \| +\|", text)
    kept = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    for i in range(3):
        assert re.fullmatch(LINE.format(i + 1), kept[3 + i])


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_keep_the_finished_epochs(number: int, digits: Path, tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    # a job in the background of a shell has SIGINT ignored, and hands that on
    handled = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with start("--data", digits, "--epochs", 10 ** 6, "--json", file,
               preexec_fn=handled) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(6)]
        assert lines[5].startswith(b"epoch       3/")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    said = re.search(rb"interrupted after (\d+) of 1000000 epochs\ntest accuracy .*\n$", out)
    assert said
    content = json.loads(file.read_text())
    assert len(content["epochs"]) == int(said[1]) >= 3
    assert metrics_of(content)[0].keys() == {"loss", "accuracy", "test_loss", "test_accuracy"}
    assert [*tmp_path.iterdir()] == [file]


def test_ctrl_c_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(source: str) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(fm.data, "load", interrupted)
    assert cli.main(["train", "--json", str(tmp_path / "metrics.json")]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    assert [*tmp_path.iterdir()] == []


@POSIX
@pytest.mark.parametrize("epochs", [1, 10 ** 6])
def test_a_closed_pipe_ends_it_quietly(digits: Path, epochs: int) -> None:
    reading, writing = os.pipe()
    if epochs == 1:
        os.close(reading)       # closed from the start
    with start("--data", digits, "--epochs", epochs, stdout=writing) as process:
        os.close(writing)
        if epochs > 1:
            assert os.read(reading, 1)
            os.close(reading)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


@POSIX
def test_ctrl_c_while_the_package_is_imported(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    handled = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
            [sys.executable, "-m", "fastmom", "info"], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, preexec_fn=handled,
            env={**os.environ, "PYTHONPATH": str(tmp_path)}) as process:
        assert process.stdout
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"interrupted\n")


@pytest.mark.parametrize(("numpy", "message"), [
    ("", "FASTMOM_ISA: instruction set 'foo' cannot be used on this machine "),
    ("raise ImportError('no numpy\\nfor you')", "no numpy for you")])
def test_a_package_that_cannot_be_loaded_is_one_line(numpy: str, message: str,
                                                     tmp_path: Path) -> None:
    if numpy:
        (tmp_path / "numpy.py").write_text(numpy)
    done = subprocess.run(
        [sys.executable, "-m", "fastmom", "info"], capture_output=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "FASTMOM_ISA": "foo"})
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(f"fastmom: error: {message}".encode())
    assert done.stderr.count(b"\n") == 1


def test_the_program_is_the_one_that_catches_this() -> None:
    program, = (entry for entry in metadata.entry_points(group="console_scripts")
                if entry.name == "fastmom")
    assert program.value == "fastmom.__main__:main"


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: fastmom [-h]" in err
    assert "train a small network on handwritten digits" in err


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_import_no_extras(option: str) -> None:
    code = ("import sys; from fastmom.cli import main\n"
            f"try: main([{option!r}])\n"
            "except SystemExit: sys.exit(bool({'matplotlib', 'tqdm'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("argv", "shown"), [
    (["--version"], f"fastmom {fm.__version__}\n"), (["train", "--help"], "usage: fastmom train")])
def test_help_and_version(argv: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(shown)
