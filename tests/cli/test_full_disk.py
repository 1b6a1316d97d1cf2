"""A disk that is full: the message names option and file, and no half of a file is left."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import start

resource: Any = pytest.importorskip("resource", reason="needs a limit of file sizes")

LIMIT = 200     # bytes: stands for a full disk, and pipes have none


def limited(*args: object, command: str, **kwargs: Any) -> tuple[int, str, str]:
    """Run a command that cannot write larger files; return its status and what it printed."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    with start(*args, command=command, preexec_fn=limit, **kwargs) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


TRAIN = ["train", "--hidden", "8", "--epochs", "3"]
COMPARE = ["compare", "--hidden", "8", "--epochs", "1", "--seeds", "1", "--momentum", "0"]
LANDSCAPE = ["landscape", "--surface", "beale", "--steps", "5"]

# Command, option and file that is too large, and the options with files that are not written
REFUSED: list[tuple[list[str], str, str]] = [
    ([*TRAIN, "--json", "a.json"], "--json", "a.json"),
    ([*TRAIN, "--plot", "a.svg"], "--plot", "a.svg"),
    ([*TRAIN, "--checkpoint", "saved"], "--checkpoint", "saved/checkpoint-00000001.npz"),
    ([*COMPARE, "--output", "a.png"], "--output", "a.png"),
    ([*LANDSCAPE, "--output", "a.pdf"], "--output", "a.pdf"),
]


@pytest.mark.parametrize(("words", "option", "file"), REFUSED, ids=lambda row: str(row))
def test_files_that_are_written_whole(words: list[str], option: str, file: str, digits: Path,
                                      tmp_path: Path) -> None:
    command, *options = words
    data = [] if command == "landscape" else ["--data", digits]
    (tmp_path / "a.json").write_text("before")
    status, _, err = limited(*data, *options, command=command, cwd=tmp_path)
    assert (status, err) == (2, f"fastmom {command}: error: {option}: {file} cannot be written: "
                                f"File too large\n")
    assert (tmp_path / "a.json").read_text() == "before"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "a.json"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_log_that_cannot_be_written_does_not_end_the_training(ending: str, digits: Path,
                                                                tmp_path: Path) -> None:
    log = tmp_path / f"a.{ending}"
    status, out, err = limited("--data", digits, "--hidden", 8, "--epochs", 5, "--log", log,
                               command="train")
    assert (status, err) == (0, f"fastmom train: warning: --log: {log} cannot be written: File too "
                                f"large; the training goes on without it\n")
    assert "\nepoch 5/5 " in out
    lines = log.read_bytes().splitlines(keepends=True)
    assert 1 <= len(lines) < 5
    assert all(line.endswith(b"\n") for line in lines)      # no half of a line is left
    if ending == "jsonl":
        assert [json.loads(line)["epoch"] for line in lines] == list(range(len(lines)))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written(digits: Path) -> None:
    with open("/dev/full", "w") as full, start("--data", digits, "--hidden", 8, "--epochs", 1,
                                               stdout=full) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == b"fastmom train: error: [Errno 28] No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a descriptor that is closed")
def test_no_output_at_all(digits: Path) -> None:
    with start("--data", digits, "--hidden", 8, "--epochs", 1, stdout=None,
               preexec_fn=partial(os.close, 1)) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
