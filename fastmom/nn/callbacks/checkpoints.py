"""Saving the model while it trains."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from fastmom.checks import integer
from fastmom.nn.callbacks.base import Callback, Logs, check_state
from fastmom.nn.callbacks.history import Metrics
from fastmom.nn.callbacks.monitor import Monitor, number_or_none


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
        After saving, delete all but the latest so many files that this object has written.

    Attributes
    ----------
    best : float or None
    written : list of str
        The files it has written and not deleted, the latest last.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong or would have no effect; at the end of an epoch, if it has not the
        metrics asked for.
    OSError
        If a file cannot be written or deleted.
    """

    adds = ()

    def __init__(self, path: str | os.PathLike[str], monitor: str = "val_loss",
                 save_best_only: bool = False, mode: str = "auto",
                 keep: int | None = None) -> None:
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
        self.mode = mode
        self.needs = [*([monitor] if save_best_only else []),
                      *(name for name in map(_name, fields) if name != "epoch")]
        self.best: float | None = None
        self.written: list[str] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        path = self._path(epoch, logs or {})
        best = self.best
        if self._watched is not None:
            best = self._watched(logs)
            if not self._watched.improves(best, self.best):
                return
        self.model.save(path)
        self.best = best
        self.written = [*(other for other in self.written if other != path), path]
        if self.keep is not None:
            while len(self.written) > self.keep:
                Path(self.written[0]).unlink(missing_ok=True)
                del self.written[0]

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.path.format_map(Metrics({**logs, "epoch": epoch + 1}))
        except KeyError as error:
            raise ValueError(f"path {self.path!r}: {error.args[0]}") from None

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the files written, as data for JSON."""
        return {"best": self.best, "written": list(self.written)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, list(self.state_dict()))
        best, written = number_or_none("state['best']", state["best"]), state["written"]
        if not isinstance(written, list) or not all(isinstance(path, str) for path in written):
            raise ValueError(f"state['written'] must be a list of paths, not {written!r}")
        self.best, self.written = best, list(written)


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
