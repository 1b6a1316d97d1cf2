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
from fastmom.checkpoint.errors import fitting, reading
from fastmom.checkpoint.restore import Arrays
from fastmom.checks import integer
from fastmom.optim.formats import rounded
from fastmom.optim.state import live_state

if TYPE_CHECKING:
    from fastmom.optim.base import Optimizer

FORMAT = 1
META = safetensors_file.META
Archive = npz.Archive | safetensors_file.Archive
KEYS = {"format", "names", "params", "optimizer", "rng", "epoch", "extra"}


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
            return Checkpoint(**_fields(npz.unpacked(self.content, self.archive.read)),
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
            content = _content(archive)
            fields = _fields(_with_stand_ins(content, archive))
        yield OpenCheckpoint(**fields, path=where, archive=archive, content=content)


def archive_of(path: Path) -> Archive:
    """Open the file by its suffix; raise as the archives do."""
    kind = safetensors_file if path.suffix == safetensors_file.SUFFIX else npz
    archive: Archive = kind.Archive(path)
    return archive


def _with_stand_ins(content: dict[str, Any], archive: Archive) -> dict[str, Any]:
    """Put arrays that take no memory where those of the file belong, each of them once."""
    unused = {name: member for name, member in archive.members.items() if name != META}

    def stand_in(name: str) -> Any:
        if name not in unused:
            raise ValueError(f"the member {name!r} is missing")
        member = unused.pop(name)
        return np.broadcast_to(np.zeros((), member.dtype), member.shape)
    result: dict[str, Any] = npz.unpacked(content, stand_in)
    if unused:
        raise ValueError(f"its members {', '.join(sorted(unused))} belong to nothing")
    return result


def _content(archive: Archive) -> dict[str, Any]:
    if isinstance(archive, safetensors_file.Archive) and META not in archive.members:
        names, params = archive.weights         # of any program
        return {**dict.fromkeys(KEYS), "format": FORMAT, "names": names, "params": params}
    if META not in archive.members:
        raise ValueError(f"it has no member {META!r}: it is no checkpoint of fastmom")
    content = json.loads(archive.read(META).tobytes())
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError("it says no format: it is no checkpoint of fastmom")
    if version > FORMAT:
        raise ValueError(f"its format is {version}, and this fastmom reads up to {FORMAT}: a later "
                         f"fastmom wrote it")
    if set(content) != KEYS:
        raise ValueError(f"it has {', '.join(sorted(content))}, expected "
                         f"{', '.join(sorted(KEYS))}")
    return dict(content)


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    """Check what does not depend on a training."""
    names, params = content["names"], content["params"]
    if params is not None:
        if not isinstance(params, list):
            raise ValueError("its params are no list")
        if names is not None:
            params = dict(zip(names, params, strict=True))
            if len(params) != len(names):
                raise ValueError("it has two params of one name")
        list(restore.named(params))
    if content["epoch"] is not None:
        integer("epoch", content["epoch"], 0)
    return {"params": params, **{key: content[key] for key in ("optimizer", "rng", "epoch",
                                                               "extra")}}
