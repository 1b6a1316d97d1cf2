"""The numbers of a training, step by step: what the panels show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmom.checks import integer
from fastmom.nn import Callback
from fastmom.nn.callbacks.base import Logs
from fastmom.smoothing import ExponentialSmoothing

SMOOTHING = 0.95
VELOCITIES = "velocity", "mean", "velocity0"        # names of the state that is a mean of gradients
STEPS = "step", "loss", "smooth"
MEASURES = "step", "velocity", "gradient", "cosine", "effective"
ACCURACIES = "step", "accuracy"


class Recording(Callback):
    """Record losses of all steps and, every so many steps, lengths, angles and accuracy.

    Parameters
    ----------
    measure : int, default 5
        Steps between two measurements of the velocity, the gradient and the step.
    x, y : array-like, optional
        Samples to evaluate the accuracy on. Without, it is taken from each epoch's validation.
    evaluate : int, default 200
        Steps between two evaluations.

    Attributes
    ----------
    steps : dict of str to list
        ``step`` (from 1), ``loss`` and ``smooth``.
    measures : dict of str to list
        ``step``; the lengths ``velocity`` and ``gradient`` and the ``cosine`` of the angle between
        them; ``effective``, the length of the step divided by that of the gradient.
    accuracies : dict of str to list
        ``step`` and ``accuracy``, in percent.
    """

    adds = ()
    reads_batch_logs = False

    def __init__(self, measure: int = 5, x: Any = None, y: Any = None, evaluate: int = 200) -> None:
        self.measure = integer("measure", measure, 1)
        self.evaluate, self._x, self._y = integer("evaluate", evaluate, 1), x, y
        self.steps: dict[str, list[float]] = {name: [] for name in STEPS}
        self.measures: dict[str, list[float]] = {name: [] for name in MEASURES}
        self.accuracies: dict[str, list[float]] = {name: [] for name in ACCURACIES}
        self._smooth = ExponentialSmoothing(SMOOTHING)
        self._before: list[Any] = []
        self._velocities_before: list[Any] = []

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        if self.model.optimizer.iterations % self.measure == 0:
            self._before = [np.array(param) for param in self.model.params]
            self._velocities_before = [np.array(v) for v in self._velocities()]

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        step, loss = self.model.optimizer.iterations, float(self.model.batch_losses[-1])
        if self._before:
            add(self.measures, [step, *self._measured()])
            self._before = []
        if self._x is not None and (step % self.evaluate == 0 or step == 1):
            found = self.model.evaluate(self._x, self._y, verbose=0, return_dict=True)
            add(self.accuracies, [step, 100 * found["accuracy"]])
        add(self.steps, [step, loss, float(self._smooth.update(loss))])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        accuracy = next((value for name, value in (logs or {}).items()
                         if name in ("test_accuracy", "val_accuracy")), None)
        if self._x is None and accuracy is not None:
            add(self.accuracies, [self.model.optimizer.iterations, 100 * accuracy])

    def _velocities(self) -> list[Any]:
        """Return the state that is a mean of gradients, of each parameter that has one."""
        return [own[name] for own in self.model.optimizer.state
                for name in VELOCITIES if name in own]

    def _measured(self) -> list[float]:
        """Return the lengths of velocity and gradient, their cosine, and the effective step.

        A step without momentum leaves the velocity as it was, and goes along the gradient.
        """
        gradients, velocities = self.model.grads, self._velocities()
        if ([v.shape for v in velocities] != [g.shape for g in gradients]
                or all(map(np.array_equal, velocities, self._velocities_before))):
            velocities = gradients
        velocities = [np.asarray(v, g.dtype) for v, g in zip(velocities, gradients, strict=True)]
        with np.errstate(all="ignore"):
            moved = [after - b for after, b in zip(self.model.params, self._before, strict=True)]
            v, g, d = (math.sqrt(product(a, a)) for a in (velocities, gradients, moved))
            cosine = product(velocities, gradients) / (v * g) if v > 0 and g > 0 else math.nan
        return [v, g, cosine, d / g if g > 0 else math.nan]


def add(columns: dict[str, list[float]], row: list[float]) -> None:
    """Append a row, the first column last: who reads meanwhile sees whole rows."""
    for column, value in reversed(list(zip(columns.values(), row, strict=True))):
        column.append(value)


def product(a: list[Any], b: list[Any]) -> float:
    """Return the inner product of two lists of arrays."""
    return float(sum(np.vdot(one, other) for one, other in zip(a, b, strict=True)))
