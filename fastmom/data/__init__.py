"""Data sets to train on: MNIST, and built-in synthetic digits for when it cannot be had."""

from __future__ import annotations

from .dataset import Dataset, load
from .digits import load_digits
from .errors import DataError, DownloadError
from .mnist import load_mnist

__all__ = ["DataError", "Dataset", "DownloadError", "load", "load_digits", "load_mnist"]
