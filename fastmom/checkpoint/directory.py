"""The newest whole one of a directory of numbered checkpoints."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, overload

from fastmom.checkpoint.archive import archive_of
from fastmom.checkpoint.content import Checkpoint, load
from fastmom.checkpoint.errors import DamagedError, reading

NAME = re.compile(r"checkpoint-([0-9]+)\.(?:npz|safetensors)")
Result = TypeVar("Result")


def numbered(directory: str | os.PathLike[str]) -> list[Path]:
    """Return the entries named ``checkpoint-<number>.npz`` or ``.safetensors``, by their numbers.

    Raises
    ------
    OSError
        If the directory cannot be read.
    """
    found = [(int(match[1]), match[0]) for name in os.listdir(directory)
             if (match := NAME.fullmatch(name))]
    return [Path(directory, name) for _, name in sorted(found)]


def latest(directory: str | os.PathLike[str]) -> Path | None:
    """Return the whole checkpoint with the highest number, or None if there is none.

    Checks files ``checkpoint-<number>.npz`` and ``.safetensors`` with their checksums, from the
    highest number down to the first without damage. `load_latest` also loads it, and reads it only
    once.

    Warns
    -----
    UserWarning
        For each that is passed over because it is damaged, cannot be opened or is no regular file.

    Raises
    ------
    OSError
        If the directory cannot be read.
    """
    return _first(directory, _checked)


@overload
def load_latest(directory: str | os.PathLike[str]) -> Checkpoint | None: ...
@overload
def load_latest(directory: str | os.PathLike[str],
                load: Callable[[Path], Result]) -> Result | None: ...


def load_latest(directory: str | os.PathLike[str], load: Callable[[Path], Any] = load) -> Any:
    """Load the whole checkpoint with the highest number; return None if there is none.

    Parameters
    ----------
    directory : path-like
    load : callable, optional
        Called with the path of one after the other, until it raises neither `DamagedError` nor
        OSError. By default the function of that name; ``nn.Sequential.load`` is another.

    Returns
    -------
    Checkpoint, or what `load` returned

    Warns
    -----
    UserWarning
        For each that is passed over because it is damaged, cannot be opened or is no regular file.

    Raises
    ------
    CheckpointError
        If the newest whole file is of another kind or of a later version.
    OSError
        If the directory cannot be read.
    """
    return _first(directory, load)


def _first(directory: str | os.PathLike[str], load: Callable[[Path], Result]) -> Result | None:
    tried: set[Path] = set()
    # Listed anew each time: meanwhile a training may have written a newer one and deleted these.
    while left := [path for path in numbered(directory) if path not in tried]:
        path = left[-1]
        tried.add(path)
        try:
            return load(path)
        except DamagedError as error:
            why = str(error)
        except OSError as error:
            why = f"{path} cannot be read: {error.strerror or error}"
        warnings.warn(f"passed over: {why}", UserWarning, stacklevel=3)
    return None


def _checked(path: Path) -> Path:
    with reading(path), archive_of(path) as archive:
        archive.check()
    return path
