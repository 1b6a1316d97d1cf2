"""What the commands share: exit statuses, and checks of what their options are given."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

OK, FAILED, INTERRUPTED, BROKEN_PIPE = 0, 2, 130, 141


def number(read: Callable[[str], Any], allowed: Callable[[Any], bool],
           words: str) -> Callable[[str], Any]:
    """An argparse type that says what is allowed."""
    def convert(text: str) -> Any:
        try:
            value = read(text)
        except ValueError:
            value = math.nan
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"must be {words}, not {text!r}")
        return value
    return convert


def file(*suffixes: str) -> Any:
    """An argparse type: a path with one of these endings."""
    return number(Path, lambda path: path.suffix.lower() in suffixes,
                  f"a file that ends in {' or '.join(suffixes)}")


POSITIVE = number(int, lambda n: n >= 1, "an integer >= 1")


def check_target(option: str, path: Path) -> None:
    """Raise early what would keep the file from being written in the end."""
    if not path.parent.is_dir():
        raise ValueError(f"{option}: there is no directory {path.parent}")
    if path.exists() and not path.is_file():    # replacing a device would destroy it
        raise ValueError(f"{option}: {path} is there and is not a file")
    if cannot_write(path.parent):
        raise ValueError(f"{option}: the directory {path.parent} cannot be written to")


def cannot_write(directory: Path) -> bool:
    return not os.access(directory, os.W_OK | os.X_OK)
