"""Synthetic handwritten digits, for when MNIST cannot be had."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from fastmom import npz
from fastmom.checks import flag, integer
from fastmom.data.cache import cache_dir
from fastmom.data.idx import Bytes, Split
from fastmom.data.render import SIZE, draw

VERSION = 1  # of the pixels: raise it with any change to them, so that no cached file is outdated
_BATCH = 1000  # images drawn at once: bounds the memory, and is part of what a seed means


def load_digits(
    n_train: int = 60_000, n_test: int = 10_000, *, seed: int = 0, cache: bool = True
) -> Split:
    """Return synthetic handwritten digits of MNIST's form, and about as hard to learn.

    Strokes of our own design are bent, slanted, turned, scaled, moved and inked at random, with
    balanced, shuffled classes and an independent random stream for each of the two sets.

    Parameters
    ----------
    n_train, n_test : int, default 60000 and 10000
        Number of images, at least 1.
    seed : int, default 0
        At least 0. The same seed and numbers give the same images, bit for bit.
    cache : bool, default True
        Whether to keep the images in :func:`~fastmom.data.cache.cache_dir` (uncompressed, 0.8 kB
        an image) and take them from there the next time. A cache that cannot be written to does
        no harm, and a damaged file in it is replaced.

    Returns
    -------
    tuple
        ``(x_train, y_train), (x_test, y_test)``: images uint8 (n, 28, 28), white (255) on black
        (0); labels uint8 (n,) from 0 to 9.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type; if a number is too small.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = load_digits(50, 20, seed=1, cache=False)
    >>> x_train.shape, x_test.shape, x_train.dtype
    ((50, 28, 28), (20, 28, 28), dtype('uint8'))
    >>> sorted(y_test.tolist())
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    """
    n_train = integer("n_train", n_train, 1)
    n_test = integer("n_test", n_test, 1)
    seed = integer("seed", seed, 0)
    cache = flag("cache", cache)
    if not cache:
        return _generate(n_train, n_test, seed)
    try:
        file = cache_dir() / f"digits-v{VERSION}-{n_train}-{n_test}-{seed}.npz"
    except OSError:  # no home directory
        return _generate(n_train, n_test, seed)
    return _read(file, n_train, n_test) or _write(file, _generate(n_train, n_test, seed))


def _generate(n_train: int, n_test: int, seed: int) -> Split:
    train, test = np.random.SeedSequence(seed).spawn(2)
    return _draw(n_train, np.random.default_rng(train)), _draw(n_test, np.random.default_rng(test))


def _draw(n: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
    images = np.empty((n, SIZE, SIZE), np.uint8)
    for start in range(0, n, _BATCH):
        batch = slice(start, start + _BATCH)
        images[batch] = draw(labels[batch], rng)
    return images, labels


def _read(file: Path, n_train: int, n_test: int) -> Split | None:
    """Return the cached images, or None if there are none or the file is not as it should be."""
    wanted = {"x_train": (n_train, SIZE, SIZE), "y_train": (n_train,),
              "x_test": (n_test, SIZE, SIZE), "y_test": (n_test,)}
    try:
        with npz.Archive(file) as archive:
            found = {name: (m.shape, m.dtype) for name, m in archive.members.items()}
            if found != {name: (shape, np.dtype(np.uint8)) for name, shape in wanted.items()}:
                return None
            x_train, y_train, x_test, y_test = map(archive.read, wanted)
    except (OSError, npz.Damaged):  # either way they are drawn anew
        return None
    return (x_train, y_train), (x_test, y_test)


def _write(file: Path, split: Split) -> Split:
    (x_train, y_train), (x_test, y_test) = split
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    # A cache is a convenience: without it the digits are drawn each time
    with suppress(OSError):
        npz.write(file, arrays, sync=False)
    return split
