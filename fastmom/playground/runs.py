"""Trainings in the background, with knobs."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

from fastmom import data, nn, optim
from fastmom.checks import choice
from fastmom.cli.network import make_model
from fastmom.nn.callbacks.base import Logs
from fastmom.optim.schedules import Piecewise
from fastmom.playground.recording import Recording

METHODS: dict[str, tuple[str, dict[str, Any]]] = {     # class and arguments beside the knobs
    "momentum": ("SGD", {}), "Nesterov": ("SGD", {"nesterov": True}), "QHM": ("QHM", {})}
FOREVER = 10 ** 9   # epochs
EVALUATED = 1000    # images of the test set

load = lru_cache(maxsize=1)(data.load)


class Knob:
    """A schedule that is turned by hand and remembers how: what an optimizer takes for a number.

    Examples
    --------
    >>> knob = Knob(0.9)
    >>> knob(0), knob(1)
    (0.9, 0.9)
    >>> knob.value = 0.5
    >>> knob(2), knob.turns
    (0.5, [(0, 0.9), (2, 0.5)])
    >>> knob.schedule()(1), knob.schedule()(7)
    (0.9, 0.5)
    """

    def __init__(self, value: float) -> None:
        self.value = float(value)
        self.turns: list[tuple[int, float]] = []

    def __call__(self, step: int) -> float:
        value = self.value
        if not self.turns or value != self.turns[-1][1]:
            if self.turns and self.turns[-1][0] == step:
                self.turns[-1] = step, value
            else:
                self.turns.append((step, value))
        return value

    def schedule(self) -> Piecewise:
        """Return the turns so far as a schedule."""
        return Piecewise(self.turns or [(0, self.value)])


@dataclass(frozen=True)
class Settings:
    """What a run is made from, beside its knobs."""

    data: str = "auto"
    method: str = "momentum"
    hidden: tuple[int, ...] = (128,)
    dropout: float = 0.2
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        choice("method", self.method, METHODS)

    def optimizer(self, lr: Any, momentum: Any) -> optim.Optimizer:
        name, more = METHODS[self.method]
        made: optim.Optimizer = optim.OPTIMIZERS[name.lower()](lr=lr, momentum=momentum, **more)
        return made


@dataclass(eq=False, repr=False)
class Run(nn.Callback):
    """One training: it starts paused, and goes on in a thread of its own.

    Attributes
    ----------
    lr, momentum : Knob
    pace : float
        Steps per second, at most.
    record : Recording or None
        Once the data is there.
    diverged : int or None
        The step.
    error : str
        Why it has ended, if by an error.
    """

    settings: Settings
    lr: Knob
    momentum: Knob
    pace: float = 200.0
    record: Recording | None = None
    diverged: int | None = None
    error: str = ""
    dataset: data.Dataset | None = None
    _go: threading.Event = field(default_factory=threading.Event)
    _end: bool = False
    _thread: threading.Thread | None = None
    _due: float = 0.0

    adds = ()
    reads_batch_logs = False

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.record.steps["step"]) if self.record else 0

    @property
    def running(self) -> bool:
        return self._go.is_set() and self.alive

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def go(self) -> None:
        """Start, or go on."""
        self._go.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._train, name="fastmom run", daemon=True)
            self._thread.start()

    def pause(self) -> None:
        self._go.clear()

    def stop(self, timeout: float = 5.0) -> None:
        """End it, after the step that it is at."""
        self._end = True
        self._go.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _train(self) -> None:
        try:
            self.dataset = found = load(self.settings.data)
            network = {"hidden": self.settings.hidden, "dropout": self.settings.dropout}
            model = make_model(network, found.x_train.shape[1:], self.settings.seed,
                               self.settings.optimizer(self.lr, self.momentum))
            record = Recording(x=found.x_test[:EVALUATED], y=found.y_test[:EVALUATED])
            stop = nn.TerminateOnNaN(verbose=0)
            self.record = record
            model.fit(found.x_train, found.y_train, self.settings.batch_size, FOREVER, verbose=0,
                      callbacks=[stop, record, self])
            if stop.diverged is not None:
                self.diverged = self.step
        except Exception as error:      # the page shows it
            self.error = f"{type(error).__name__}: {error}"

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        if self._go.is_set() and (wait := self._due - time.monotonic()) > 0:
            time.sleep(min(wait, 0.2))
        if not self._go.is_set():
            self._go.wait()
        self._due = max(self._due + 1 / self.pace, time.monotonic() - 0.05)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self._end:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = self.model.stop_training or self._end

    def marks(self) -> list[tuple[int, str]]:
        """Return the turns of both knobs: after which step, and what."""
        found = []
        for name, knob in (("lr", self.lr), ("m", self.momentum)):
            found += [(step, f"{name} {before:.3g} → {value:.3g}")
                      for (_, before), (step, value) in pairwise(list(knob.turns))]
        return sorted(found)

    def status(self) -> str:
        """Return in words how it stands."""
        if self.error:
            return self.error
        if self.record is None:
            return "loading the data" if self.alive else "not started"
        steps, accuracies = self.record.steps, self.record.accuracies["accuracy"]
        if self.diverged is not None:
            return f"diverged at step {self.diverged:,}: lower lr or momentum, and restart"
        words = [f"step {self.step:,}"]
        if steps["smooth"] and math.isfinite(steps["smooth"][-1]):
            words.append(f"loss {steps['smooth'][-1]:.4f}")
        if accuracies:
            words.append(f"accuracy {accuracies[-1]:.1f} %")
        for name, knob in (("lr", self.lr), ("momentum", self.momentum)):
            if knob.turns:
                words.append(f"{name} {knob.turns[-1][1]:.3g}")
        return ", ".join(words) + ("" if self.running else " (paused)")


