"""Draw the strokes of digits as 28x28 images, no two alike."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmom.data.idx import Bytes
from fastmom.data.strokes import DIGITS, sample

Reals: TypeAlias = NDArray[np.float64]

SIZE = 28

# Ranges of the uniform draws, in pixels and radians. They decide how hard the data is: these make
# a small network behave as it does on MNIST, with and without momentum.
_WARP, _WAVES, _WAVE_NUMBER = 2.0, 3, 0.35
_TURN, _SHEAR, _SHIFT = 0.25, 0.3, 1.2
_WIDTH, _HEIGHT = (0.8, 1.05), (0.9, 1.05)
_THRESHOLD, _SOFTNESS = (0.07, 0.2), (0.05, 0.15)  # a low threshold makes a broad stroke
_GRAIN = 0.2

_STYLES = np.array([sample(style) for digit in DIGITS for style in digit]) - 10  # box's centre at 0
_COUNT = np.array([len(digit) for digit in DIGITS])
_FIRST = np.cumsum(_COUNT) - _COUNT


def draw(labels: NDArray[np.integer], rng: np.random.Generator) -> Bytes:
    """Return an image of each label's digit, uint8 (n, 28, 28), white on black."""
    style = rng.integers(_FIRST[labels], (_FIRST + _COUNT)[labels])
    x, y = _STYLES[style, :, 0], _STYLES[style, :, 1]
    x, y = _place(*_pose(*_warp(x, y, rng), rng), rng)
    ink = _blur(_splat(x, y))
    ink -= _uniform(rng, len(labels), *_THRESHOLD)[:, :, None]
    ink /= _uniform(rng, len(labels), *_SOFTNESS)[:, :, None]
    ink = np.clip(ink, 0, 1) * rng.uniform(1 - _GRAIN, 1, ink.shape)
    return np.rint(255 * ink).astype(np.uint8)


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> Reals:
    return rng.uniform(low, high, (n, 1))


def _warp(x: Reals, y: Reals, rng: np.random.Generator) -> tuple[Reals, Reals]:
    """Bend the plane smoothly, by a few long waves that each push their own way."""
    n, dx, dy = len(x), np.zeros_like(x), np.zeros_like(y)
    for _ in range(_WAVES):
        across, down = (_uniform(rng, n, -_WAVE_NUMBER, _WAVE_NUMBER) for _ in range(2))
        wave = np.sin(across * x + down * y + _uniform(rng, n, 0, 2 * np.pi))
        dx += _uniform(rng, n, -_WARP, _WARP) * wave
        dy += _uniform(rng, n, -_WARP, _WARP) * wave
    return x + dx, y + dy


def _pose(x: Reals, y: Reals, rng: np.random.Generator) -> tuple[Reals, Reals]:
    """Slant, scale and turn."""
    n = len(x)
    x = (x + _uniform(rng, n, -_SHEAR, _SHEAR) * y) * _uniform(rng, n, *_WIDTH)
    y = y * _uniform(rng, n, *_HEIGHT)
    turn = _uniform(rng, n, -_TURN, _TURN)
    cos, sin = np.cos(turn), np.sin(turn)
    return cos * x - sin * y, sin * x + cos * y


def _place(x: Reals, y: Reals, rng: np.random.Generator) -> tuple[Reals, Reals]:
    """Put the centre of mass near the image's centre, as in MNIST, and all points inside."""
    centre, n = (SIZE - 1) / 2, len(x)
    x = x - x.mean(axis=1, keepdims=True) + centre + _uniform(rng, n, -_SHIFT, _SHIFT)
    y = y - y.mean(axis=1, keepdims=True) + centre + _uniform(rng, n, -_SHIFT, _SHIFT)
    return np.clip(x, 1, SIZE - 2.01), np.clip(y, 1, SIZE - 2.01)


def _splat(x: Reals, y: Reals) -> Reals:
    """Share each point's length of stroke among the four pixels around it."""
    # The step to the next point is the length; the cap is for the pen's jumps between strokes.
    length = np.minimum(np.hypot(np.diff(x, append=x[:, -1:]), np.diff(y, append=y[:, -1:])), 1)
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, below = x - column, y - row
    pixel = (np.arange(len(x))[:, None] * SIZE + row) * SIZE + column
    image = np.zeros(len(x) * SIZE * SIZE)
    for offset, share in (
        (0, (1 - right) * (1 - below)),
        (1, right * (1 - below)),
        (SIZE, (1 - right) * below),
        (SIZE + 1, right * below),
    ):
        image += np.bincount((pixel + offset).ravel(), (share * length).ravel(), len(image))
    return image.reshape(-1, SIZE, SIZE)


def _blur(image: Reals) -> Reals:
    """Spread the ink as a pen does, twice by (1, 2, 1) / 4 along each axis."""
    for axis in (1, 2, 1, 2):
        old = np.moveaxis(image, axis, 0)
        new = old / 2
        new[1:] += old[:-1] / 4
        new[:-1] += old[1:] / 4
        image = np.moveaxis(new, 0, axis)
    return image
