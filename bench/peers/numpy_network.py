"""A network and its training in NumPy alone, as a careful user writes them.

Buffers are made once and filled with ``out=``; parameters, gradients and velocities are three flat
arrays, so that a step of the optimizer is a few calls however many layers there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

F = np.float32
Shape = tuple[int, int]


class Training(NamedTuple):
    batch: int
    lr: float
    momentum: float         # Nesterov's
    decay: float = 0.0      # lr / (1 + decay * step)
    dropout: float = 0.0    # after each hidden layer


class Network:
    """Dense layers with ReLU and dropout, softmax and cross-entropy.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Inputs and outputs of each layer.
    training : Training
    seed : int
    """

    def __init__(self, shapes: Sequence[Shape], training: Training, seed: int = 0) -> None:
        self.training, self.rng, self.steps = training, np.random.default_rng(seed), 0
        sizes = [size for inputs, outputs in shapes for size in (inputs * outputs, outputs)]
        self.flat, self.velocity, self.gradient, self.scratch = np.zeros((4, sum(sizes)), F)
        self.params, self.grads = (pieces(flat, shapes) for flat in (self.flat, self.gradient))
        for w in self.params[::2]:
            bound = (6 / sum(w.shape)) ** 0.5       # Glorot's
            w[...] = self.rng.uniform(-bound, bound, w.shape)
        batch = training.batch
        self.inputs = [np.empty((batch, inputs), F) for inputs, _ in shapes]
        self.errors = [np.empty((batch, outputs), F) for _, outputs in shapes]
        self.random = [np.empty((batch, outputs), F) for _, outputs in shapes[:-1]]
        self.masks = [np.empty((batch, outputs), np.bool_) for _, outputs in shapes[:-1]]
        self.rows = np.arange(batch)

    def train(self, x: Any, y: Any) -> tuple[float, float]:
        """Train for an epoch on rows of float32, or of 8 bits; return mean loss and accuracy."""
        order, batch = self.rng.permutation(len(x)), self.training.batch
        of_truth, guesses = np.empty(len(x), F), np.empty(len(x), np.intp)
        shuffled = y[order]
        for start in range(0, len(x), batch):
            part = slice(start, start + batch)
            self.gather(x, order[part])
            probabilities = self.forward(len(shuffled[part]))
            of_truth[part] = probabilities[self.rows[:len(probabilities)], shuffled[part]]
            guesses[part] = probabilities.argmax(axis=1)
            self.backward(probabilities, shuffled[part])
            self.step()
        loss = -np.log(np.maximum(of_truth, 1e-7)).mean()
        return float(loss), float((guesses == shuffled).mean())

    def gather(self, x: Any, chosen: Any) -> None:
        into = self.inputs[0][:len(chosen)]
        if x.dtype == F:
            np.take(x, chosen, axis=0, out=into, mode="clip")       # the mode that does not buffer
        else:
            np.multiply(x[chosen], F(1 / 255), out=into)

    def forward(self, count: int) -> Any:
        """Return the probabilities of so many gathered rows; they lie where the errors will."""
        kept = F(1 - self.training.dropout)
        for i, (random, mask) in enumerate(zip(self.random, self.masks, strict=True)):
            h, mask = self.inputs[i + 1][:count], mask[:count]
            np.matmul(self.inputs[i][:count], self.params[2 * i], out=h)
            np.add(h, self.params[2 * i + 1], out=h)
            np.maximum(h, 0, out=h)
            if self.training.dropout:
                np.less(self.rng.random(out=random, dtype=F)[:count], kept, out=mask)
                np.multiply(h, mask, out=h)
                np.multiply(h, 1 / kept, out=h)
        z = self.errors[-1][:count]
        np.matmul(self.inputs[-1][:count], self.params[-2], out=z)
        return softmax(np.add(z, self.params[-1], out=z))

    def backward(self, errors: Any, y: Any) -> None:
        """Compute the gradients from the probabilities, which it turns into errors."""
        count, kept = len(y), F(1 - self.training.dropout)
        errors[self.rows[:count], y] -= 1
        np.multiply(errors, F(1 / count), out=errors)
        for i in reversed(range(len(self.inputs))):
            x = self.inputs[i][:count]
            np.matmul(x.T, errors, out=self.grads[2 * i])
            np.sum(errors, axis=0, out=self.grads[2 * i + 1])
            if i:
                below, mask = self.errors[i - 1][:count], self.masks[i - 1][:count]
                np.matmul(errors, self.params[2 * i].T, out=below)
                np.multiply(below, np.greater(x, 0, out=mask), out=below)
                errors = np.multiply(below, 1 / kept, out=below) if kept < 1 else below

    def step(self) -> None:
        """Take a step of SGD with Nesterov momentum."""
        lr, m = self.training.lr / (1 + self.training.decay * self.steps), F(self.training.momentum)
        v, g, change = self.velocity, self.gradient, self.scratch
        np.multiply(v, m, out=v)
        np.add(v, g, out=v)
        np.multiply(v, m, out=change)
        np.add(change, g, out=change)
        np.multiply(change, F(lr), out=change)
        np.subtract(self.flat, change, out=self.flat)
        self.steps += 1

    def predict(self, x: Any) -> Any:
        h = x.reshape(len(x), -1)
        if h.dtype != F:
            h = np.multiply(h, F(1 / 255), dtype=F)
        for w, b in zip(self.params[:-2:2], self.params[1:-2:2], strict=True):
            h = h @ w
            h += b
            np.maximum(h, 0, out=h)
        h = h @ self.params[-2]
        h += self.params[-1]
        return softmax(h)

    def evaluate(self, x: Any, y: Any) -> list[float]:
        """Return loss and accuracy."""
        probabilities = self.predict(x)
        of_truth = np.maximum(probabilities[np.arange(len(y)), y], 1e-7)
        return [-np.log(of_truth).mean(), (probabilities.argmax(axis=1) == y).mean()]


def pieces(flat: Any, shapes: Sequence[Shape]) -> list[Any]:
    """Return weights and biases in turn, as views."""
    found, start = [], 0
    for shape in (s for inputs, outputs in shapes for s in ((inputs, outputs), (outputs,))):
        size = int(np.prod(shape))
        found.append(flat[start:start + size].reshape(shape))
        start += size
    return found


def softmax(z: Any) -> Any:
    """Turn logits into probabilities, in place."""
    np.subtract(z, z.max(axis=1, keepdims=True), out=z)
    np.exp(z, out=z)
    return np.divide(z, z.sum(axis=1, keepdims=True), out=z)
