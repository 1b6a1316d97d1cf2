"""Ctrl-C during a training."""

from __future__ import annotations

import signal
import threading
from typing import Any

from fastmom import nn
from fastmom.nn.callbacks.base import Logs


class Interrupt(nn.Callback):
    """End the training after the step, or the evaluation and what follows; at a second Ctrl-C, now.

    Where Ctrl-C does something else than to raise KeyboardInterrupt, it still does.

    Attributes
    ----------
    asked : bool
        Whether Ctrl-C was pressed.
    """

    adds = ()

    def __init__(self) -> None:
        self.asked = False
        self._installed = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._installed = (threading.current_thread() is threading.main_thread()
                           and signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        if self._installed:
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *signalled: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        if self.asked:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = self.model.stop_training or self.asked

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
