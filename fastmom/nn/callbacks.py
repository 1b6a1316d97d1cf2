"""What watches a training run, and what is left of one."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from fastmom.progress import progress_bar


def figures_line(logs: dict[str, float]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in logs.items())


class History:
    """The figures of each epoch: ``history[name]`` is a list over the epochs."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class Callback:
    """Base: override what you need. `logs` holds the epoch's figures so far by name."""

    def on_epoch_begin(self, epoch: int, epochs: int, steps: int) -> None:
        pass

    def on_batch_end(self, step: int, logs: dict[str, float]) -> None:
        pass

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        pass

    def on_train_end(self) -> None:
        """Called once, also when training was interrupted or failed."""


class Progress(Callback):
    """A progress bar on a terminal, and one plain line per epoch anywhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.bar: Any = None

    def on_epoch_begin(self, epoch: int, epochs: int, steps: int) -> None:
        self.epochs = epochs
        if self.stream.isatty():
            self.bar = progress_bar(self.stream, steps, f"epoch {epoch + 1}/{epochs}", "batch")

    def on_batch_end(self, step: int, logs: dict[str, float]) -> None:
        if self.bar is not None:
            self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._close()
        figures = figures_line({k: v for k, v in logs.items() if k != "seconds"})
        width = len(str(self.epochs))
        print(f"epoch {epoch + 1:{width}}/{self.epochs}  {figures}  {logs['seconds']:.2f} s",
              file=self.stream, flush=True)

    def on_train_end(self) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
