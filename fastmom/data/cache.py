"""Where downloaded and generated data is kept, and how it is written there."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    r"""Return the directory that holds fastmom's cached data; it need not exist yet.

    It is ``FASTMOM_CACHE`` if that variable is set (empty means unset), else the platform's usual
    place: ``fastmom`` in ``XDG_CACHE_HOME`` or ``~/.cache``, on macOS ``~/Library/Caches/fastmom``,
    on Windows ``%LOCALAPPDATA%\fastmom\Cache``.

    Raises
    ------
    OSError
        If there is no home directory to put it in.

    Examples
    --------
    >>> isinstance(cache_dir(), Path)
    True
    """
    if named := os.environ.get("FASTMOM_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home() / "AppData" / "Local") / "fastmom" / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "fastmom"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(xdg) if os.path.isabs(xdg) else _home() / ".cache") / "fastmom"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise OSError("no home directory for the cache; set FASTMOM_CACHE") from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes *target* only if the block succeeds.

    The path is new and beside *target*, so that the replacement is atomic and two processes
    writing the same target do not meet. It keeps *target*'s suffix.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}-{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
