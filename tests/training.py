"""A training without arithmetic: epochs with given figures, for callbacks to watch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmom as fm
from fastmom.nn.callbacks import Callback, CallbackList, History


class Model:
    """Offers callbacks what `Sequential` does; after epoch i its weight is i + 1."""

    def __init__(self, **hyper: Any) -> None:
        self.w = np.zeros(1)
        self.layers: list[Any] = []
        self.optimizer = fm.SGD([self.w], **hyper)
        self.stop_training = False

    def get_weights(self) -> list[Any]:
        return [self.w.copy()]

    def set_weights(self, weights: list[Any]) -> None:
        self.w[...] = weights[0]

    def save(self, path: str) -> None:
        Path(path).write_text(str(self.w[0]))


def train(callbacks: list[Callback], epochs: list[dict[str, Any]], model: Any = None,
          first: int = 0) -> History:
    """Train for so many epochs, or until a callback stops it; an exception as figures is raised."""
    model, history = model or Model(lr=0.1), History()
    params = {"epochs": first + len(epochs), "steps": 1, "verbose": 0}
    model.stop_training = False
    with CallbackList([*callbacks, history], model, params) as run:
        for epoch, logs in enumerate(epochs, first):
            run.on_epoch_begin(epoch)
            run.on_train_batch_begin(0)
            model.w += 1
            if isinstance(logs, BaseException):
                raise logs
            run.on_train_batch_end(0, logs)
            run.on_epoch_end(epoch, dict(logs))
            if model.stop_training:
                break
    return history
