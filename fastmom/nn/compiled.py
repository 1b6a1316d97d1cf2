"""A network with a loss, metrics and an optimizer: all that one step needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastmom.checks import number, reject_unknown
from fastmom.nn.batches import class_weights, sample_weights
from fastmom.nn.losses import Loss, get_loss
from fastmom.nn.metrics import get_metric
from fastmom.nn.network import Network
from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.types import Array

# The loss of a model that says none, by its last activation
LOSS_OF = {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy"}


class Compiled(Network):
    """What `Sequential` is between two steps."""

    optimizer: Optimizer | None = None
    loss: Loss

    def compile(self, optimizer: Optimizer | str = "sgd", loss: Loss | str | None = None,
                metrics: Sequence[Any] | None = None, **hyper: Any) -> None:
        """Choose optimizer and loss; a model that is compiled again keeps its weights.

        Parameters
        ----------
        optimizer : Optimizer or str
            An optimizer without params, which is bound to this model's, or its name.
        loss : str or Loss, optional
            "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy",
            "mean_squared_error" ("mse"), "mean_absolute_error" ("mae") or "huber". By default what
            fits the last activation: the first for softmax, binary cross-entropy for sigmoid, and
            else the mean squared error.
        metrics : list, optional
            Names such as "accuracy", or functions: see `fastmom.nn.metrics.get_metric`.
        **hyper
            Hyper-parameters for an optimizer given by name, e.g. ``momentum=0.9``.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or loss, metrics and the last layer do not fit together.
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
        head = self._head()
        chosen = get_loss(LOSS_OF.get(head, "mean_squared_error") if loss is None else loss)
        if chosen.fused not in (None, head):
            raise ValueError(f"loss {chosen.name!r} needs a last layer with "
                             f"activation={chosen.fused!r}, not {head!r}")
        metrics = [] if metrics is None else metrics
        if not isinstance(metrics, (list, tuple)):
            raise TypeError(f"metrics must be a list or None, not {metrics!r}")
        functions = dict(get_metric(metric, chosen) for metric in metrics)
        if self.input_shape is not None:
            optimizer.bind(self.params)
        self.optimizer, self.loss, self.metrics = optimizer, chosen, list(metrics)
        self._metrics = functions
        self.layers[-1].activated = chosen.fused in (None, "linear")
        self._batch = 0

    def _head(self) -> str:
        """The name of the last activation."""
        if not self.layers:
            raise RuntimeError("the model has no layers: add some before compiling it")
        activation = self.layers[-1].activation
        return "linear" if activation is None else str(activation.name)

    def add(self, layer: Any) -> None:
        super().add(layer)
        self.optimizer = None

    add.__doc__ = Network.add.__doc__

    def build(self, input_shape: Sequence[int]) -> None:
        new = self.input_shape is None
        super().build(input_shape)
        if new and self.optimizer is not None:
            try:
                self.optimizer.bind(self.params)
            except BaseException:       # else it would go on with the parameters of another model
                self.input_shape = None
                raise

    build.__doc__ = Network.build.__doc__

    # Steps ----------------------------------------------------------------------------------------

    def _train(self, x: Array, y: Any, weights: Any) -> list[float]:
        """One step; returns the sums of the losses and metrics before it."""
        assert self.optimizer is not None
        result = self._measure(x, y, weights, training=True)
        dy: Array | None = self.loss.dz[:len(x)]
        for layer in reversed(self._path):
            if dy is None:
                break
            dy = layer.backward(dy)
        self.optimizer.step(self._grads)
        return result

    def _measure(self, x: Array, y: Any, weights: Any, training: bool = False) -> list[float]:
        outputs = self._outputs(x, training)
        loss = self.loss.forward(outputs, y, weights, training)
        return [loss, *(metric(outputs, y) for metric in self._metrics.values())]

    # Data -----------------------------------------------------------------------------------------

    def _figures(self, sums: Sequence[float], samples: int) -> dict[str, float]:
        return {name: value / samples
                for name, value in zip(("loss", *self._metrics), sums, strict=True)}

    def _allocate_loss(self, batch: int) -> None:
        if self.optimizer is not None:
            self.loss.allocate((batch, *self.output_shape), self.dtype)
            self._grads = self.grads

    def _check_data(self, x: Any, y: Any, weights: Any = None,
                    by_class: Any = None) -> tuple[Any, Any, Any]:
        """Samples, targets and weights as the batches take them, or an error that names them."""
        if self.optimizer is None:
            raise RuntimeError("compile the model first")
        x = self._check_input(x)
        y = self.loss.check(y, self.output_shape, self.dtype)
        if len(x) != len(y) or not len(x):
            raise ValueError(f"x has {len(x)} samples and y has {len(y)}; both must have the same "
                             f"number, at least one")
        if weights is not None:
            weights = sample_weights(weights, len(x), self.dtype)
        if by_class is not None:
            factor = class_weights(by_class, y, self.loss.targets, self.output_shape[-1])
            weights = sample_weights(factor if weights is None else factor * weights, len(x),
                                     self.dtype)
        return x, y, weights

    def _split(self, data: tuple[Any, Any, Any], share: float) -> tuple[Any, Any]:
        """Hold out the last samples."""
        share = number("validation_split", share, 0.0, 1.0)
        n = len(data[0])
        kept = int(n * (1 - share))
        if share and not 0 < kept < n:
            raise ValueError(f"validation_split={share!r} of {n} samples leaves {kept} to train on "
                             f"and {n - kept} to evaluate; both must be at least one")
        if not share:
            return data, None
        parts = [[None if a is None else a[part] for a in data]
                 for part in (slice(kept), slice(kept, n))]
        return parts[0], parts[1]

    def _check_held_out(self, given: Any) -> dict[str, tuple[Any, Any, Any]]:
        """Return the samples to evaluate after each epoch, by the prefix of their metrics."""
        if not isinstance(given, Mapping):
            return {"val": self._check_evaluated("validation_data", given)}
        for name in given:
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"validation_data must have words as keys, not {name!r}")
        return {name: self._check_evaluated(f"validation_data[{name!r}]", samples)
                for name, samples in given.items()}

    def _check_evaluated(self, name: str, given: Any) -> tuple[Any, Any, Any]:
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise TypeError(f"{name} must be a tuple (x, y) or (x, y, sample_weight), not "
                            f"{type(given).__name__}")
        try:
            return self._check_data(*given)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
