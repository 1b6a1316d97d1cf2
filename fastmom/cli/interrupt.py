"""Ctrl-C, or SIGTERM, during a training."""

from __future__ import annotations

import signal
import threading
from typing import Any

from fastmom import nn
from fastmom.nn.callbacks.base import Logs

# SIGTERM is what containers and batch systems send first, and OpenMPI's mpiexec after Ctrl-C
BEFORE: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupt(nn.Callback):
    """End the training after the step, or the evaluation and what follows; at a second Ctrl-C, now.

    SIGTERM does the same. Where one of the two does something else than usual, it still does.

    Attributes
    ----------
    asked : bool
        Whether Ctrl-C was pressed.
    """

    adds = ()

    def __init__(self) -> None:
        self.asked = False
        self._installed: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if threading.current_thread() is threading.main_thread():
            self._installed = [number for number, usual in BEFORE.items()
                               if signal.getsignal(number) is usual]
        for number in self._installed:
            signal.signal(number, self._ask)

    def _ask(self, number: int, *where: Any) -> None:
        self.asked = True
        signal.signal(number, BEFORE[number])

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        if self.asked:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = self.model.stop_training or self.asked

    def on_train_end(self, logs: Logs | None = None) -> None:
        for number in self._installed:
            signal.signal(number, BEFORE[number])
