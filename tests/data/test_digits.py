"""The synthetic digits: MNIST's form, the same each time, neither trivial nor impossible."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmom.data import digits, load_digits
from fastmom.data.strokes import DIGITS, POINTS, sample

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def split() -> Split:
    return load_digits(3000, 1010, cache=False)


def equal(a: Any, b: Any) -> bool:
    pairs = zip((x for p in a for x in p), (y for q in b for y in q), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_form(split: Split) -> None:
    for (x, y), n in zip(split, (3000, 1010), strict=True):
        assert (x.shape, y.shape) == ((n, 28, 28), (n,))
        assert x.dtype == y.dtype == np.uint8
        assert set(np.bincount(y)) == {n // 10}
        assert (np.diff(y.astype(int)) == 0).mean() < 0.2, "shuffled"


def test_pixels_look_like_mnist(split: Split) -> None:
    (x, _), _ = split
    assert 0.12 < (x > 0).mean() < 0.25  # MNIST: 0.19
    assert 0.10 < x.mean() / 255 < 0.17  # MNIST: 0.13
    assert (x.max(axis=(1, 2)) > 200).all(), "every image has white ink"
    mass = x.sum(axis=(1, 2), dtype=np.float64)
    for axis in (1, 2):
        centre = (x.sum(axis=axis) * np.arange(28)).sum(axis=1) / mass
        assert np.abs(centre - 13.5).max() < 4
    height = (x > 0).any(axis=2).sum(axis=1)
    assert 18 < np.median(height) < 24  # a 20-pixel box, and the breadth of the stroke


def test_no_two_images_are_alike(split: Split) -> None:
    (x_train, _), (x_test, _) = split
    images = np.concatenate([x_train, x_test]).reshape(-1, 784)
    assert len(np.unique(images, axis=0)) == len(images)


def test_difficulty(split: Split) -> None:
    """Nearest class mean: 82 % on MNIST. By chance 10 %, and 100 % would be no test of anything."""
    (x_train, y_train), (x_test, y_test) = split
    means = np.stack([x_train[y_train == digit].mean(axis=0) for digit in range(10)])
    distance = [((x_test - mean) ** 2).sum(axis=(1, 2)) for mean in means]
    assert 0.7 < (np.argmin(distance, axis=0) == y_test).mean() < 0.9


@pytest.mark.parametrize("digit", range(10))
def test_strokes(digit: int) -> None:
    for style in DIGITS[digit]:
        points = sample(style)
        assert points.shape == (POINTS, 2)
        assert points.min() > 0
        assert points.max() < 20
        steps = np.hypot(*np.diff(points, axis=0).T)
        assert (steps > 1).sum() == style.count("|"), "only a lifted pen jumps"


def test_seeds_and_sizes(split: Split) -> None:
    assert equal(load_digits(3000, 1010, cache=False), split)
    (x_train, _), test = load_digits(20, 1010, cache=False)
    assert equal([test], [split[1]]), "the test set does not depend on the training set"
    (other, _), _ = load_digits(20, 10, seed=1, cache=False)
    assert not np.array_equal(other, x_train)
    (same_size, labels), _ = load_digits(1010, 10, cache=False)
    assert not np.array_equal(same_size, split[1][0]), "train and test are different streams"
    assert not np.array_equal(labels, split[1][1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_train": 0}, ValueError, "n_train must be an integer >= 1, not 0"),
        ({"n_test": -1}, ValueError, "n_test must be an integer >= 1, not -1"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0, not -1"),
        ({"n_train": 10.0}, TypeError, "n_train must be an integer >= 1, not 10.0"),
        ({"n_test": True}, TypeError, "n_test must be an integer >= 1, not True"),
        ({"seed": None}, TypeError, "seed must be an integer >= 0, not None"),
        ({"cache": 1}, TypeError, "cache must be True or False, not 1"),
    ],
)
def test_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        load_digits(**arguments)


def test_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = load_digits(30, 20, cache=False)
    assert not own_cache.exists()
    assert equal(load_digits(30, 20), drawn)
    assert os.listdir(own_cache) == [f"digits-v{digits.VERSION}-30-20-0.npz"]
    monkeypatch.setattr(digits, "_generate", None)
    assert equal(load_digits(np.int64(30), 20), drawn), "cached"  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "shape", "dtype", "object", "text",
                                    "deflated", "directory"])
def test_a_damaged_cache_is_drawn_again(own_cache: Path, damage: str) -> None:
    drawn = load_digits(30, 20)
    (file,) = own_cache.iterdir()
    whole = file.read_bytes()
    arrays = dict(np.load(file))
    if damage == "directory":
        file.unlink()
        file.mkdir()
        assert equal(load_digits(30, 20), drawn)
        return
    if damage == "deflated":
        np.savez_compressed(file, **arrays)
    elif damage in ("shape", "dtype", "object"):
        x = arrays["x_train"]
        arrays["x_train"] = x[1:] if damage == "shape" else x.astype(damage.replace("dtype", "i8"))
        np.savez(file, **arrays)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        wrong = {"empty": b"", "cut": whole[:middle], "flipped": flipped, "text": b"hello"}
        file.write_bytes(wrong[damage])
    assert equal(load_digits(30, 20), drawn)
    assert file.read_bytes() == whole, "the cached file is whole again"
    assert list(own_cache.iterdir()) == [file]


def test_works_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = load_digits(30, 20, cache=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTMOM_CACHE", str(tmp_path / "file"))
    assert equal(load_digits(30, 20), drawn), "not writable"

    def no_home() -> Path:
        raise OSError("no home directory")

    monkeypatch.setattr(digits, "cache_dir", no_home)
    assert equal(load_digits(30, 20), drawn), "no place for it"
