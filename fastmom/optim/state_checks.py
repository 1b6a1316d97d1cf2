"""Checks of a state dict's parts; each names the place in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import integer
from fastmom.optim.formats import fits, rounded, shape_in

if TYPE_CHECKING:
    from fastmom.types import Array


def check_names(where: str, given: Any, names: Collection[str]) -> None:
    if not isinstance(given, Mapping):
        raise TypeError(f"{where} must be a dict, not {type(given).__name__}")
    for name in names:
        if name not in given:
            raise ValueError(f"{where} has no {name!r}")
    for name in given:
        if name not in names:
            raise ValueError(f"{where} has an unknown {name!r}")


def check_list(where: str, given: Any, length: int) -> None:
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{where} must be a list, not {type(given).__name__}")
    if len(given) != length:
        raise ValueError(f"{where} has {len(given)} entries, expected {length}")


def check_equal(where: str, given: Any, expected: Any) -> None:
    if type(given) is not type(expected) or given != expected:
        raise ValueError(f"{where} is {given!r}, expected {expected!r}")


def checked_steps(given: Any, iterations: int, length: int) -> list[int]:
    if iterations >= 2 ** 63:
        raise ValueError(f"iterations must be less than 2**63, not {iterations}")
    check_list("steps", given, length)
    steps = [integer(f"steps[{i}]", step, 0) for i, step in enumerate(given)]
    if max(steps) > iterations:
        raise ValueError(f"steps[{steps.index(max(steps))}] is {max(steps)}, more than "
                         f"iterations={iterations}")
    return steps


def checked_buffers(buffers: list[dict[str, Array]], given: Any) -> Iterator[tuple[Array, Array]]:
    """Yield each buffer with the array to copy into it."""
    check_list("state", given, len(buffers))
    for i, (own, saved) in enumerate(zip(buffers, given, strict=True)):
        check_names(f"state[{i}]", saved, own)
        for name, buffer in own.items():
            where = f"state[{i}][{name!r}]"
            check_array(where, saved[name])
            if not fits(saved[name], buffer):
                raise TypeError(f"{where} has dtype {saved[name].dtype}, expected {buffer.dtype}")
            check_shape(where, saved[name], buffer)
            yield buffer, rounded(where, saved[name], buffer)


def check_fits(where: str, array: Any, like: Array) -> None:
    """Raise unless `array` is a NumPy array of the dtype and shape of `like`."""
    check_array(where, array)
    if array.dtype != like.dtype:
        raise TypeError(f"{where} has dtype {array.dtype}, expected {like.dtype}")
    check_shape(where, array, like)


def check_array(where: str, array: Any) -> None:
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{where} must be a NumPy array, not {type(array).__name__}")


def check_shape(where: str, array: Array, like: Array) -> None:
    """Raise unless the arrays hold equally many numbers in the same shape, in blocks or not."""
    in_blocks = [a.dtype for a in (array, like) if a.dtype.names is not None]
    shapes = [a.shape if a.dtype.names is not None or not in_blocks
              else shape_in(in_blocks[0], a.shape) for a in (array, like)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{where} has shape {array.shape}, expected {like.shape}")
