"""A stack of layers that trains with the library's optimizers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastmom.nn.activations import Activation, Softmax
from fastmom.nn.batches import batches
from fastmom.nn.callbacks import Callback, CallbackList, History, figures_line, validate
from fastmom.nn.layers import Dense, Layer, positive_int
from fastmom.nn.losses import LOSSES, Labels
from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.optim.hyper import reject_unknown
from fastmom.types import Array

EVALUATION_BATCH = 1024


class Sequential:
    """Layers applied one after another.

    Parameters
    ----------
    layers : iterable of Layer
        The first one has an `input_shape`. To train, the last one ends in softmax. A layer
        belongs to one model, in one place.
    seed : int, default 0
        Of the initial weights, the dropout masks and the order of the samples. The same seed gives
        the same weights, bit for bit, on the same machine with as many BLAS threads; the threads
        of fastmom do not matter.
    dtype : {"float32", "float64"}
        Of parameters, activations and gradients.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> model = fm.nn.Sequential([
    ...     fm.nn.Flatten(input_shape=(28, 28)), fm.nn.Dense(128, activation="relu"),
    ...     fm.nn.Dropout(0.2), fm.nn.Dense(10, activation="softmax")])
    >>> model.compile(fm.SGD(lr=0.01, momentum=0.9, nesterov=True),
    ...               loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> x, y = np.zeros((64, 28, 28), np.float32), np.zeros(64, np.int64)
    >>> history = model.fit(x, y, epochs=2)
    >>> sorted(history.history)
    ['accuracy', 'loss', 'seconds']
    """

    def __init__(self, layers: Iterable[Layer], *, seed: int = 0, dtype: str = "float32") -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a list of layers, not {type(layers).__name__}")
        self.layers = list(layers)
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{i}] must be a layer, not {type(layer).__name__}")
            if layer.in_use or layer in self.layers[:i]:
                raise ValueError(f"layers[{i}] is in use already; make a new {type(layer).__name__}"
                                 f" for each place")
        if not self.layers or self.layers[0].input_shape is None:
            raise ValueError("layers must start with one that has an input_shape")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed must be an integer >= 0, not {seed!r}")
        self.dtype = np.dtype(dtype)
        self.input_shape = self.layers[0].input_shape
        weights, self._order = np.random.default_rng(seed).spawn(2)
        shape = self.input_shape
        for i, layer in enumerate(self.layers):
            if layer.input_shape not in (None, shape):
                raise ValueError(f"layers[{i}] has input_shape {layer.input_shape}, but the layer "
                                 f"before it gives {shape}")
            shape = layer.build(shape, self.dtype, weights)
        self.output_shape = shape
        for layer in self.layers:
            layer.in_use = True
        # Losses work on logits, so the last activation is left to them, and to `predict`.
        self.head = Activation()
        if isinstance(self.layers[-1], Dense):
            self.head, self.layers[-1].activation = self.layers[-1].activation, self.head
        self.optimizer: Optimizer | None = None
        self._batch = 0

    @property
    def params(self) -> list[Array]:
        """The parameters of all layers, in order: the arrays themselves."""
        return [p for layer in self.layers for p in layer.params]

    @property
    def grads(self) -> list[Array]:
        """The gradients of the latest batch, aligned with `params`: the arrays themselves."""
        return [g for layer in self.layers for g in layer.grads]

    def compile(self, optimizer: Optimizer | str = "sgd",
                loss: str = "sparse_categorical_crossentropy",
                metrics: Sequence[str] | None = None, **hyper: Any) -> None:
        """Choose optimizer and loss; a model that is compiled again keeps its weights.

        Parameters
        ----------
        optimizer : Optimizer or str
            An optimizer without params, which is bound to this model's, or its name.
        loss : {"sparse_categorical_crossentropy"}
        metrics : list of str, optional
            ``["accuracy"]``, or nothing.
        **hyper
            Hyper-parameters for an optimizer given by name, e.g. ``momentum=0.9``.
        """
        if isinstance(optimizer, str):
            if optimizer.lower() not in OPTIMIZERS:
                raise ValueError(f"optimizer must be one of {', '.join(map(repr, OPTIMIZERS))} or "
                                 f"an Optimizer, not {optimizer!r}")
            optimizer = OPTIMIZERS[optimizer.lower()](**hyper)
        elif not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a name or an Optimizer, not {optimizer!r}")
        else:
            reject_unknown("compile with an Optimizer object", hyper,
                           {"optimizer", "loss", "metrics"})
        if not isinstance(loss, str) or loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(map(repr, LOSSES))}, not {loss!r}")
        metrics = [] if metrics is None else metrics
        if not isinstance(metrics, (list, tuple)):
            raise TypeError(f"metrics must be a list of names or None, not {metrics!r}")
        for metric in metrics:
            if metric not in ("accuracy", "acc"):
                raise ValueError(f"metrics may hold 'accuracy' or 'acc', not {metric!r}")
        if not isinstance(self.head, Softmax):
            raise ValueError(f"loss {loss!r} needs a last layer with activation='softmax'")
        optimizer.bind(self.params)
        self.optimizer, self.loss = optimizer, LOSSES[loss]()
        self.metrics = list(metrics)
        self._grads = self.grads

    # Training -------------------------------------------------------------------------------------

    def fit(self, x: Array, y: Labels, *, batch_size: int = 32, epochs: int = 1,
            validation_data: tuple[Array, Labels] | None = None, shuffle: bool = True,
            callbacks: Sequence[Callback] = ()) -> History:
        """Train for some epochs.

        Parameters
        ----------
        x : ndarray of shape (samples, *input_shape), of the model's dtype
        y : ndarray of int, shape (samples,)
        batch_size, epochs : int
            The last batch of an epoch holds what is left.
        validation_data : (x, y), optional
            Evaluated after each epoch, as ``val_loss`` and ``val_accuracy``.
        shuffle : bool, default True
            Take the samples in a new random order each epoch.
        callbacks : sequence of Callback

        Returns
        -------
        History
            Mean loss and accuracy over each epoch's batches, and ``seconds`` of training alone,
            without the evaluation.

        Notes
        -----
        Small products gain little from BLAS's threads, which can take many times as long where
        another process wants the cores: ``threadpoolctl.threadpool_limits(1, user_api="blas")``.
        """
        batch_size, epochs = positive_int("batch_size", batch_size), positive_int("epochs", epochs)
        if not isinstance(shuffle, bool):
            raise TypeError(f"shuffle must be True or False, not {shuffle!r}")
        validate(callbacks)
        x, y = self._check_data(x, y)
        if validation_data is not None:
            validation_data = self._check_held_out(validation_data)
        batch_size = min(batch_size, len(x))
        history = History()
        run = CallbackList([*callbacks, history], self, {
            "epochs": epochs, "steps": -(-len(x) // batch_size), "verbose": 0})
        self.stop_training = False
        with run:
            for epoch in range(epochs):
                run.on_epoch_begin(epoch)
                logs = self._epoch(x, y, batch_size, shuffle, run)
                if validation_data is not None:
                    logs |= {f"val_{k}": v for k, v in self._evaluate(*validation_data).items()}
                run.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
        return history

    def get_weights(self) -> list[Array]:
        return [p.copy() for p in self.params]

    def set_weights(self, weights: Sequence[Array]) -> None:
        for p, w in zip(self.params, weights, strict=True):
            p[...] = w

    def _epoch(self, x: Array, y: Labels, batch_size: int, shuffle: bool,
               run: CallbackList) -> dict[str, float]:
        self._allocate(batch_size)
        start = time.perf_counter()
        order = self._order.permutation(len(x)) if shuffle else None
        loss = correct = seen = 0.0
        for step, (xb, yb) in enumerate(batches(x, y, batch_size, order)):
            run.on_train_batch_begin(step)
            batch_loss, batch_correct = self._train(xb, yb)
            loss, correct, seen = loss + batch_loss, correct + batch_correct, seen + len(yb)
            if run.wants_batches:
                run.on_train_batch_end(step, self._figures(loss, correct, seen))
        return self._figures(loss, correct, seen) | {"seconds": time.perf_counter() - start}

    def train_on_batch(self, x: Array, y: Labels) -> dict[str, float]:
        """One step on one batch; returns its loss and metrics before the step."""
        x, y = self._check_data(x, y)
        self._allocate(len(x))
        return self._figures(*self._train(x, y), len(x))

    def _train(self, x: Array, y: Labels) -> tuple[float, int]:
        """One step; returns the summed loss and the number of correct guesses before it."""
        assert self.optimizer is not None
        logits = self._logits(x, training=True)
        result = self.loss.forward(logits, y)
        dy: Array | None = self.loss.backward(logits, y)
        for layer in reversed(self.layers):
            if dy is None:
                break
            dy = layer.backward(dy)
        self.optimizer.step(self._grads)
        return result

    def _logits(self, x: Array, training: bool) -> Array:
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    # Using the model ------------------------------------------------------------------------------

    def evaluate(self, x: Array, y: Labels, *, verbose: int = 0) -> dict[str, float]:
        """Mean loss and metrics, without dropout; with ``verbose=2`` also printed on one line."""
        if verbose not in (0, 2):
            raise ValueError(f"verbose must be 0 (silent) or 2 (one line), not {verbose!r}")
        figures = self._evaluate(*self._check_data(x, y))
        if verbose:
            print(figures_line(figures))
        return figures

    def _evaluate(self, x: Array, y: Labels) -> dict[str, float]:
        loss, correct = 0.0, 0
        self._allocate(min(EVALUATION_BATCH, len(x)))
        for xb, yb in batches(x, y, EVALUATION_BATCH):
            batch_loss, batch_correct = self.loss.forward(self._logits(xb, training=False), yb)
            loss, correct = loss + batch_loss, correct + batch_correct
        return self._figures(loss, correct, len(x))

    def predict(self, x: Array) -> Array:
        """The model's output for each sample, a new array of shape (samples, *output_shape)."""
        x = self._check_input(x)
        self._allocate(min(EVALUATION_BATCH, max(1, len(x))))
        result = np.empty((len(x), *self.output_shape), self.dtype)
        for i in range(0, len(x), EVALUATION_BATCH):
            part = result[i:i + EVALUATION_BATCH]
            part[...] = self._logits(x[i:i + EVALUATION_BATCH], training=False)
            self.head.forward(part)
        return result

    # Helpers --------------------------------------------------------------------------------------

    def _figures(self, loss: float, correct: float, samples: float) -> dict[str, float]:
        return {"loss": loss / samples} | dict.fromkeys(self.metrics, correct / samples)

    def _allocate(self, batch: int) -> None:
        if batch > self._batch:
            for i, layer in enumerate(self.layers):
                layer.allocate(batch, self.dtype,
                               needs_dx=any(below.params for below in self.layers[:i]))
            self._batch = batch

    def _check_input(self, x: Any) -> Array:
        if not isinstance(x, np.ndarray) or x.dtype != self.dtype:
            given = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise TypeError(f"x must be a {self.dtype} array, not {given}")
        if x.shape[1:] != self.input_shape:
            raise ValueError(f"x must have shape (samples, {', '.join(map(str, self.input_shape))})"
                             f", not {x.shape}")
        if not np.isfinite([x.min(initial=0), x.max(initial=0)]).all():
            raise ValueError("x has a NaN or an infinity; all values must be finite")
        return np.asarray(x, order="C")     # batches are gathered from contiguous arrays

    def _check_data(self, x: Array, y: Labels) -> tuple[Array, Labels]:
        if self.optimizer is None:
            raise RuntimeError("compile the model first")
        x, y = self._check_input(x), self.loss.check(y, self.output_shape[-1])
        if len(x) != len(y) or not len(x):
            raise ValueError(f"x has {len(x)} samples and y has {len(y)}; both must have the same "
                             f"number, at least one")
        return x, y

    def _check_held_out(self, pair: Any) -> tuple[Array, Labels]:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"validation_data must be a tuple (x, y), not {type(pair).__name__}")
        try:
            return self._check_data(*pair)
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation_data: {error}") from None
