"""Passes through a stack of layers: who has which buffers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np

from fastmom.nn.layer_base import Layer
from fastmom.nn.loss_base import Loss
from fastmom.nn.stack import Stack
from fastmom.types import Array


class Pass:
    """The layers of a stack with buffers for batches up to a size, for one user at a time.

    Training takes the layers themselves, so that their counters go on. Inference takes twins of
    them, with the same weights but other buffers, so that it disturbs neither training nor another
    thread.

    Attributes
    ----------
    layers : sequence of Layer
    loss_layers : sequence of Layer
        The same, but the last one does not apply an activation that the loss includes.
    back : sequence of Layer
        Those that gradients go through, from the last to the first that is trained.
    grads : list of ndarray or None
        For the optimizer: None where a parameter is not trained.
    loss : Loss or None
    inputs : ndarray
        A buffer for the samples of a batch.
    """

    def __init__(self, stack: Stack, loss: Loss | None, *, training: bool) -> None:
        self._stack, self._training = stack, training
        self.loss = copy.copy(loss)
        self._size = self._loss_size = 0
        self._changes = -1
        self._needs_dx: list[bool] = []

    def prepare(self, size: int, with_loss: bool = True) -> None:
        """Take up the layers' settings, and make buffers for batches of this size."""
        stack = self._stack
        if size > self._size or stack.changes[0] != self._changes:
            self._changes = stack.changes[0]
            self._prepare_layers(max(size, self._size))
        if with_loss and self.loss is not None and size > self._loss_size:
            self.loss.allocate((size, *stack.output_shape), stack.dtype)
            self._loss_size = size

    def _prepare_layers(self, size: int) -> None:
        stack = self._stack
        if self._training:
            self.layers: Sequence[Layer] = stack.layers
            needs_dx = list(needs_gradient(stack.layers))
            changed = needs_dx != self._needs_dx
        else:
            self.layers = [layer.twin() for layer in stack.layers]
            needs_dx, changed = [False] * len(stack.layers), True
        if size > self._size or changed:
            for layer, needs in zip(self.layers, needs_dx, strict=True):
                layer.allocate(size, stack.dtype, needs)
            self._needs_dx = needs_dx
        if size > self._size:
            assert stack.input_shape is not None
            self.inputs: Array = np.empty((size, *stack.input_shape), stack.dtype)
            self._size = size
        *others, last = self.layers
        fused = self.loss is not None and self.loss.fused not in (None, "linear")
        self.loss_layers = [*others, last.headless() if fused else last]
        trained = [i for i, layer in enumerate(stack.layers) if layer.trainable and layer.params]
        self.back = self.loss_layers[trained[0]:][::-1] if trained else []
        self.grads = [g if layer.trainable else None for layer in stack.layers for g in layer.grads]


def needs_gradient(layers: Sequence[Layer]) -> Iterator[bool]:
    """Yield for each layer whether one below it is trained, so that it has to pass gradients on."""
    below = False
    for layer in layers:
        yield below
        below = below or (layer.trainable and bool(layer.params))


class Passes:
    """The passes for inference: as many as there were users at a time."""

    def __init__(self, stack: Stack, loss: Loss | None) -> None:
        self._stack, self._loss = stack, loss
        self._free: list[Pass] = []

    def take(self, size: int, with_loss: bool = True) -> Pass:
        """Return a pass that is prepared for batches of this size, for one thread until `give`."""
        try:
            taken = self._free.pop()        # atomic, as append is
        except IndexError:
            taken = Pass(self._stack, self._loss, training=False)
        taken.prepare(size, with_loss)
        return taken

    def give(self, taken: Pass) -> None:
        """Take a pass back."""
        self._free.append(taken)
