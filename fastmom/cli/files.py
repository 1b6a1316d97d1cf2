"""Files that the commands write: checked before the work, written whole, errors name the option."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastmom.files import replacing


def check_target(option: str, path: Path) -> None:
    """Raise early what would keep the file from being written in the end."""
    if not path.parent.is_dir():
        raise ValueError(f"{option}: there is no directory {path.parent}")
    if path.exists() and not path.is_file():    # replacing a device would destroy it
        raise ValueError(f"{option}: {path} is there and is not a file")
    if cannot_write(path.parent):
        raise ValueError(f"{option}: the directory {path.parent} cannot be written to")


def check_targets(targets: Mapping[str, Path | None]) -> None:
    """Raise early what would keep the files of these options from being written, each its own."""
    seen: dict[Path, str] = {}
    for option, path in targets.items():
        if path is None:
            continue
        check_target(option, path)
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise ValueError(f"{option}: {path} is the file of {other}")


def check_directory(option: str, directory: Path) -> None:
    """Raise early what would keep files from being written to a directory that may be new."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{option}: {directory} is there and is not a directory")
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if cannot_write(there):
        raise ValueError(f"{option}: the directory {there} cannot be written to")


def cannot_write(directory: Path) -> bool:
    return not os.access(directory, os.W_OK | os.X_OK)


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Let an OSError of the block name the option and its file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(cannot_be_written(option, path, error)) from error


def cannot_be_written(option: str, path: Path, error: OSError) -> str:
    """Return the message."""
    return f"{option}: {path} cannot be written: {error.strerror or error}"


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replace what JSON cannot hold by None."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file of ``--json``, whole or not at all."""
    with writing("--json", path), replacing(path, sync=True) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
