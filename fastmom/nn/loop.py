"""The training loop: epochs of steps, and evaluation over batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from fastmom.nn.batches import Batches
from fastmom.nn.callbacks import CallbackList
from fastmom.nn.layer_base import Layer
from fastmom.nn.losses import Loss
from fastmom.nn.passes import Pass, Passes
from fastmom.optim import Optimizer
from fastmom.types import Array

Data: TypeAlias = tuple[Any, Any, Any]      # samples, targets and their weights, checked


class Trained(Protocol):
    """The part of a model that the loop and the callbacks share."""

    epoch: int
    stop_training: bool
    batch_losses: Sequence[float]


@dataclass(frozen=True)
class Task:
    """An optimizer, the loss that it minimizes, and metrics."""

    optimizer: Optimizer
    loss: Loss
    metrics: list[Any]                      # as they were given
    functions: Mapping[str, Callable[[Array, Any], float]]

    @property
    def names(self) -> list[str]:
        """The names in logs."""
        return ["loss", *self.functions]

    def logs(self, sums: Sequence[float], samples: int) -> dict[str, float]:
        """Return the means by name."""
        return {name: value / samples for name, value in zip(self.names, sums, strict=True)}

    def measure(self, path: Iterable[Layer], loss: Loss, x: Any, y: Any, weights: Any,
                training: bool = False) -> list[float]:
        """Return the sums of losses and metrics over a batch that goes along these layers."""
        for layer in path:
            x = layer.forward(x, training)
        total = loss.forward(x, y, weights, training)
        return [total, *(function(x, y) for function in self.functions.values())]

    def evaluate(self, passes: Passes, data: Data, size: int) -> dict[str, float]:
        """Return the means of loss and metrics over all samples."""
        batches = Batches(data[0], size, *data[1:])
        taken = passes.take(batches.size)
        try:
            assert taken.loss is not None
            sums, path = [0.0] * len(self.names), batches.fold(taken.loss_layers, taken.inputs)
            for _, *batch in batches.in_order():
                for i, value in enumerate(self.measure(path, taken.loss, *batch)):
                    sums[i] += value
        finally:
            passes.give(taken)
        return self.logs(sums, len(data[0]))


class Team:
    """Those who train a model together: here one process alone."""

    rank, ranks = 0, 1

    def step(self, optimizer: Optimizer, grads: Any, sums: list[float]) -> list[float]:
        """Step from the gradients of all; return the sums of all of these."""
        optimizer.step(grads)
        return sums


class Training:
    """Steps of an optimizer over batches."""

    def __init__(self, task: Task, own: Pass, data: Data, size: int, team: Team) -> None:
        self._task, self._pass, self._team = task, own, team
        self.batches = Batches(data[0], size, *data[1:], team.rank, team.ranks)

    def begin(self) -> None:
        """Take up which layers are trained and what else has changed in them."""
        self._pass.prepare(self.batches.size)
        self._path = self.batches.fold(self._pass.loss_layers, self._pass.inputs)

    def step(self, x: Any, y: Any, weights: Any) -> list[float]:
        """Do one step; return the sums of the losses and metrics before it."""
        loss = self._pass.loss
        assert loss is not None
        sums = self._task.measure(self._path, loss, x, y, weights, training=True)
        dy: Array | None = loss.dz[:len(x)]
        for layer in self._pass.back:
            if dy is None:
                break
            dy = layer.backward(dy)
        return self._team.step(self._task.optimizer, self._pass.grads, sums)

    def run(self, model: Trained, epochs: range, order: np.random.Generator | None,
            evaluate: Callable[[], dict[str, float]], run: CallbackList) -> None:
        """Train and evaluate in turns, until a callback stops it."""
        model.stop_training = False
        with run:
            for epoch in epochs:
                run.on_epoch_begin(epoch)
                logs = self.epoch(model, order, run)
                if logs is None:
                    break
                model.epoch = epoch + 1
                run.on_epoch_end(epoch, logs | evaluate())
                if model.stop_training:
                    break

    def epoch(self, model: Trained, order: np.random.Generator | None,
              run: CallbackList) -> dict[str, float] | None:
        """Take all batches once, in a random order if there is a generator for it.

        Returns
        -------
        dict of str to float, or None
            The means over the epoch, and how long it took; None if it was stopped before its end.
        """
        self.begin()
        start, sums, seen = time.perf_counter(), [0.0] * len(self._task.names), 0
        losses = list[float]()
        model.batch_losses = losses
        batches = self.batches.in_order() if order is None else self.batches.shuffled(order)
        for step, (_, x, y, weights) in enumerate(batches):
            run.on_train_batch_begin(step)
            values = self.step(x, y, weights)
            for i, value in enumerate(values):
                sums[i] += value
            samples = len(x) * self._team.ranks
            losses.append(values[0] / samples)
            seen += samples
            if run.wants_batches:
                run.on_train_batch_end(
                    step, self._task.logs(sums, seen) if run.wants_batch_logs else None)
            if model.stop_training and step + 1 < len(self.batches):
                return None
        return self._task.logs(sums, seen) | {"seconds": time.perf_counter() - start}
