"""The newest whole checkpoint is found, whatever else lies there or happens meanwhile."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_child import small, snapshot, written

import fastmom as fm
from fastmom import checkpoint, files, npz
from fastmom.checkpoint import CheckpointError

NEWEST = "checkpoint-00000012.npz"


def whole(file: Path, number: int = 1) -> Path:
    checkpoint.save(file, params=[np.ones(5000), np.ones(3)], epoch=number)
    return file


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return whole(tmp_path / "checkpoint-00000011.npz", 11)


def test_by_number(tmp_path: Path) -> None:
    """Not by name or date; others' names do not count."""
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path) is None
    names = ["checkpoint-0.npz", "checkpoint-9.npz", "checkpoint-00000010.npz"]
    for number, name in enumerate(reversed(names)):
        whole(tmp_path / name, number)
    for name in ("checkpoint-00000011-best.npz", "checkpoint-x.npz", "checkpoint-12.npz.old",
                 "checkpoint-13.npz\n", "checkpoint-\u0661\u0664.npz", "Checkpoint-15.npz",
                 "checkpoint--16.npz", "acheckpoint-17.npz"):
        (tmp_path / name).write_text("not ours")
    assert checkpoint.numbered(tmp_path) == [tmp_path / name for name in names]
    assert checkpoint.latest(tmp_path) == tmp_path / names[-1]
    found = checkpoint.load_latest(tmp_path)
    assert found is not None
    assert (found.path, found.epoch) == (tmp_path / names[-1], 0)


def flipped(file: Path, where: bytes) -> None:
    """In the header of the member that is longer than what zipfile reads at once."""
    data = bytearray(whole(file).read_bytes())
    data[data.index(where, data.index(b"params/0.npy"))] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    whole(file)
    os.truncate(file, file.stat().st_size - 1)


HINDRANCES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty", Path.touch, "is damaged: not a whole .npz file"),
    ("cut", cut, "is damaged: not a whole .npz file"),
    ("a bit of a key", lambda f: flipped(f, b"descr"), "has a malformed header"),
    ("a bit of a quote", lambda f: flipped(f, b"'fortran"), "has a malformed header"),
    ("a bit of a bracket", lambda f: flipped(f, b"(5000"), "has a malformed header"),
    ("a bit of a shape", lambda f: flipped(f, b"5000,"), "another size than its header says"),
    ("a bit of the numbers", lambda f: flipped(f, b"\xf0\x3f"), "Bad CRC-32"),
    ("a directory", Path.mkdir, "cannot be read: Is a directory"),
    ("a dangling link", lambda f: f.symlink_to("nowhere"), "cannot be read: No such file"),
    ("a loop", lambda f: f.symlink_to(f.name), "cannot be read: Too many levels"),
    ("a pipe", lambda f: os.mkfifo(f), "cannot be read: Not a regular file"),
    ("a device", lambda f: f.symlink_to("/dev/zero"), "cannot be read: Not a regular file"),
]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX systems")
@pytest.mark.parametrize(("make", "reason"), [r[1:] for r in HINDRANCES],
                         ids=[r[0] for r in HINDRANCES])
def test_what_cannot_be_read_is_passed_over(make: Callable[[Path], Any], reason: str,
                                            older: Path) -> None:
    make(older.with_name(NEWEST))
    with pytest.warns(UserWarning, match="passed over") as told:
        assert checkpoint.latest(older.parent) == older
    with pytest.warns(UserWarning, match="passed over") as told_too:
        found = checkpoint.load_latest(older.parent)
    assert found is not None
    assert found.path == older
    for warning in (*told, *told_too):
        assert f"passed over: {older.with_name(NEWEST)} " in str(warning.message)
        assert reason in str(warning.message)
        assert warning.filename == __file__


def test_what_may_not_be_read_is_passed_over(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be allowed to read anything."""
    whole(older.with_name(NEWEST))
    open_it = os.open

    def forbid(path: Any, *arguments: Any) -> int:
        if str(path).endswith(NEWEST):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_it(path, *arguments)
    monkeypatch.setattr(os, "open", forbid)
    with pytest.warns(UserWarning, match=f"{NEWEST} cannot be read: Permission denied"):
        assert checkpoint.latest(older.parent) == older


def test_a_training_that_writes_and_deletes_meanwhile(older: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was listed is gone; what has been written since is found."""
    directory, first = older.parent, files.open_regular

    def raced(path: Any) -> Any:
        monkeypatch.setattr(npz, "open_regular", first)
        whole(directory / NEWEST)
        older.unlink()
        return first(path)
    monkeypatch.setattr(npz, "open_regular", raced)
    with pytest.warns(UserWarning, match=f"{older.name} cannot be read: No such file"):
        assert checkpoint.latest(directory) == directory / NEWEST


@pytest.mark.parametrize("change", [{"format": 2}, {"epoch": "x"}])
def test_a_whole_file_that_is_wrong_is_not_passed_over(change: dict[str, Any],
                                                       older: Path) -> None:
    """Or the training would silently go back."""
    newest = whole(older.with_name(NEWEST))
    arrays = npz.members(newest)
    text = arrays["checkpoint"].tobytes().decode()
    for key, value in change.items():
        text = text.replace(f'"{key}": 1', f'"{key}": {value!r}'.replace("'", '"'))
    npz.write(newest, {**arrays, "checkpoint": np.frombuffer(text.encode(), np.uint8)})
    with pytest.raises(CheckpointError, match=NEWEST):
        checkpoint.load_latest(older.parent)


def test_each_file_is_read_once(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(older.with_name(NEWEST))
    read, once = [], files.open_regular

    def counted(path: Any) -> Any:
        read.append(Path(path).name)
        return once(path)
    monkeypatch.setattr(npz, "open_regular", counted)
    with pytest.warns(UserWarning, match=NEWEST):
        assert checkpoint.load_latest(older.parent) is not None
    assert read == [NEWEST, older.name]


def test_the_caller_may_load(older: Path) -> None:
    seen = []

    def load(path: Path) -> str:
        seen.append(path.name)
        with checkpoint.opened(path) as saved:
            return f"epoch {saved.epoch}"
    cut(older.with_name(NEWEST))
    with pytest.warns(UserWarning, match=NEWEST):
        assert checkpoint.load_latest(older.parent, load) == "epoch 11"
    assert seen == [NEWEST, older.name]


def test_the_newest_whole_model(tmp_path: Path) -> None:
    model = fm.nn.Sequential([fm.nn.Dense(50, input_shape=(40,))], seed=1)
    for name in ("checkpoint-1.npz", "checkpoint-2.npz"):
        model.save(tmp_path / name)
    data = bytearray((tmp_path / "checkpoint-2.npz").read_bytes())
    data[data.index(b"params/0.npy") + 3000] ^= 1       # one of the weights
    (tmp_path / "checkpoint-2.npz").write_bytes(data)
    with pytest.warns(UserWarning, match="checkpoint-2.npz is damaged: .*Bad CRC-32"):
        loaded = checkpoint.load_latest(tmp_path, fm.nn.Sequential.load)
    assert loaded is not None
    for own, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_apply_after_the_directory_is_gone(tmp_path: Path) -> None:
    written(tmp_path / NEWEST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checkpoint.load_latest(tmp_path)
    assert found is not None
    (tmp_path / NEWEST).unlink()
    applied, loaded = small(), small()
    found.apply(**applied)
    written(tmp_path / NEWEST)
    checkpoint.load(tmp_path / NEWEST, **loaded)
    assert snapshot(applied) == snapshot(loaded) != snapshot(small())
