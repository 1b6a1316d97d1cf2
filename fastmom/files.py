"""Write files whole or not at all; open files to read without being caught by a pipe."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

if sys.platform != "win32":
    import fcntl

TEMPORARY = re.compile(r"\.fastmom-[0-9a-f]{16}(\..*)?", re.DOTALL)
STALE = 3600.0      # seconds, where no lock tells that a temporary file's writer is gone


@contextmanager
def replacing(target: str | os.PathLike[str], *, sync: bool = False) -> Iterator[Path]:
    """Give an empty file to write to, which becomes `target` only if the block succeeds.

    A symbolic link is followed: the file that it points to is replaced. A file that is there keeps
    its permissions, and its other hard links keep the old content. Temporary files that killed
    writers have left in the directory are removed.

    Parameters
    ----------
    target : path-like
        Its directory is made if need be.
    sync : bool, default False
        Force the file to the disk before it replaces `target`, and its directory after.

    Yields
    ------
    Path
        A file beside `target`, with its suffix: open it for writing. It is locked while the block
        runs, which tells other writers that its owner lives.

    Raises
    ------
    OSError
        If the file cannot be written, or `target` is no regular file; names `target`. What was
        there is whole, unless the error says that the new file is in place.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with replacing(target) as temporary:
    ...     characters = temporary.write_text("all of it")
    >>> target.read_text()
    'all of it'
    """
    with naming(target):
        final = Path(os.path.realpath(target))
        mode = _mode(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(final.parent)
        temporary, descriptor = _create(final, 0o666 if mode is None else 0o600)
        try:
            yield temporary
            if mode is not None:
                os.chmod(temporary, mode)
            if sync:
                os.fsync(descriptor)
            if sys.platform == "win32":     # which does not rename open files
                descriptor = os.close(descriptor)
            os.replace(temporary, final)
        finally:
            if descriptor is not None:
                os.close(descriptor)
            temporary.unlink(missing_ok=True)
        if sync and os.name == "posix":     # where a directory can be forced to the disk too
            _sync_directory(final.parent)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an OSError of the block name `path` if it names no file, as on a full disk.

    Or a temporary file, which nobody knows.
    """
    try:
        yield
    except OSError as error:
        named = os.path.basename(os.fsdecode(error.filename or ""))
        if error.errno is None or (named and not TEMPORARY.fullmatch(named)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file to read its bytes.

    Raises
    ------
    OSError
        If it cannot be opened, or is a directory, a pipe or a device. A pipe without a writer does
        not block.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        _check_regular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def remove_abandoned(directory: Path) -> None:
    """Remove the temporary files in a directory whose writers are gone."""
    with suppress(OSError):
        for name in os.listdir(directory):
            if TEMPORARY.fullmatch(name):
                with suppress(OSError):     # gone already, in use, or not ours to remove
                    _remove_unless_locked(directory / name)


# Parts --------------------------------------------------------------------------------------------

def _mode(path: Path) -> int | None:
    """Return the permissions of a regular file, None if there is none; raise for all else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    _check_regular(mode, path)
    return stat.S_IMODE(mode)


def _check_regular(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))


def _create(final: Path, mode: int) -> tuple[Path, int]:
    """Make a new file beside `final` and lock it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        temporary = final.with_name(f".fastmom-{secrets.token_hex(8)}{final.suffix}")
        descriptor = os.open(temporary, flags, mode)
        # Another writer may have taken it for abandoned before it was locked
        if _lock(descriptor) and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Return False if another process has locked it; True also where files cannot be locked."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def _remove_unless_locked(path: Path) -> None:
    """Remove a temporary file; raise OSError if its writer holds the lock, or could."""
    if sys.platform == "win32":
        if time.time() - path.stat().st_mtime > STALE:
            path.unlink()
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            path.unlink()
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:     # of file systems that cannot
            raise OSError(error.errno, f"the new file is in place, but its directory could not be "
                          f"forced to the disk ({error.strerror})") from error
