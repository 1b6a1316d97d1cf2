"""The directory for downloaded and generated data."""

from __future__ import annotations

import os
import sys
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
