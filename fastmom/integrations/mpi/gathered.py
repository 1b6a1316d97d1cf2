"""State that is divided among ranks, as one: gathered, written, read and shared out again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom import checkpoint
from fastmom.checkpoint.errors import fitting
from fastmom.checkpoint.restore import prepared as prepared_params
from fastmom.integrations.mpi.ranks import Ranks
from fastmom.integrations.mpi.shards import Layout, Tensor
from fastmom.kernels.formats import BLOCK
from fastmom.optim.state import live_state, prepare

if TYPE_CHECKING:
    from fastmom.optim import Optimizer

WAIT = "gathering of state"


def holders(tensor: Tensor) -> list[int]:
    """Return the parts that have something of a tensor; the first one of an empty tensor."""
    parts = range(len(tensor.cuts) - 1)
    return [k for k in parts if tensor.cuts[k + 1] > tensor.cuts[k]] or [0]


def ranks_of_parts(ranks: Ranks, own: int) -> list[int]:
    """Return which rank has each part; all call it."""
    told = ranks.agree(own, what=WAIT)[:, 0].astype(int).tolist()
    return [told.index(k) for k in range(ranks.size)]


def state_dict(ranks: Ranks, layout: Layout, own: int, inner: Optimizer) -> dict[str, Any] | None:
    """Return all state on rank 0, tensor by tensor from those who have it."""
    where = ranks_of_parts(ranks, own)
    live = live_state(inner)
    whole: list[dict[str, Any]] = []
    for tensor, buffers in zip(layout.tensors, live["state"], strict=True):
        pieces = []
        for k in holders(tensor):
            if where[k] == ranks.rank == 0:
                pieces.append({name: a.copy() for name, a in buffers.items()})
            elif ranks.rank == 0:
                pieces.append(ranks.receive(where[k], WAIT))
            elif where[k] == ranks.rank:
                ranks.send(buffers, 0, WAIT)
        if ranks.rank == 0:
            whole.append({name: joined(tensor, [piece[name] for piece in pieces])
                          for name in pieces[0]})
    ranks.agree(what=WAIT)
    return {**live, "state": whole} if ranks.rank == 0 else None


def joined(tensor: Tensor, pieces: Sequence[Any]) -> Any:
    """Return the state of a whole tensor."""
    if tensor.whole:
        return pieces[0]
    result = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return result if result.dtype.names is not None else result.reshape(tensor.shape)


def cut(tensor: Tensor, k: int, array: Any, like: Any) -> Any:
    """Return what of a whole tensor's state belongs to part k, whose own state is `like`."""
    start, stop = tensor.cuts[k:k + 2]
    if not isinstance(array, np.ndarray) or (tensor.whole and k in holders(tensor)):
        return array            # what is no array is refused later
    if tensor.whole:
        return like
    if array.dtype.names is not None:
        return array[start // BLOCK:-(-stop // BLOCK)] if stop > start else array[:0]
    if array.shape != tensor.shape:
        raise ValueError(f"the state has an array of shape {array.shape} for a parameter of shape "
                         f"{tensor.shape}")
    return np.ascontiguousarray(array).reshape(-1)[start:stop]


def prepared(layout: Layout, own: int, inner: Optimizer,
             state: Mapping[str, Any]) -> Callable[[], None]:
    """Check all of a state dict; return what loads this rank's part and cannot fail."""
    saved = state.get("state") if isinstance(state, Mapping) else None
    if not isinstance(saved, list) or len(saved) != len(layout.tensors):
        return prepare(inner, state)        # which says what is wrong
    parts = []
    for tensor, buffers, like in zip(layout.tensors, saved, inner._buffers(), strict=True):
        parts.append({name: cut(tensor, own, array, like.get(name))
                      for name, array in buffers.items()} if isinstance(buffers, Mapping)
                     else buffers)
    return prepare(inner, {**state, "state": parts})


def everywhere(ranks: Ranks, layout: Layout, own: int, parts: Sequence[Any]) -> list[Any]:
    """Return whole tensors on every rank from the parts of each."""
    result = []
    where = ranks_of_parts(ranks, own)
    for tensor, part in zip(layout.tensors, parts, strict=True):
        held = holders(tensor)
        told = ranks.exchange(part if own in held else None, WAIT)
        result.append(joined(tensor, [told[where[k]] for k in held]))
    return result


def write(path: str | os.PathLike[str], params: list[Any], state: dict[str, Any],
          extra: Any) -> None:
    checkpoint.save(path, params=params, optimizer=state, extra=extra)


def read(path: str | os.PathLike[str],
         params: list[Any] | None) -> tuple[checkpoint.Checkpoint, Callable[[], None]]:
    """Read a checkpoint; return it, and what puts its parameters in place and cannot fail."""
    saved = checkpoint.load(path)
    with fitting(Path(path)):
        changes = prepared_params(saved, params, None, None)

    def fill() -> None:
        for change in changes:
            change()
    return saved, fill
