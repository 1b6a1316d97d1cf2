"""The errors of the data loaders."""

from __future__ import annotations


class DataError(ValueError):
    """Data files are missing, damaged or do not belong together.

    Examples
    --------
    >>> from fastmom.data import load_mnist
    >>> load_mnist("no/such/directory")
    Traceback (most recent call last):
    ...
    fastmom.data.errors.DataError: no/such/directory: not a directory
    """


class DownloadError(DataError):
    """A download was needed and could not be done."""
