"""Saving the model while it trains."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from string import Formatter
from typing import Any, TypeAlias

from fastmom.checks import integer
from fastmom.nn.callbacks.aliased import Metrics
from fastmom.nn.callbacks.base import Callback, Logs, check_state
from fastmom.nn.callbacks.monitor import Monitor, number_or_none

Stamp: TypeAlias = tuple[int, int]      # size and time of modification: is it still the same file?


class ModelCheckpoint(Callback):
    """Save the model after each epoch, or each that is better than all before.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz``. May have fields for the epoch, here counted from 1, and for any of its
        metrics: ``"models/{epoch:02d}-{val_loss:.2f}.npz"``. Without fields each file replaces the
        one before, which stays whole until then.
    monitor : str, default "val_loss"
    save_best_only : bool, default False
        Save only if the metric `monitor` beats the best so far, also of earlier trainings with this
        object; NaN and infinite values do not.
    mode : {"auto", "min", "max"}
        Whether a lower or a higher value is better. ``"auto"`` tells by the name.
    keep : int, optional
        After saving, delete all but the latest so many files that this object has written. A file
        that somebody has changed or replaced since is not its own, and stays.
    extra : callable, optional
        Called before each save: the file holds what it returns as its `extra`. Data for JSON.

    Attributes
    ----------
    best : float or None
    written : list of str
        The files it has written and not deleted, the latest last.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong or would have no effect; when the training begins, if a field cannot
        be formatted or a metric will be missing.
    OSError
        If a file cannot be written or deleted.
    """

    adds = ()

    def __init__(self, path: str | os.PathLike[str], monitor: str = "val_loss",
                 save_best_only: bool = False, mode: str = "auto",
                 keep: int | None = None, extra: Callable[[], Any] | None = None) -> None:
        self.path = os.fspath(path)
        if not isinstance(self.path, str) or not self.path.endswith(".npz"):
            raise ValueError(f"path must end in .npz, not {self.path!r}")
        fields = _fields(self.path)
        if not isinstance(save_best_only, bool):
            raise TypeError(f"save_best_only must be True or False, not {save_best_only!r}")
        self._watched = Monitor(monitor, mode) if save_best_only else None
        if not save_best_only and (monitor, mode) != ("val_loss", "auto"):
            raise ValueError(f"monitor={monitor!r} and mode={mode!r} need save_best_only=True")
        self.monitor, self.save_best_only = monitor, save_best_only
        self.keep = None if keep is None else integer("keep", keep, 1)
        if keep is not None and not fields:
            raise ValueError(f"keep={keep!r} needs a path with a field, such as {{epoch}}, not "
                             f"{self.path!r}")
        if extra is not None and not callable(extra):
            raise TypeError(f"extra must be callable or None, not {extra!r}")
        self.mode, self.extra = mode, extra
        self.needs = [*([monitor] if save_best_only else []),
                      *(name for name in map(_name, fields) if name != "epoch")]
        self.best: float | None = None
        self._stamps: dict[str, Stamp] = {}     # of the files in the order of writing

    @property
    def written(self) -> list[str]:
        return list(self._stamps)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Raise for a field that cannot be formatted, before the first epoch."""
        known = Metrics(dict.fromkeys(self.params.get("metrics", ()), 0.5))
        if all(name in known or name == "epoch" for name in map(_name, _fields(self.path))):
            self._path(0, known)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        path = self._path(epoch, logs or {})
        best = self.best
        if self._watched is not None:
            best = self._watched(logs)
            if not self._watched.improves(best, self.best):
                return
        if self.extra is None:
            self.model.save(path)
        else:
            self.model.save(path, self.extra())
        self.best = best
        self.adopt(path)
        while self.keep is not None and len(self._stamps) > self.keep:
            oldest, stamp = next(iter(self._stamps.items()))
            with suppress(FileNotFoundError):
                if _stamp(oldest) == stamp:
                    os.unlink(oldest)
            del self._stamps[oldest]

    def adopt(self, path: str | os.PathLike[str]) -> None:
        """Count a file as written by this object, and as the latest.

        A training that is resumed adopts the file that it is resumed from: that file's own state
        cannot name it yet.

        Raises
        ------
        OSError
            If there is no such file.
        """
        name = os.fspath(path)
        stamp = _stamp(name)
        self._stamps.pop(name, None)
        self._stamps[name] = stamp

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.path.format_map(Metrics({**logs, "epoch": epoch + 1}))
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"path {self.path!r}: {error.args[0]}") from None

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the files written, as data for JSON.

        Each with its size in bytes and its time of modification in nanoseconds.
        """
        return {"best": self.best,
                "written": [[path, *stamp] for path, stamp in self._stamps.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such data. Files that `path` could not have named are left out."""
        check_state(state, list(self.state_dict()))
        best, written = number_or_none("state['best']", state["best"]), state["written"]
        if not isinstance(written, list) or not all(map(_is_entry, written)):
            raise ValueError(f"state['written'] must be a list of [path, bytes, nanoseconds], not "
                             f"{written!r}")
        self.best = best
        self._stamps = {path: (size, time) for path, size, time in written
                        if _pattern(self.path).fullmatch(path)}


def _stamp(path: str) -> Stamp:
    status = os.lstat(path)
    return status.st_size, status.st_mtime_ns


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and list(map(type, entry)) == [str, int, int]


def _pattern(path: str) -> re.Pattern[str]:
    """Match the paths that this one with fields can become; a field adds no directories."""
    parts = (re.escape(text) + r"[^/\\.][^/\\]*" * (field is not None)
             for text, field, _, _ in Formatter().parse(path))
    return re.compile("".join(parts))


def _name(field: str) -> str:
    """Return the metric of a field such as ``logs[x].y``: what stands before the first . or [."""
    return re.split(r"[.\[]", field, maxsplit=1)[0]


def _fields(path: str) -> list[str]:
    """The names in the braces, or raise."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(path) if field is not None]
    except ValueError as error:
        raise ValueError(f"path {path!r} is malformed: {error}") from None
    if any(not field or field.isdecimal() for field in fields):
        raise ValueError(f"path must have names in its fields, not {path!r}")
    return fields
