"""Data sets to train on: MNIST, and built-in synthetic digits for when it cannot be had."""

from __future__ import annotations

from fastmom.data.dataset import Dataset, load
from fastmom.data.digits import load_digits
from fastmom.data.errors import DataError, DownloadError
from fastmom.data.mnist import load_mnist

__all__ = ["DataError", "Dataset", "DownloadError", "load", "load_digits", "load_mnist"]
