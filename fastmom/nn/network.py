"""A stack of layers: what it consists of, its weights and its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import dropwhile
from typing import Any

import numpy as np

from fastmom.checks import integer
from fastmom.kernels import layers as kernels
from fastmom.nn.batches import EVALUATION_BATCH, Samples, check_input
from fastmom.nn.dense import Dense
from fastmom.nn.layers import Flatten, Layer, Rescaling, Shape
from fastmom.types import Array, Numbers


class Network:
    """Layers one after the other; `Sequential` trains them.

    It is built, which creates the weights, as soon as the shape of a sample is known: from the
    first layer's ``input_shape``, or from the first data.
    """

    def __init__(self, layers: Iterable[Layer] = (), *, seed: int = 0,
                 dtype: str = "float32") -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a list of layers, not {type(layers).__name__}")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
        self.seed = integer("seed", seed, 0)
        self.dtype = np.dtype(dtype)
        self.layers: list[Layer] = []
        self.input_shape: Shape | None = None
        self._weights_rng, self._order = np.random.default_rng(seed).spawn(2)
        self._batch = 0
        try:
            for layer in layers:
                self.add(layer)
        except BaseException:       # a model that was not made owns nothing
            for layer in self.layers:
                layer.in_use = False
            raise

    def add(self, layer: Layer) -> None:
        """Append a layer; the model has to be compiled again.

        Raises
        ------
        TypeError, ValueError
            If it is no layer, is in use already or does not fit the layer before. The model is as
            before then.
        """
        i = len(self.layers)
        if not isinstance(layer, Layer):
            raise TypeError(f"layers[{i}] must be a layer, not {type(layer).__name__}")
        if layer.in_use:
            raise ValueError(f"layers[{i}] is in use already; make a new {type(layer).__name__}"
                             f" for each place")
        if i and self.input_shape is None and layer.input_shape is not None:
            raise ValueError(f"layers[{i}] has input_shape {layer.input_shape}, but only the first "
                             f"layer can say what the samples are")
        if i == 0 and layer.input_shape is not None:
            self._build([layer], layer.input_shape)
            self.input_shape = layer.input_shape
        elif self.input_shape is not None:
            self._build([layer], self.output_shape)
        layer.in_use = True
        if self.layers:
            self.layers[-1].activated = True
        self.layers.append(layer)
        self._batch = 0

    def _build(self, layers: Sequence[Layer], shape: Shape) -> None:
        before = self._weights_rng.bit_generator.state
        try:
            for layer in layers:
                if layer.input_shape not in (None, shape):
                    raise ValueError(f"layers[{len(self.layers)}] has input_shape "
                                     f"{layer.input_shape}, but the layer before it gives {shape}")
                shape = layer.output_shape = layer.build(shape, self.dtype, self._weights_rng)
        except BaseException:       # what is built next has the weights it would have had
            self._weights_rng.bit_generator.state = before
            raise

    def build(self, input_shape: Sequence[int]) -> None:
        """Create the weights for samples of this shape, where the first layer does not say it.

        Raises
        ------
        ValueError
            If the model has no layers, or is built for another shape.
        """
        shape = tuple(integer("input_shape", n, 1) for n in input_shape)
        if not self.layers:
            raise ValueError("the model has no layers: add some")
        if self.input_shape is None:
            self._build(self.layers, shape)
            self.input_shape = shape
        elif shape != self.input_shape:
            raise ValueError(f"the model is built for samples of shape {self.input_shape}, not "
                             f"{shape}")

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        self._check_built()
        return self.layers[-1].output_shape

    def _check_built(self) -> None:
        if self.input_shape is None:
            raise RuntimeError("the model has no weights yet: give the first layer an input_shape, "
                               "or call build(input_shape)")

    # Weights --------------------------------------------------------------------------------------

    @property
    def params(self) -> list[Array]:
        """The parameters of all layers, in order: the arrays themselves."""
        self._check_built()
        return [p for layer in self.layers for p in layer.params]

    @property
    def grads(self) -> list[Array]:
        """The gradients of the latest batch, aligned with `params`: the arrays themselves."""
        return [g for layer in self.layers for g in layer.grads]

    @property
    def weights(self) -> list[Array]:
        """Parameters and moving averages of all layers, in order: the arrays themselves."""
        self._check_built()
        return [w for layer in self.layers for w in (*layer.params, *layer.state)]

    def get_weights(self) -> list[Array]:
        """Return copies of `weights`."""
        return [w.copy() for w in self.weights]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Copy these into the model's, as `get_weights` returns them.

        Raises
        ------
        TypeError, ValueError
            If their number, a shape or a dtype is another. No weight has changed then.
        """
        own = self.weights
        if not isinstance(weights, (list, tuple)) or len(weights) != len(own):
            given = len(weights) if isinstance(weights, (list, tuple)) else type(weights).__name__
            raise ValueError(f"weights must be a list of {len(own)} arrays, not {given}")
        for i, (mine, new) in enumerate(zip(own, weights, strict=True)):
            if not isinstance(new, np.ndarray) or new.dtype != mine.dtype:
                raise TypeError(f"weights[{i}] must be a {mine.dtype} array, not "
                                f"{getattr(new, 'dtype', type(new).__name__)}")
            if new.shape != mine.shape:
                raise ValueError(f"weights[{i}] must have shape {mine.shape}, not {new.shape}")
        for mine, new in zip(own, weights, strict=True):
            mine[...] = new

    def summary(self, print_fn: Callable[[str], object] = print) -> None:
        """Print each layer with its output's shape and number of weights, line by line."""
        self._check_built()
        if not callable(print_fn):
            raise TypeError(f"print_fn must be callable, not {print_fn!r}")
        rows = [("layer", "output", "weights")]
        for layer in self.layers:
            count = sum(w.size for w in (*layer.params, *layer.state))
            shape = ", ".join(map(str, layer.output_shape))
            rows.append((type(layer).__name__, f"(samples, {shape})", f"{count:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, output, count_text in rows:
            print_fn(f"{name:{widths[0]}}  {output:{widths[1]}}  {count_text:>{widths[2]}}")
        trained, total = (sum(w.size for w in ws) for ws in (self.params, self.weights))
        megabytes = sum(w.nbytes for w in self.weights) / 1e6
        print_fn(f"{total:,} weights, {trained:,} of them trained, {megabytes:.2f} MB")

    # Output ---------------------------------------------------------------------------------------

    def predict(self, x: Numbers) -> Array:
        """The model's output for each sample, a new array of shape (samples, *output_shape).

        Parameters
        ----------
        x : ndarray of shape (samples, *input_shape)
            Of real numbers, all finite; converted to the model's dtype batch by batch.
        """
        x = self._check_input(x)
        samples = self._samples(x, EVALUATION_BATCH)
        result = np.empty((len(x), *self.output_shape), self.dtype)
        last = self.layers[-1]
        for i, xb, _, _ in samples:
            part = result[i:i + len(xb)]
            part[...] = self._outputs(xb, training=False)
            if not last.activated:
                last.activation.forward(part, training=False)
        return result

    def _outputs(self, x: Array, training: bool) -> Array:
        """The last layer's output, without its activation where the loss includes that."""
        for layer in self._path:
            x = layer.forward(x, training)
        return x

    def _samples(self, x: Any, batch: int, *columns: Any) -> Samples:
        """Batches of these samples, for which the layers have buffers then."""
        batch = max(1, min(batch, len(x)))
        if batch > self._batch:
            needs_dx = False
            for layer in self.layers:
                layer.allocate(batch, self.dtype, needs_dx)
                needs_dx = needs_dx or bool(layer.params)
            self._allocate_loss(batch)
            self._batch = batch
        return self._take(x, batch, *columns)

    def _take(self, x: Array, batch: int, y: Any = None, weights: Any = None) -> Samples:
        """The samples as what the first layers would make of them, and the path from there."""
        path, scaling, sparse = [*self.layers], (1.0, 0.0), None
        if isinstance(path[0], Rescaling):
            scaling = path[0].scale, path[0].offset
            path = path[1:]
        rest = list(dropwhile(lambda layer: isinstance(layer, Flatten), path))
        first = rest[0] if rest else None
        if (isinstance(first, Dense) and first.nonzeros is not None and scaling[1] == 0
                and kernels.is_sparse(x)):
            path, sparse = rest, first
        self._path: list[Layer] = path
        return Samples(x, batch, self.dtype, scaling, y, weights, sparse)

    def _allocate_loss(self, batch: int) -> None:
        """Where there is a loss, it has buffers too."""

    def _check_input(self, x: Any) -> Any:
        x = check_input(x, self.dtype)
        if self.input_shape is None:
            self.build(x.shape[1:])
        if x.shape[1:] != self.input_shape:
            shape = ", ".join(map(str, self.input_shape or ()))
            raise ValueError(f"x must have shape (samples, {shape}), not {x.shape}")
        return x

