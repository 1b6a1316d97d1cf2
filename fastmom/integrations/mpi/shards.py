"""Where tensors lie in a window, and which part of them belongs to whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LINE = 64       # bytes of a cache line, at which every tensor and every part begins
GRAIN = 256     # elements: tensors are cut at multiples, which blocks of 8-bit state divide


@dataclass(frozen=True)
class Tensor:
    """A tensor in a window; part k of it are the elements ``cuts[k]`` to ``cuts[k + 1]``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    place: int              # of its first byte
    cuts: tuple[int, ...]   # one more than there are parts
    whole: bool             # it belongs to one part, in its own shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, memory: Any) -> Any:
        """Return the tensor in a window's bytes."""
        stop = self.place + self.size * self.dtype.itemsize
        return memory[self.place:stop].view(self.dtype).reshape(self.shape)

    def part(self, memory: Any, k: int, begin: int = 0) -> Any:
        """Return what of the tensor belongs to part k: elements, or all of it, or nothing.

        `memory` are the window's bytes from `begin` on.
        """
        first, stop = (self.place + n * self.dtype.itemsize - begin for n in self.cuts[k:k + 2])
        piece = memory[max(0, first):max(0, stop)].view(self.dtype)
        if self.whole and piece.size:
            return piece.reshape(self.shape)
        # an empty tensor of as many axes, by which some rules tell matrices from others
        return piece.reshape((0,) * len(self.shape)) if self.whole and self.shape else piece


@dataclass(frozen=True)
class Layout:
    """All tensors of a window; part k of all of them are the bytes ``bounds[k]`` to the next."""

    tensors: tuple[Tensor, ...]
    bounds: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.bounds[-1]

    def narrowed(self, dtype: np.dtype[Any]) -> Layout:
        """Return the same division of tensors of a smaller dtype."""
        def scaled(place: int) -> int:
            return place * dtype.itemsize // self.tensors[0].dtype.itemsize
        return Layout(tuple(replace(t, dtype=dtype, place=scaled(t.place)) for t in self.tensors),
                      tuple(map(scaled, self.bounds)))


def layout(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype[Any]], parts: int,
           whole: bool) -> Layout:
    """Divide tensors into parts of nearly the same bytes, each in one piece of memory.

    Parameters
    ----------
    shapes, dtypes
        Of the tensors.
    parts : int
    whole : bool
        Tensors are not cut: the largest goes first, each to the part that has least; they lie in
        the window part by part. Otherwise they lie in their order, and are cut anywhere.

    Examples
    --------
    >>> import numpy as np
    >>> [t.cuts for t in layout([(1000,), (48,)], [np.dtype(np.float32)] * 2, 2, False).tensors]
    [(0, 512, 1000), (0, 0, 48)]
    >>> [t.cuts for t in layout([(1000,), (48,)], [np.dtype(np.float32)] * 2, 2, True).tensors]
    [(0, 1000, 1000), (0, 0, 48)]
    """
    sizes = [math.prod(shape) for shape in shapes]
    weights = [n * dtype.itemsize for n, dtype in zip(sizes, dtypes, strict=True)]
    if whole:
        owners = _owners(weights, parts)
        order = sorted(range(len(sizes)), key=lambda i: (owners[i], i))
        cuts = [tuple(n if k > owner else 0 for k in range(parts + 1))
                for n, owner in zip(sizes, owners, strict=True)]
    else:
        order = list(range(len(sizes)))
        cuts = _cuts(sizes, weights, parts)
    places, end = [0] * len(sizes), 0
    for i in order:
        places[i] = end
        end += -(-weights[i] // LINE) * LINE
    tensors = tuple(map(Tensor, map(tuple, shapes), dtypes, places, cuts, [whole] * len(sizes)))
    return Layout(tensors, _bounds(tensors, parts, end))


def _owners(weights: Sequence[int], parts: int) -> list[int]:
    owners, loads = [0] * len(weights), [0] * parts
    for i in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        owners[i] = min(range(parts), key=lambda k: (loads[k], k))
        loads[owners[i]] += weights[i]
    return owners


def _cuts(sizes: Sequence[int], weights: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    total, start, result = sum(weights), 0, []
    for n, weight in zip(sizes, weights, strict=True):
        own = []
        for k in range(parts + 1):
            share = (total * k / parts - start) / weight if weight else 0.0
            own.append(max(0, min(n, round(share * n / GRAIN) * GRAIN)))
        own[0], own[parts] = 0, n
        result.append(tuple(own))
        start += weight
    return result


def _bounds(tensors: Sequence[Tensor], parts: int, end: int) -> tuple[int, ...]:
    """Return where each part begins, and the end of the last."""
    bounds = []
    for k in range(parts):
        begins = [t.place + t.cuts[k] * t.dtype.itemsize for t in tensors
                  if t.cuts[k + 1] > t.cuts[k]]
        bounds.append(min(begins, default=-1))
    for k in reversed(range(parts)):        # an empty part begins where the next one does
        if bounds[k] < 0:
            bounds[k] = bounds[k + 1] if k + 1 < parts else end
    return (*bounds, end)
