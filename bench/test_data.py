"""Reading IDX files, against what is least to do in NumPy, and drawing digits."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.conftest import rows
from fastmom.data import load_digits
from fastmom.data.idx import FILES, load_idx_directory, read_idx

OURS, NUMPY = "fastmom", "NumPy"
READING = [(f"read {n:,} images, {kind}", [OURS, NUMPY], n > 10_000)
           for n in (10_000, 60_000) for kind in ("plain", "gzip")]
DRAWING = [(f"draw {n:,} digits", [OURS], n > 1000) for n in (1000, 10_000)]


def number(case: str) -> int:
    return int(case.split()[1].replace(",", ""))


@pytest.fixture
def images(case: str, digits: tuple[Any, Any]) -> Any:
    return np.resize(digits[0], (number(case), 28, 28))


def idx(array: Any) -> bytes:
    header = np.array([0x0800 + array.ndim, *array.shape], ">u4")
    return bytes(header.tobytes() + array.tobytes())


@rows(*READING)
def test_read(case: str, who: str, measure: Callable[..., None], images: Any,
              tmp_path: Path) -> None:
    zipped = case.endswith("gzip")
    file = tmp_path / ("images.gz" if zipped else "images")
    content = idx(images)
    file.write_bytes(gzip.compress(content, 6, mtime=0) if zipped else content)

    def least() -> Any:
        with gzip.open(file) if zipped else file.open("rb") as stream:
            return np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)

    def read() -> Any:
        return read_idx(file)

    run = read if who == OURS else least
    np.testing.assert_array_equal(run(), images)
    measure(run, "files")


@rows(("load a directory of 10,000 images", [OURS, NUMPY], False))
def test_load(case: str, who: str, measure: Callable[..., None], digits: tuple[Any, Any],
              tmp_path: Path) -> None:
    """All four files, checked; against their bytes alone."""
    arrays = [*digits, *digits]
    files = [tmp_path / name for name in FILES]
    for file, array in zip(files, arrays, strict=True):
        file.write_bytes(idx(array))

    def load() -> Any:
        train, test = load_idx_directory(tmp_path)
        return [*train, *test]

    def least() -> Any:
        return [np.fromfile(file, np.uint8, offset=4 + 4 * array.ndim).reshape(array.shape)
                for file, array in zip(files, arrays, strict=True)]

    run = load if who == OURS else least
    for found, array in zip(run(), arrays, strict=True):
        np.testing.assert_array_equal(found, array)
    measure(run, "files")


@rows(*DRAWING)
def test_draw(case: str, who: str, measure: Callable[..., None]) -> None:
    n = number(case)
    (x, y), _ = load_digits(n, 1, cache=False)
    assert x.shape == (n, 28, 28)
    assert x.reshape(n, -1).max(axis=1).min() > 100         # no image is blank
    assert set(y.tolist()) == set(range(10))
    measure(lambda: load_digits(n, 1, cache=False))


@rows(("take 10,000 digits from the cache", [OURS], False))
def test_cached(case: str, who: str, measure: Callable[..., None], tmp_path: Path,
                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMOM_CACHE", str(tmp_path))
    (drawn, _), _ = load_digits(10_000, 1)
    assert list(tmp_path.rglob("*.npz"))
    np.testing.assert_array_equal(load_digits(10_000, 1)[0][0], drawn)
    measure(lambda: load_digits(10_000, 1), "files")
