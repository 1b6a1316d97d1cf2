"""The figures of each epoch, and the one that a callback monitors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from fastmom.checks import number
from fastmom.nn.callbacks.base import Callback, Logs

Value = TypeVar("Value")

# "acc" is what Keras once called it; programs for either version find it.
ALIASES = {"acc": "accuracy", "accuracy": "acc",
           "val_acc": "val_accuracy", "val_accuracy": "val_acc"}
BETTER = {"min": re.compile("loss|error|mse|mae|crossentropy"),
          "max": re.compile("acc|auc|precision|recall|f1")}


class Figures(dict[str, Value]):
    """A dict in which ``"acc"`` finds ``"accuracy"``, if it is not there itself, and the reverse.

    Also with ``val_``. ``in``, `get` and the keys know the real names only.

    >>> figures = Figures(val_accuracy=[0.9])
    >>> figures["val_acc"], "val_acc" in figures
    ([0.9], False)
    """

    def __missing__(self, name: str) -> Value:
        alias = ALIASES.get(name, name)
        if alias in self:
            return self[alias]
        raise KeyError(f"{name!r} is not among {', '.join(map(repr, self)) or 'no figures'}")


class History(Callback):
    """What `Sequential.fit` returns.

    Attributes
    ----------
    epoch : list of int
    history : dict of list
        For each name the figures of those epochs: a `Figures`.
    seconds : list of float
        How long each epoch took to train, without the evaluation.
    """

    def __init__(self) -> None:
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch: list[int] = []
        self.seconds: list[float] = []
        self.history: Figures[list[Any]] = Figures()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            if name == "seconds":       # no figure of the model
                self.seconds.append(value)
            else:
                self.history.setdefault(name, []).append(value)


class Monitor:
    """A figure by name, and when it is better than another.

    Parameters
    ----------
    name : str
    mode : {"auto", "min", "max"}
        Whether a lower or a higher figure is better. ``"auto"`` tells by the name.

    Raises
    ------
    TypeError, ValueError
        If the name does not tell.
    """

    def __init__(self, name: str, mode: str = "auto") -> None:
        if not isinstance(name, str):
            raise TypeError(f"monitor must be the name of a figure, not {name!r}")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', not {mode!r}")
        modes = [mode] if mode != "auto" else modes_of(name)
        if len(modes) != 1:
            raise ValueError(f"mode='auto' cannot tell from monitor={name!r} whether lower or "
                             f"higher is better; give mode='min' or 'max'")
        self.name, self.mode = name, modes[0]

    def __call__(self, logs: Mapping[str, Any] | None) -> float:
        return monitored(self.name, logs)

    def improves(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Whether the value beats the best by more than `min_delta`; NaN and infinity do not."""
        if best is None or not math.isfinite(value):
            return math.isfinite(value)
        return (best - value if self.mode == "min" else value - best) > min_delta


def modes_of(name: str) -> list[str]:
    return [mode for mode, pattern in BETTER.items() if pattern.search(name)]


def monitored(name: str, logs: Mapping[str, Any] | None) -> float:
    """The figure of this name, or raise with those there are."""
    try:
        return float(Figures(logs or {})[name])
    except KeyError:
        hint = "; val_ figures need validation_data" if name.startswith("val_") else ""
        raise ValueError(f"monitor={name!r} is not among the epoch's figures: "
                         f"{', '.join(logs or {})}{hint}") from None


def number_or_none(name: str, value: Any) -> float | None:
    return None if value is None else number(name, value)
