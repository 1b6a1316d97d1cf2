"""`fastmom train` refuses bad options and data by name, and then leaves all files as they are."""

from __future__ import annotations

import gzip
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import run, write

from fastmom.data.idx import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

# Options, and what the message holds
WRONG: list[tuple[list[str], str]] = [
    (["--momentum", "1.5"], "--momentum: must be a number from 0 to 1, not 1.5"),
    (["--momentum", "nan"], "--momentum: must be a number from 0 to 1, not nan"),
    (["--lr", "-1"], "--lr: must be a finite number >= 0, not -1.0"),
    (["--lr", "inf"], "--lr: must be a finite number >= 0, not inf"),
    (["--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
    (["--decay", "-1"], "--decay: must be a finite number >= 0, not -1.0"),
    (["--weight-decay", "-1"], "--weight-decay: must be a finite number >= 0, not -1.0"),
    (["--optimizer", "adma"], "not 'adma'; did you mean adam?"),
    (["--optimizer", "adam", "--momentum", "0.9"],
     "--momentum: Adam has no momentum; its options are --lr, --weight-decay"),
    (["--optimizer", "adam", "--no-nesterov"], "--no-nesterov: Adam has no nesterov; its options"),
    (["--epochs", "0"], "argument --epochs: must be an integer >= 1, not '0'"),
    (["--epochs", "1.5"], "argument --epochs: must be an integer >= 1, not '1.5'"),
    (["--batch-size", "0"], "argument --batch-size: must be an integer >= 1, not '0'"),
    (["--hidden", "0"], "argument --hidden: must be an integer >= 1, not '0'"),
    (["--hidden", "16", "-2"], "argument --hidden: must be an integer >= 1, not '-2'"),
    (["--hidden", "64,-2"], "argument --hidden: must be an integer >= 1, not '-2'"),
    (["--hidden", "64,"], "argument --hidden: must be an integer >= 1, not ''"),
    (["--hidden"], "argument --hidden: expected at least one argument"),
    (["--hidden", f"{10 ** 12}"], "Unable to allocate"),
    (["--dropout", "1"], "argument --dropout: must be a number from 0 to below 1, not '1'"),
    (["--dropout", "nan"], "argument --dropout: must be a number from 0 to below 1, not 'nan'"),
    (["--threads", "0"], "argument --threads: must be an integer >= 1, not '0'"),
    (["--seed", "-1"], "argument --seed: must be an integer >= 0, not '-1'"),
    (["--data", "minst"], "--data minst: source is 'minst', must be 'auto', 'mnist', 'digits' or"),
    (["--data", "mnist"], "--data mnist: MNIST could not be downloaded (http://127.0.0.1:9/:"),
    (["--data", "mnist"], "; set FASTMOM_DATA to a directory with its files, or give --data DIR or "
                          "--data digits"),
    (["--learning-rate", "1"], "unrecognized arguments: --learning-rate 1; did you mean --lr?"),
    (["--learning_rate=1"], "unrecognized arguments: --learning_rate=1; did you mean --lr?"),
    (["--batchsize", "1"], "unrecognized arguments: --batchsize 1; did you mean --batch-size?"),
    (["--xyzzy"], "unrecognized arguments: --xyzzy; fastmom train --help lists the options"),
    (["digits"], "unrecognized arguments: digits; fastmom train --help lists the options"),
    (["--moment", "0.5"], "unrecognized arguments: --moment 0.5; did you mean --momentum?"),
    (["--json", "no/such/metrics.json"], "--json: there is no directory no/such"),
    (["--json", "."], "--json: . is there and is not a file"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options(digits: Path, tmp_path: Path, options: list[str], message: str,
                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "metrics.json"
    file.write_text("before")
    assert run("--data", digits, "--json", file, *options) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("fastmom train: error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert file.read_text() == "before"
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that is not a regular one")
def test_a_device_is_not_replaced_by_a_file(digits: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert run("--data", digits, "--epochs", 1, "--json", pipe) == 2
    assert f"--json: {pipe} is there and is not a file" in capsys.readouterr().err
    assert pipe.is_fifo()


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        file = directory / f"{name}.gz"
        file.write_bytes(gzip.compress(change(gzip.decompress(file.read_bytes()))))
    return apply


def cut(directory: Path) -> None:
    file = directory / f"{TRAIN_IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:-100])


# How the files are broken, the file that the message names, and what it says
BROKEN: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "truncated gzip": (cut, TRAIN_IMAGES, "damaged or truncated gzip file"),
    "truncated": (rewrite(TRAIN_LABELS, lambda b: b[:-1]), TRAIN_LABELS, "but only 299 follow"),
    "too long": (rewrite(TEST_LABELS, lambda b: b + b"\0"), TEST_LABELS, "but more follow"),
    "mis-labelled": (rewrite(TRAIN_LABELS, lambda b: b[:-1] + b"\x0a"), TRAIN_LABELS,
                     "has the label 10"),
    "wrong magic": (rewrite(TEST_IMAGES, lambda b: b"\1" + b[1:]), TEST_IMAGES,
                    "not an IDX file"),
    "wrong type": (rewrite(TEST_IMAGES, lambda b: b[:2] + b"\x0d" + b[3:]), TEST_IMAGES,
                   "elements are float32"),
    "wrong count": (rewrite(TEST_LABELS, lambda b: b[:4] + struct.pack(">I", 99) + b[8:-1]),
                    TEST_LABELS, "99 labels"),
    "not gzip": (lambda d: (d / f"{TEST_LABELS}.gz").write_bytes(b"hello"), TEST_LABELS,
                 "not a gzip file"),
    "missing": (lambda d: (d / f"{TEST_LABELS}.gz").unlink(), TEST_LABELS, "has neither"),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("by_variable", [False, True])
def test_broken_data(how: str, by_variable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str]) -> None:
    damage, name, message = BROKEN[how]
    directory, file = write(tmp_path / "data"), tmp_path / "metrics.json"
    damage(directory)
    if by_variable:
        monkeypatch.setenv("FASTMOM_DATA", str(directory))
    assert run("--data", "auto" if by_variable else directory, "--json", file) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastmom train: error: --data ")
    assert err.count("\n") == 1
    assert name in err
    assert message in err
    assert not file.exists()


def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMOM_DEBUG", "1")
    with pytest.raises(ValueError, match="--lr: must be"):
        run("--lr", "-1")


def test_without_threadpoolctl(digits: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert run("--data", digits) == 2
    assert 'pip install "fastmom[cli]"' in capsys.readouterr().err
