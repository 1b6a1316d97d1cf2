"""The metrics of each epoch."""

from __future__ import annotations

from typing import Any, TypeVar

from fastmom.nn.callbacks.base import ALIASES, Callback, Logs

Value = TypeVar("Value")


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

    adds = ()

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
