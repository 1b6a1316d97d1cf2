"""Putting a checkpoint's content back: everything is checked before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastmom.npz import BFLOAT16
from fastmom.optim.state import prepare
from fastmom.optim.state_checks import check_fits

if TYPE_CHECKING:
    from fastmom.optim.base import Optimizer

Arrays = Sequence[Any] | Mapping[str, Any]
Changes = list[Callable[[], None]]


class Saved(Protocol):
    """The part of a checkpoint that is put back."""

    @property
    def params(self) -> list[Any] | dict[str, Any] | None: ...
    @property
    def optimizer(self) -> dict[str, Any] | None: ...
    @property
    def rng(self) -> dict[str, Any] | None: ...


def named(params: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays with their names in errors."""
    if isinstance(params, Mapping):
        if not all(type(name) is str for name in params):
            raise TypeError(f"params must have strings as names, not {list(params)!r}")
        pairs = [(f"params[{name!r}]", array) for name, array in params.items()]
    elif isinstance(params, (list, tuple)):
        pairs = [(f"params[{i}]", array) for i, array in enumerate(params)]
    else:
        raise TypeError(f"params must be a list or dict of arrays, not {type(params).__name__}")
    for where, array in pairs:
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{where} must be a NumPy array, not {type(array).__name__}")
        if array.dtype.kind not in "biufc" and array.dtype.name != BFLOAT16:
            raise TypeError(f"{where} has dtype {array.dtype}, which is not of numbers")
        yield where, array


def prepared(saved: Saved, params: Arrays | None, optimizer: Optimizer | None,
             rng: np.random.Generator | None) -> Changes:
    """Check that a checkpoint fits; return what puts it in place and cannot fail."""
    changes: Changes = []
    if params is not None:
        changes.append(_params_change(saved.params, params))
    if optimizer is not None:
        changes.append(prepare(optimizer, _held("optimizer", saved.optimizer)))
    if rng is not None:
        changes.append(_rng_change(_held("rng", saved.rng), rng))
    return changes


def prepared_to_fill(saved: Saved, content: Mapping[str, Any], params: Arrays | None,
                     optimizer: Optimizer | None, rng: np.random.Generator | None,
                     ) -> tuple[list[tuple[dict[str, Any], Any]], Changes]:
    """Return the arrays to fill, each with its entry in the content, and all other changes.

    To be called after `prepared` has found that it fits. `content` is `saved` with the arrays'
    names in their places.
    """
    filled: list[tuple[dict[str, Any], Any]] = []
    changes: Changes = []
    if params is not None:
        own = params.values() if isinstance(params, Mapping) else params
        order = list(saved.params or ())        # the names, if it has names
        entries = content["params"]
        if isinstance(params, Mapping):
            entries = [entries[order.index(name)] for name in params]
        filled += zip(entries, own, strict=True)
    if optimizer is not None:
        assert saved.optimizer is not None
        state = optimizer._buffers()
        changes.append(prepare(optimizer, {**saved.optimizer, "state": state}))
        for entries, buffers in zip(content["optimizer"]["state"], state, strict=True):
            if entries.keys() != buffers.keys():        # renamed since it was written
                entries = dict(zip(buffers, entries.values(), strict=True))
            filled += [(entries[name], buffer) for name, buffer in buffers.items()]
    if rng is not None:
        assert saved.rng is not None
        changes.append(_rng_change(saved.rng, rng))
    return filled, changes


def _held(name: str, value: Any) -> Any:
    if value is None:
        raise ValueError(f"it holds no {name}")
    return value


def _params_change(saved: Any, params: Arrays) -> Callable[[], None]:
    own, stored = dict(named(params)), dict(named(_held("params", saved)))
    if set(own) != set(stored):
        raise ValueError(f"it holds {', '.join(stored)}; given are {', '.join(own)}")
    for where, array in own.items():
        if not array.flags.writeable:
            raise ValueError(f"{where} is read-only")
        check_fits(where, stored[where], array)

    def fill() -> None:
        for where, array in own.items():
            array[...] = stored[where]
    return fill


def _rng_change(saved: Any, rng: np.random.Generator) -> Callable[[], None]:
    """Try the state on another bit generator; return what sets that of `rng`."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}")
    own = type(rng.bit_generator)
    if not isinstance(saved, dict) or saved.get("bit_generator") != own.__name__:
        kind = saved.get("bit_generator") if isinstance(saved, dict) else saved
        raise ValueError(f"it holds the random state of {kind!r}, not of {own.__name__!r}")
    try:
        own(0).state = saved
    except Exception as error:
        raise ValueError(f"its random state is malformed: {error!r}") from error

    def restore() -> None:
        rng.bit_generator.state = saved
    return restore
