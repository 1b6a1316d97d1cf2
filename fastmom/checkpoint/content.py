"""The content of a checkpoint file: written by `save`, checked when it is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom import npz, safetensors_file
from fastmom.checkpoint import restore
from fastmom.checkpoint.archive import (
    FORMAT,
    META,
    Archive,
    archive_of,
    content_of,
    fields_of,
    with_stand_ins,
)
from fastmom.checkpoint.errors import fitting, reading
from fastmom.checkpoint.restore import Arrays
from fastmom.checks import integer
from fastmom.optim.formats import rounded
from fastmom.optim.state import live_state

if TYPE_CHECKING:
    from fastmom.optim.base import Optimizer


def save(path: str | os.PathLike[str], *, params: Arrays | None = None,
         optimizer: Optimizer | Mapping[str, Any] | None = None,
         rng: np.random.Generator | None = None, epoch: int | None = None,
         extra: Any = None) -> None:
    """Write a checkpoint, over an older one of the same name if there is one.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz``, or in ``.safetensors`` for a file of the library of that name, which needs
        to be installed: others read it too, and arrays have the names of `params`, or
        ``params/0``, and ``optimizer/state/0/velocity``. `latest` finds
        ``checkpoint-00000042.npz`` and the like. A symbolic link is followed; a file that is there
        keeps its permissions.
    params : list or dict of ndarray, optional
        Numbers of any kind and shape: parameters, and say the averages of an `EMA`.
    optimizer : Optimizer or dict, optional
        Its `state_dict`: hyper-parameters, schedules, counters and state, not its parameters.
    rng : numpy.random.Generator, optional
    epoch : int, optional
        >= 0.
    extra : optional
        Anything JSON can hold: None, booleans, numbers, strings, lists, dicts with string keys.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be stored. No file has changed then.
    OSError
        If the file cannot be written; an older one of the same name is whole, unless the error says
        that the new one is in place.

    Examples
    --------
    >>> import numpy as np, fastmom as fm, tempfile
    >>> from fastmom import checkpoint
    >>> w = np.zeros(2)
    >>> opt = fm.SGD([w], lr=0.5, momentum=0.9)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoint.save(f"{directory}/checkpoint-0001.npz", params=[w], optimizer=opt, epoch=3)
    ...     stepped = opt.step([np.ones(2)])
    ...     saved = checkpoint.load_latest(directory)
    >>> saved.apply(params=[w], optimizer=opt)
    >>> saved.epoch, w, opt.iterations
    (3, array([0., 0.]), 0)
    """
    target = Path(path)
    if target.suffix not in (".npz", safetensors_file.SUFFIX):
        raise ValueError(f"path must end in .npz, not {str(path)!r}; or in "
                         f"{safetensors_file.SUFFIX}")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}")
    content: dict[str, Any] = {
        "format": FORMAT, "names": list(params) if isinstance(params, Mapping) else None,
        "params": None if params is None else [array for _, array in restore.named(params)],
        "optimizer": (optimizer if optimizer is None or isinstance(optimizer, Mapping)
                      else live_state(optimizer)),
        "rng": None if rng is None else rng.bit_generator.state,
        "epoch": None if epoch is None else integer("epoch", epoch, 0)}
    arrays: dict[str, Any] = {}
    content = {name: npz.packed(name, value, arrays) for name, value in content.items()}
    content["extra"] = npz.packed("extra", extra, None)
    if target.suffix == safetensors_file.SUFFIX:
        safetensors_file.write(target, content, arrays)
        return
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    npz.write(target, {META: text, **arrays})


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file; None where nothing was saved."""

    params: list[Any] | dict[str, Any] | None
    optimizer: dict[str, Any] | None    # for `Optimizer.load_state_dict`
    rng: dict[str, Any] | None          # for the `state` of a bit generator
    epoch: int | None
    extra: Any
    path: Path

    def apply(self, *, params: Arrays | None = None, optimizer: Optimizer | None = None,
              rng: np.random.Generator | None = None) -> None:
        """Put what was saved into these, into all of them or none.

        Parameters
        ----------
        params : list or dict of ndarray, optional
            As when it was saved: the same number or names, shapes and dtypes. Filled in place.
        optimizer : Optimizer, optional
            Continues as by `Optimizer.load_state_dict`.
        rng : numpy.random.Generator, optional
            With a bit generator of the same kind.

        Raises
        ------
        CheckpointError
            If it does not hold or fit one of them. Nothing has changed then.
        """
        with fitting(self.path):
            changes = restore.prepared(self, params, optimizer, rng)
        for change in changes:
            change()


@dataclass(frozen=True)
class OpenCheckpoint(Checkpoint):
    """An open file whose arrays are not read yet.

    Those in `params` and `optimizer` have the shapes and dtypes of the file's, but no memory and
    no content.
    """

    archive: Archive
    content: dict[str, Any]     # with an array's name in the place of the array

    def read(self) -> Checkpoint:
        """Return the checkpoint with its arrays, each read once.

        Raises
        ------
        DamagedError
        """
        with reading(self.path):
            return Checkpoint(**fields_of(npz.unpacked(self.content, self.archive.read)),
                              path=self.path)

    def fill(self, *, params: Arrays | None = None, optimizer: Optimizer | None = None,
             rng: np.random.Generator | None = None) -> None:
        """Read straight into these, which takes no memory beside theirs.

        For objects that were made to be loaded: unlike after `Checkpoint.apply`, they are half
        filled if an array turns out to be damaged.

        Raises
        ------
        CheckpointError
            If it does not hold or fit one of them. Nothing has changed then.
        DamagedError
            If an array is damaged: throw the objects away.
        """
        with fitting(self.path):
            restore.prepared(self, params, optimizer, rng)      # checks shapes and dtypes
            filled, changes = restore.prepared_to_fill(self, self.content, params,
                                                       optimizer, rng)
        for change in changes:
            change()
        with reading(self.path):
            for entry, array in filled:
                self._read_into(array, entry)

    def _read_into(self, array: Any, entry: Mapping[str, Any]) -> None:
        name = entry[npz.MARK]
        stored = npz.viewed(entry, np.empty(0, self.archive.members[name].dtype))
        if stored.dtype == array.dtype:
            self.archive.read(name, out=array)
        else:
            array[...] = rounded(name, npz.viewed(entry, self.archive.read(name)), array)


def load(path: str | os.PathLike[str], *, params: Arrays | None = None,
         optimizer: Optimizer | None = None, rng: np.random.Generator | None = None) -> Checkpoint:
    """Read a checkpoint, once, and put it into what is given.

    Parameters
    ----------
    path : path-like
    params, optimizer, rng : optional
        As of `Checkpoint.apply`, which can also be called later.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If the file is damaged (then a `DamagedError`), of another kind or of a later version, or
        does not hold or fit what it is to be loaded into. Nothing has changed then.
    OSError
        If the file cannot be opened, or is no regular file.

    See Also
    --------
    opened : without a second copy of the arrays in memory.
    """
    with opened(path) as file:
        saved = file.read()
    saved.apply(params=params, optimizer=optimizer, rng=rng)
    return saved


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[OpenCheckpoint]:
    """Open a checkpoint to look at it first, and read its arrays once and where they belong.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    CheckpointError
        If the file is damaged, of another kind or of a later version.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> w = np.ones((3, 2))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(f"{directory}/a.npz", params=[w])
    ...     with opened(f"{directory}/a.npz") as saved:
    ...         made = [np.empty(array.shape, array.dtype) for array in saved.params]
    ...         saved.fill(params=made)
    >>> made[0].sum()
    np.float64(6.0)
    """
    where = Path(path)
    with reading(where):
        archive = archive_of(where)
    with archive:
        with reading(where):
            content = content_of(archive)
            fields = fields_of(with_stand_ins(content, archive))
        yield OpenCheckpoint(**fields, path=where, archive=archive, content=content)
