"""Files are whole or not there, keep their permissions, and killed writers leave nothing."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmom import files
from fastmom.files import TEMPORARY, naming, open_regular, replacing

posix = pytest.mark.skipif(os.name != "posix", reason="of POSIX systems")


def written(target: Path, text: str = "new", **options: Any) -> None:
    with replacing(target, **options) as temporary:
        temporary.write_text(text)


def content(directory: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in directory.iterdir()}


@pytest.mark.parametrize("sync", [False, True])
def test_a_failure_leaves_the_old_file(tmp_path: Path, sync: bool) -> None:
    target = tmp_path / "new" / "file.gz"
    written(target, "old", sync=sync)

    def fail() -> None:
        with replacing(target, sync=sync) as temporary:
            assert temporary.parent == target.parent
            assert temporary.suffix == ".gz"
            temporary.write_text("ne")
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert content(target.parent) == {"file.gz": "old"}


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o777])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    target.chmod(mode)
    with replacing(target) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600      # also while it is written
        temporary.write_text("new")
    assert content(tmp_path) == {"file": "new"}
    assert stat.S_IMODE(target.stat().st_mode) == mode


@posix
def test_a_new_file_is_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        written(tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_followed(tmp_path: Path, there: bool) -> None:
    target, link = tmp_path / "far" / "file", tmp_path / "link"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(Path("far") / "file")
    written(link)
    assert link.is_symlink()
    assert content(target.parent) == {"file": "new"}


@posix
@pytest.mark.parametrize(("make", "number"), [
    (Path.mkdir, errno.EISDIR), (os.mkfifo, errno.EINVAL),
    (lambda path: (os.mkfifo(path.parent / "pipe"), path.symlink_to("pipe")), errno.EINVAL),
    (lambda path: path.symlink_to(path.name), errno.EINVAL)],
    ids=["directory", "pipe", "link to a pipe", "loop"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, make: Callable[[Path], Any],
                                                 number: int) -> None:
    make(tmp_path / "it")
    before = os.lstat(tmp_path / "it")
    with pytest.raises(OSError, match=r"egular file|directory") as info:
        written(tmp_path / "it")
    assert info.value.errno == number
    assert os.lstat(tmp_path / "it").st_ino == before.st_ino
    assert not any(file.is_file() for file in tmp_path.iterdir())


# Errors -------------------------------------------------------------------------------------------

def test_errors_name_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither no file, nor the temporary one."""
    target = tmp_path / "file"

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"No space left on device: '.*file'") as info, \
            replacing(target):
        full()
    assert info.value.filename == str(target)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*file'"):
        written(target, sync=True)
    monkeypatch.setattr(os, "open", lambda path, *_: os.stat(path))
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(target)))):
        written(target)         # could not make the temporary file
    assert not os.listdir(tmp_path)


def test_errors_of_other_files_stay(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), naming(tmp_path / "file"):
        (tmp_path / "other").read_text()
    with pytest.raises(OSError, match=r"^no number$"), naming(tmp_path / "file"):
        raise OSError("no number")


@posix
@pytest.mark.parametrize("size", [0, 100, 10_000, 1 << 20])
def test_a_full_disk(tmp_path: Path, size: int) -> None:
    """At any byte of a checkpoint: the process may not write files beyond the size."""
    script = f"""if True:
        import numpy as np, resource, signal
        from fastmom import checkpoint
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
        try:
            checkpoint.save("a.npz", params=[np.ones(1 << 19)])
        except OSError as error:
            print(error.errno, error.filename, end="")
        """
    (tmp_path / "a.npz").write_text("old")
    assert run(script, tmp_path) == f"{errno.EFBIG} a.npz"
    assert content(tmp_path) == {"a.npz": "old"}


def run(script: str, directory: Path) -> str:
    return subprocess.run([sys.executable, "-c", script], cwd=directory, text=True, check=True,
                          stdout=subprocess.PIPE).stdout


@posix
def test_the_error_says_if_the_file_is_in_place(tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def broken(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)
    monkeypatch.setattr(os, "fsync", broken)
    number = errno.EIO
    with pytest.raises(OSError, match=r"the new file is in place, but its directory .*: '.*file'"):
        written(tmp_path / "file", sync=True)
    assert content(tmp_path) == {"file": "new"}
    number = errno.EINVAL       # of a file system that cannot
    written(tmp_path / "file", "newer", sync=True)
    assert content(tmp_path) == {"file": "newer"}


# What killed writers leave ------------------------------------------------------------------------

WRITER = """if True:
    import sys
    from fastmom.files import replacing
    with replacing("file.npz") as temporary:
        temporary.write_text("half of it")
        print("writing", flush=True)
        sys.stdin.readline()
    print("done", flush=True)
    """


def writer(directory: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", WRITER], cwd=directory, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    return child


@posix
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """At once; what another process or thread is writing stays."""
    with writer(tmp_path) as killed, writer(tmp_path) as other:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(temporaries(tmp_path)) == 2
        written(tmp_path / "another")
        assert len(temporaries(tmp_path)) == 1
        with replacing(tmp_path / "own") as own:
            written(tmp_path / "another", "newer")
            own.write_text("mine")
        assert other.communicate("go on\n")[0] == "done\n"
    assert content(tmp_path) == {"another": "newer", "own": "mine", "file.npz": "half of it"}


def temporaries(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if TEMPORARY.fullmatch(name)]


@posix
def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    others = [".fastmom", f".fastmom-{token[1:]}.npz", f"fastmom-{token}.npz",
              f".fastmom-{token}-x"]
    for name in (*others, f".fastmom-{token}", f".fastmom-{token}.tar.gz"):
        (tmp_path / name).write_text("")
    (tmp_path / f".fastmom-{token}.dir").mkdir()
    os.mkfifo(tmp_path / f".fastmom-{token}.pipe")
    (tmp_path / f".fastmom-{token}.link").symlink_to("fastmom")
    written(tmp_path / "file")
    kept = [".dir", ".pipe", ".link"]
    assert set(os.listdir(tmp_path)) == {"file", *others, *(f".fastmom-{token}{k}" for k in kept)}


@posix
def test_a_writer_is_not_fooled_by_one_that_cleans_up(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """One that found the file before it was locked."""
    lock, removed = files._lock, []

    def late(descriptor: int) -> bool:
        if not removed:
            removed.extend(temporaries(tmp_path))
            files.remove_abandoned(tmp_path)
        return lock(descriptor)
    monkeypatch.setattr(files, "_lock", late)
    written(tmp_path / "file")
    assert len(removed) == 1
    assert content(tmp_path) == {"file": "new"}


# Reading ------------------------------------------------------------------------------------------

@posix
@pytest.mark.parametrize(("make", "message"), [
    (Path.mkdir, "Is a directory"), (os.mkfifo, "Not a regular file"),
    (lambda path: path.symlink_to("/dev/zero"), "Not a regular file"),
    (lambda path: path.symlink_to("nowhere"), "No such file"),
    (lambda path: path.symlink_to(path.name), "symbolic links")],
    ids=["directory", "pipe", "device", "dangling", "loop"])
def test_opens_regular_files_only(tmp_path: Path, make: Callable[[Path], Any],
                                  message: str) -> None:
    make(tmp_path / "it")
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    with pytest.raises(OSError, match=f"{message}.*'.*it'"):
        open_regular(tmp_path / "it")
    assert not before or os.listdir("/proc/self/fd") == before


def test_opens_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1\r\n2")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"1\r\n2"
