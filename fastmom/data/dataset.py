"""Load a data set by name: MNIST, the synthetic digits or a directory."""

from __future__ import annotations

import os
from typing import NamedTuple

from fastmom.data.digits import load_digits
from fastmom.data.errors import DataError, DownloadError
from fastmom.data.idx import Bytes, Split, load_idx_directory
from fastmom.data.mnist import find_mnist


class Dataset(NamedTuple):
    """Images and labels for training and for testing, with their name and origin.

    Attributes
    ----------
    x_train, x_test : numpy.ndarray
        Images, uint8 (n, rows, columns), 0 is the background.
    y_train, y_test : numpy.ndarray
        Their labels, uint8 (n,), from 0 to 9.
    name : str
        ``"mnist"``, ``"digits"`` or the directory.
    reason : str
        Where the data came from, and for ``"auto"`` why, on one line.
    """

    x_train: Bytes
    y_train: Bytes
    x_test: Bytes
    y_test: Bytes
    name: str
    reason: str

    def __repr__(self) -> str:
        n, *shape = self.x_train.shape
        return (f"<Dataset {self.name!r}: {n:,} training and {len(self.x_test):,} test images of "
                f"{' x '.join(map(str, shape))}; {self.reason}>")


def load(source: str | os.PathLike[str] = "auto") -> Dataset:
    """Load the data set that *source* names, and say where it came from.

    Parameters
    ----------
    source : str or path-like, default "auto"
        - ``"mnist"``: MNIST, as `load_mnist` finds it; if it does not, that is an error.
        - ``"digits"``: the built-in synthetic digits of `load_digits`.
        - ``"auto"``: MNIST, or the synthetic digits if it cannot be downloaded. Broken files in
          the directory that ``FASTMOM_DATA`` names are an error here too.
        - anything else: a directory of four IDX files in MNIST's layout (a directory that has
          one of the three names is ``"./mnist"``).

    Returns
    -------
    Dataset
        The arrays, with `name` and `reason`.

    Raises
    ------
    DataError
        If the data is missing or damaged, or *source* is none of these.
    DownloadError
        If ``"mnist"`` needs a download and that fails.

    Examples
    --------
    >>> data = load("digits")
    >>> data.x_train.shape, data.reason
    ((60000, 28, 28), 'the built-in synthetic digits')
    """
    if source == "digits":
        return _dataset(load_digits(), "digits", "the built-in synthetic digits")
    if source == "mnist":
        split, reason = find_mnist()
        return _dataset(split, "mnist", reason)
    if source == "auto":
        return _mnist_or_digits()
    where = os.fspath(source)
    if not os.path.isdir(where):
        raise DataError(
            f"source is {where!r}, must be 'auto', 'mnist', 'digits' or an existing directory"
        )
    return _dataset(load_idx_directory(where), where, f"IDX files from {where}")


def _mnist_or_digits() -> Dataset:
    try:
        split, reason = find_mnist()
    except DownloadError as error:
        return _dataset(load_digits(), "digits", f"{error}; using the built-in synthetic digits")
    return _dataset(split, "mnist", reason)


def _dataset(split: Split, name: str, reason: str) -> Dataset:
    return Dataset(*split[0], *split[1], name, reason)
