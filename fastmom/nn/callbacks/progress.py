"""Print a bar and a line per epoch while a model trains."""

from __future__ import annotations

import numbers
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from fastmom.nn.callbacks.base import Callback, Logs
from fastmom.progress import can_show_bars, progress_bar, require_tqdm

INTERVAL = 0.05     # seconds between two updates of the bar: one takes as long as several steps
FORMAT = "{desc}  {n_fmt}/{total_fmt} |{bar}| {remaining}{postfix}"     # fits in 80 columns


def metrics_line(logs: Mapping[str, Any]) -> str:
    """Return the metrics on one line: four decimals, or of small ones (say lr) four digits.

    >>> metrics_line({"loss": 0.5, "val_loss": 0.25, "lr": 1e-5})
    'loss 0.5000  val loss 0.2500  lr 1e-05'
    """
    return "  ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in logs.items())


def _shown(value: Any) -> str:
    if not isinstance(value, numbers.Real):
        return str(value)
    number = float(value)
    return f"{number:.4g}" if 0 < abs(number) < 1e-3 else f"{number:.4f}"


class Progress(Callback):
    """A progress bar on a terminal, and one plain line per epoch anywhere.

    Parameters
    ----------
    stream : text file, optional
        By default what `sys.stdout` is when training begins.
    verbose : {"auto", 0, 1, 2}
        0 prints nothing, 2 the lines, 1 also the bar, with the running means, if the stream is a
        terminal. "auto" is 1, or 2 without tqdm.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    ImportError
        When training begins: with ``verbose=1`` on a terminal, without tqdm.
    """

    adds = ()

    def __init__(self, stream: TextIO | None = None, verbose: int | str = "auto") -> None:
        if stream is not None and not (hasattr(stream, "write") and hasattr(stream, "isatty")):
            raise TypeError(f"stream must be a text file or None, not {stream!r}")
        if isinstance(verbose, bool) or verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"verbose must be 'auto', 0, 1 or 2, not {verbose!r}")
        self.stream, self.verbose = stream, verbose
        self._shown = False
        self._bar: Any = None

    def set_params(self, params: Mapping[str, Any]) -> None:
        super().set_params(params)
        self._out = sys.stdout if self.stream is None else self.stream
        self._shown = self.verbose in (1, "auto") and self._out.isatty()
        if self._shown and self.verbose == 1:
            require_tqdm()
        self._shown = self._shown and can_show_bars()

    def _overrides(self, hook: str) -> bool:
        return super()._overrides(hook) and (hook != "on_train_batch_end" or self._shown)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if self._shown:
            self._bar = progress_bar(self._out, self.params["steps"],
                                     f"epoch {epoch + 1}/{self.params['epochs']}",
                                     bar_format=FORMAT, mininterval=0, miniters=1)  # `_due` says
            self._due = 0.0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        now = time.monotonic()
        if self._bar is None or now < self._due:
            return
        self._due = now + INTERVAL
        self._bar.set_postfix_str(metrics_line(logs or {}), refresh=False)
        self._bar.update(batch + 1 - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._close()
        if self.verbose == 0:
            return
        epochs, metrics = self.params["epochs"], dict(logs or {})
        seconds = metrics.pop("seconds", None)
        parts = [f"epoch {epoch + 1:{len(str(epochs))}}/{epochs}", metrics_line(metrics)]
        if seconds is not None:
            parts.append(f"{seconds:.2f} s")
        print("  ".join(parts), file=self._out, flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
