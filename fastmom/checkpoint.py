"""Checkpoints: parameters, optimizer, random state and progress of a training in one file.

The file is an ordinary `.npz` without pickles: `numpy.load` opens it. Its member ``checkpoint`` is
JSON, as bytes, in which ``{"__array__": name}`` stands for the member of that name. It is written
beside its target, forced to the disk and moved into place, so that it is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom import npz
from fastmom.checks import integer
from fastmom.optim.state import check_fits, live_state, prepare

if TYPE_CHECKING:
    from fastmom.optim.base import Optimizer

FORMAT = 1
META = "checkpoint"
KEYS = {"format", "names", "params", "optimizer", "rng", "epoch", "extra"}
STALE = 3600.0      # seconds after which an unfinished file is taken for left behind
Arrays = Sequence[Any] | Mapping[str, Any]


class CheckpointError(ValueError):
    """A file is no checkpoint, is damaged or too new, or does not fit what it is loaded into."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds; None where nothing was saved."""

    params: list[Any] | dict[str, Any] | None
    optimizer: dict[str, Any] | None    # for `Optimizer.load_state_dict`
    rng: dict[str, Any] | None          # for the `state` of a bit generator
    epoch: int | None
    extra: Any


def save(path: str | os.PathLike[str], *, params: Arrays | None = None,
         optimizer: Optimizer | None = None, rng: np.random.Generator | None = None,
         epoch: int | None = None, extra: Any = None) -> None:
    """Write a checkpoint, over an older one of the same name if there is one.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz``. `latest` finds ``checkpoint-00000042.npz`` and the like.
    params : list or dict of ndarray, optional
        Numbers of any kind and shape: parameters, and say the averages of an `EMA`.
    optimizer : Optimizer, optional
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
        If the file cannot be written; an older one of the same name is whole.

    Examples
    --------
    >>> import numpy as np, fastmom as fm, tempfile
    >>> from fastmom import checkpoint
    >>> w = np.zeros(2)
    >>> opt = fm.SGD([w], lr=0.5, momentum=0.9)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoint.save(f"{directory}/checkpoint-0001.npz", params=[w], optimizer=opt, epoch=3)
    ...     stepped = opt.step([np.ones(2)])
    ...     epoch = checkpoint.load(checkpoint.latest(directory), params=[w], optimizer=opt).epoch
    >>> epoch, w, opt.iterations
    (3, array([0., 0.]), 0)
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"path must end in .npz, not {str(path)!r}")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}")
    content: dict[str, Any] = {
        "format": FORMAT, "names": list(params) if isinstance(params, Mapping) else None,
        "params": None if params is None else [array for _, array in _named(params)],
        "optimizer": None if optimizer is None else live_state(optimizer),
        "rng": None if rng is None else rng.bit_generator.state,
        "epoch": None if epoch is None else integer("epoch", epoch, 0)}
    arrays: dict[str, Any] = {}
    content = {name: npz.packed(name, value, arrays) for name, value in content.items()}
    content["extra"] = npz.packed("extra", extra, None)
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    npz.write(target, {META: text, **arrays})


def load(path: str | os.PathLike[str], *, params: Arrays | None = None,
         optimizer: Optimizer | None = None, rng: np.random.Generator | None = None) -> Checkpoint:
    """Read a checkpoint and load it into what is given.

    Parameters
    ----------
    path : path-like
    params : list or dict of ndarray, optional
        As when it was saved: the same number or names, shapes and dtypes. Filled in place.
    optimizer : Optimizer, optional
        Continues as by `Optimizer.load_state_dict`.
    rng : numpy.random.Generator, optional
        With a bit generator of the same kind.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If the file is damaged, of another kind or of a later version, or does not hold or fit what
        it is to be loaded into. Nothing has changed then.
    OSError
        If the file cannot be opened.
    """
    content = _read(Path(path))
    changes: list[Callable[[], None]] = []
    try:
        if params is not None:
            changes.append(_params_loader(content.params, params))
        if optimizer is not None:
            changes.append(prepare(optimizer, _held("optimizer", content.optimizer)))
        if rng is not None:
            changes.append(_rng_loader(_held("rng", content.rng), rng))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit: {error}") from error
    for change in changes:
        change()
    return content


def latest(directory: str | os.PathLike[str]) -> Path | None:
    """Return the whole checkpoint with the highest number, or None if there is none.

    Looks at files ``checkpoint-<number>.npz`` and reads them whole, from the highest down to the
    first without damage. Removes what a process that was killed while it wrote left behind, an hour
    later.

    Warns
    -----
    UserWarning
        For each damaged file that is passed over.

    Raises
    ------
    OSError
        If the directory cannot be read.
    """
    found = []
    for file in Path(directory).iterdir():
        if numbered := re.fullmatch(r"checkpoint-(\d+)\.npz", file.name):
            found.append((int(numbered[1]), file))
        elif re.fullmatch(r"\.[0-9a-f]{16}-checkpoint-\d+\.npz", file.name):
            _remove_stale(file)
    for _, file in sorted(found, reverse=True):
        try:
            npz.members(file)
        except ValueError as error:
            warnings.warn(f"passed over: {file} is damaged: {error}", UserWarning, stacklevel=2)
        else:
            return file
    return None


def _remove_stale(file: Path) -> None:
    try:
        if time.time() - file.stat().st_mtime > STALE:
            file.unlink()
    except OSError:         # gone already, or not ours to remove
        pass


def _named(params: Any) -> Iterator[tuple[str, Any]]:
    """The arrays with their names in errors."""
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
        if array.dtype.kind not in "biufc":
            raise TypeError(f"{where} has dtype {array.dtype}, which is not of numbers")
        yield where, array


def _read(path: Path) -> Checkpoint:
    try:
        arrays = npz.members(path)
        if META not in arrays:
            raise ValueError(f"it has no member {META!r}: it is no checkpoint of fastmom")
        content = json.loads(arrays.pop(META).tobytes())
        _check_format(content)
        content = npz.unpacked(content, arrays)
        if arrays:
            raise ValueError(f"its members {', '.join(sorted(arrays))} belong to nothing")
        return _checkpoint(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error


def _check_format(content: Any) -> None:
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError("it says no format: it is no checkpoint of fastmom")
    if version > FORMAT:
        raise ValueError(f"its format is {version}, and this fastmom reads up to {FORMAT}: a later "
                         f"fastmom wrote it")
    if set(content) != KEYS:
        raise ValueError(f"it has {', '.join(sorted(content))}, expected "
                         f"{', '.join(sorted(KEYS))}")


def _checkpoint(content: dict[str, Any]) -> Checkpoint:
    names, params = content["names"], content["params"]
    if params is not None:
        if not isinstance(params, list):
            raise ValueError("its params are no list")
        if names is not None:
            params = dict(zip(names, params, strict=True))
            if len(params) != len(names):
                raise ValueError("it has two params of one name")
        list(_named(params))
    if content["epoch"] is not None:
        integer("epoch", content["epoch"], 0)
    return Checkpoint(params, content["optimizer"], content["rng"], content["epoch"],
                      content["extra"])


# Loading ------------------------------------------------------------------------------------------

def _held(name: str, value: Any) -> Any:
    if value is None:
        raise ValueError(f"it holds no {name}")
    return value


def _params_loader(saved: Any, params: Arrays) -> Callable[[], None]:
    """Validate; return what fills `params`."""
    own, stored = dict(_named(params)), dict(_named(_held("params", saved)))
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


def _rng_loader(saved: dict[str, Any], rng: np.random.Generator) -> Callable[[], None]:
    """Validate on another bit generator; return what sets that of `rng`."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}")
    own = type(rng.bit_generator)
    if not isinstance(saved, dict) or saved.get("bit_generator") != own.__name__:
        kind = saved.get("bit_generator") if isinstance(saved, dict) else saved
        raise ValueError(f"it holds the random state of {kind!r}, not of {own.__name__!r}")
    try:
        own(0).state = saved
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"its random state is malformed: {error!r}") from error

    def restore() -> None:
        rng.bit_generator.state = saved
    return restore
