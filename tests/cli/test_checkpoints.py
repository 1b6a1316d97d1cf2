"""`fastmom train --checkpoint`: which files are taken, refused and deleted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run

from fastmom import checkpoint, nn, npz
from fastmom.cli.resume import Checkpoints

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs pipes and links")

@pytest.mark.parametrize(("options", "kept"), [([], [3, 4, 5]), (["--keep", 1], [5]),
                                               (["--keep", 9], [1, 2, 3, 4, 5])])
def test_keep(options: list[object], kept: list[int], digits: Path, tmp_path: Path) -> None:
    assert run("--data", digits, "--hidden", 8, "--checkpoint", tmp_path, *options) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"checkpoint-{n:08d}.npz" for n in kept]
    assert run("--checkpoint", tmp_path, "--resume", "--epochs", 6, "--keep", 2) == 0
    assert len([*tmp_path.iterdir()]) == 2      # also of those that were there


def test_only_files_of_this_training_are_deleted(digits: Path, tmp_path: Path) -> None:
    assert run("--data", digits, "--hidden", 8, "--epochs", 3, "--checkpoint", tmp_path) == 0
    own = [tmp_path / name for name in ("checkpoint-00000001-best.npz", "checkpoint-1.npz",
                                        "checkpoint-00000002.npz")]     # the last one replaced
    for path in own:
        path.write_bytes(b"the user's")
    assert run("--checkpoint", tmp_path, "--resume", "--epochs", 6, "--keep", 2) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *(path.name for path in own), "checkpoint-00000005.npz", "checkpoint-00000006.npz"}
    assert all(path.read_bytes() == b"the user's" for path in own)


def flip(path: Path) -> None:
    """Write a copy of the newest checkpoint with another bit in the header of an array."""
    content = bytearray((path.parent / "checkpoint-00000002.npz").read_bytes())
    content[content.index(b"NUMPY", len(content) // 2) + 12] ^= 1
    path.write_bytes(content)


PASSED_OVER: dict[str, Callable[[Path], object]] = {
    "flipped": flip, "empty": Path.touch, "directory": Path.mkdir, "pipe": os.mkfifo,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name)}


@POSIX
@pytest.mark.filterwarnings("default:passed over")
@pytest.mark.parametrize("kind", PASSED_OVER)
def test_the_next_older_one_is_taken(kind: str, adam: Path, tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "saved"
    shutil.copytree(adam, directory)
    newest = directory / "checkpoint-00000009.npz"
    PASSED_OVER[kind](newest)
    assert run("--checkpoint", directory, "--resume", "--epochs", 3) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"fastmom train: warning: passed over: {newest} ")
    assert err.count("\n") == 1
    assert "\nepoch 3/3 " in out
    assert (directory / "checkpoint-00000003.npz").exists()
    assert os.path.lexists(newest)


def test_checkpoints_of_version_0_1(adam: Path, tmp_path: Path,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential.load(adam / "checkpoint-00000002.npz")
    path = tmp_path / "checkpoint-00000002.npz"
    for extra, reason in (
            ({"config": {}, "seal": 0}, "it is no checkpoint of fastmom train, or one of version "
                                        "0.1"),
            ({"train": 9}, "its training has the format 9, and this fastmom reads 2")):
        model.save(path, extra)
        assert run("--checkpoint", tmp_path, "--resume") == 2
        assert capsys.readouterr().err == f"fastmom train: error: --resume: {path}: {reason}\n"


def test_a_checkpoint_is_read_once(adam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, read = list[Path](), list[str]()

    def open_(archive: Any, path: Path, original: Any = npz.Archive.__init__) -> None:
        opened.append(path)
        original(archive, path)

    def read_(archive: Any, name: str, *out: Any, original: Any = npz.Archive.read,
              **more: Any) -> Any:
        read.append(name)
        return original(archive, name, *out, **more)
    monkeypatch.setattr(npz.Archive, "__init__", open_)
    monkeypatch.setattr(npz.Archive, "read", read_)
    assert run("--checkpoint", adam, "--resume") == 0
    assert opened == [adam / "checkpoint-00000002.npz"]
    assert len(read) == len(set(read)) > 10


def foreign(directory: Path) -> None:
    nn.Sequential([nn.Dense(2, input_shape=(2,))]).save(directory / "checkpoint-00000001.npz")


def no_model(directory: Path) -> None:
    checkpoint.save(directory / "checkpoint-00000001.npz", params=[np.zeros(2)])


# What is in the directory, the options, and what the message holds
REFUSED: list[tuple[Any, list[object], str]] = [
    (None, ["--resume"], "--resume: there is no whole checkpoint in "),
    (foreign, ["--resume"], "checkpoint-00000001.npz: it is no checkpoint of fastmom train"),
    (no_model, ["--resume"], "checkpoint-00000001.npz: it is no checkpoint of fastmom train"),
    (foreign, [], "checkpoint-00000001.npz is there already; go on from it with --resume, or name "
                  "another directory"),
]


@pytest.mark.parametrize(("prepare", "options", "message"), REFUSED)
def test_refused(prepare: Any, options: list[object], message: str, digits: Path, tmp_path: Path,
                 capsys: pytest.CaptureFixture[str]) -> None:
    if prepare:
        prepare(tmp_path)
    before = [*tmp_path.iterdir()]
    assert run("--data", digits, "--checkpoint", tmp_path, *options) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert [*tmp_path.iterdir()] == before


def test_two_trainings_in_one_directory(digits: Path, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    def begin(checkpoints: Checkpoints, logs: object = None) -> None:
        (tmp_path / "checkpoint-00000001.npz").write_bytes(b"of the other")
    monkeypatch.setattr(Checkpoints, "on_train_begin", begin)
    assert run("--data", digits, "--checkpoint", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"fastmom train: error: --checkpoint: another training writes to {tmp_path}: "
        f"checkpoint-00000001.npz is not of this one\n")
    assert (tmp_path / "checkpoint-00000001.npz").read_bytes() == b"of the other"


def test_a_checkpoint_that_cannot_be_written(digits: Path, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("fastmom.npz.write", full)
    assert run("--data", digits, "--checkpoint", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"fastmom train: error: --checkpoint: {tmp_path / 'checkpoint-00000001.npz'} cannot be "
        f"written: No space left on device\n")
