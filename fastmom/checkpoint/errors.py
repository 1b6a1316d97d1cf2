"""The errors of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastmom import npz

# Raised by Python itself where a forged file has other types than expected
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class CheckpointError(ValueError):
    """A file is no checkpoint, is damaged or too new, or does not fit what it is loaded into."""


class DamagedError(CheckpointError):
    """A file is not whole: it was cut short, changed since it was written, or is no `.npz` file."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise DamagedError or CheckpointError for a file that cannot be loaded."""
    try:
        yield
    except npz.Damaged as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    except MALFORMED as error:
        raise CheckpointError(f"{path} cannot be loaded: {_reason(error)}") from error


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Raise CheckpointError for a file that does not fit what it is loaded into."""
    try:
        yield
    except MALFORMED as error:
        raise CheckpointError(f"{path} does not fit: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return an error's text, with its type unless the text is a sentence of ours."""
    ours = isinstance(error, (TypeError, ValueError)) and str(error)
    return str(error) if ours else f"{type(error).__name__}: {error}"
