"""A stack of layers: adding, building, and its weights."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastmom.checks import integer
from fastmom.nn.inputs import check_input
from fastmom.nn.layer_base import Layer, Shape
from fastmom.types import Array


class Input:
    """The shape of a sample, as the first entry of a model's layers; as Keras's ``Input``.

    The same as ``input_shape`` of the first layer.

    Parameters
    ----------
    shape : sequence of int

    Examples
    --------
    >>> from fastmom import nn
    >>> nn.Sequential([nn.Input((2,)), nn.Dense(3)]).output_shape
    (3,)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        if not (isinstance(shape, Sequence) and shape):
            raise TypeError(f"shape must be a sequence of integers >= 1, not {shape!r}")
        self.shape: Shape = tuple(integer("shape", n, 1) for n in shape)

    def __repr__(self) -> str:
        return f"Input({self.shape!r})"


class Stack:
    """Layers one after the other, with one dtype.

    Attributes
    ----------
    layers : tuple of Layer
    input_shape : tuple of int, or None before the weights exist
    bind : callable, optional
        What to call with the parameters once they exist.
    changes : list of one int
        Counts what a `Pass` has to take up: a layer's settings.
    """

    def __init__(self, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
        self.dtype, self.rng = dtype, rng
        self.layers: tuple[Layer, ...] = ()
        self.input_shape: Shape | None = None
        self.changes = [0]
        self.bind: Callable[[list[Array]], None] | None = None
        self._building, self._blank = threading.RLock(), False
        self._declared: Shape | None = None     # by an Input before the first layer

    def add(self, layer: Layer | Input) -> None:
        """Append a layer; one that does not fit raises and changes nothing."""
        i = len(self.layers)
        if isinstance(layer, Input):
            if i or self._declared is not None:
                raise ValueError(f"layers[{i}] is an Input; only the first entry can be one")
            self._declared = layer.shape
            return
        if not isinstance(layer, Layer):
            raise TypeError(f"layers[{i}] must be a layer, not {type(layer).__name__}")
        if layer.in_use:
            raise ValueError(f"layers[{i}] is in use already; make a new {type(layer).__name__}"
                             f" for each place")
        if i and self.input_shape is None and layer.input_shape is not None:
            raise ValueError(f"layers[{i}] has input_shape {layer.input_shape}, but only the first "
                             f"layer can say what the samples are")
        shape = self.output_shape if self.input_shape is not None else None
        if i == 0:
            shape = self._declared or layer.input_shape
        if shape is not None:
            self._build([layer], shape)
            self.input_shape = self.input_shape or shape
        self.layers = (*self.layers, layer)
        self._own(layer)

    def _own(self, layer: Layer) -> None:
        layer.in_use = True
        vars(layer)["_changes"] = self.changes

    def release(self) -> None:
        """Let other models take the layers."""
        for layer in self.layers:
            layer.in_use = False
            vars(layer)["_changes"] = None

    @contextmanager
    def blank(self) -> Iterator[None]:
        """Leave weights at zero where their values come from a file; zeros take no memory yet."""
        self._blank = True
        try:
            yield
        finally:
            self._blank = False

    def build(self, shape: Shape) -> None:
        """Create all weights for samples of this shape, once; any thread may be the first."""
        with self._building:
            if self.input_shape is not None:
                return
            if not self.layers:
                raise ValueError("the model has no layers: add some")
            self._build(self.layers, shape, self.bind)
            self.input_shape = shape        # last: other threads look at it

    def checked(self, x: Any) -> Any:
        """Return samples as batches take them, and build for them; raises naming x."""
        x = check_input(x, self.dtype)
        if self.input_shape is None:
            self.build(x.shape[1:])
        if x.shape[1:] != self.input_shape:
            shape = ", ".join(map(str, self.input_shape or ()))
            raise ValueError(f"x must have shape (samples, {shape}), not {x.shape}")
        return x

    def _build(self, layers: Sequence[Layer], shape: Shape,
               bind: Callable[[list[Array]], None] | None = None) -> None:
        before = self.rng.bit_generator.state
        try:
            for layer in layers:
                if layer.input_shape not in (None, shape):
                    above = "the layer before it gives" if self.layers else "the Input says"
                    raise ValueError(f"layers[{len(self.layers)}] has input_shape "
                                     f"{layer.input_shape}, but {above} {shape}")
                vars(layer)["_weights"] = None
                declares = type(layer).build is Layer.build
                shape = layer.output_shape = layer.build(
                    shape, self.dtype, None if self._blank and declares else self.rng)
                layer.close()
            if bind is not None:
                bind([p for layer in layers for p in layer.params])
        except BaseException:       # what is built next has the weights it would have had
            self.rng.bit_generator.state = before
            raise

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        self.check_built()
        return self.layers[-1].output_shape

    def check_built(self) -> None:
        """Raise RuntimeError if there are no weights yet."""
        if self.input_shape is None:
            raise RuntimeError("the model has no weights yet: give the first layer an input_shape, "
                               "or call build(input_shape)")

    @property
    def params(self) -> list[Array]:
        """The parameters of all layers, in order: the arrays themselves."""
        self.check_built()
        return [p for layer in self.layers for p in layer.params]

    @property
    def weights(self) -> list[Array]:
        """Parameters and state of all layers, in order: the arrays themselves."""
        self.check_built()
        return [w for layer in self.layers for w in layer.weights]

    def named_weights(self) -> dict[str, Array]:
        """Return `weights` by place, layer and attribute, as in ``"1.Dense.kernel"``."""
        self.check_built()
        return {f"{i}.{layer.kind}.{name}": array for i, layer in enumerate(self.layers)
                for name, array in layer.named_weights().items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "bind": None, "_building": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _building=threading.RLock())
        for layer in self.layers:
            self._own(layer)

    def summary(self) -> Iterator[str]:
        """Yield a line per layer with its output's shape and number of weights, and the totals."""
        self.check_built()
        rows = [("layer", "output", "weights")]
        for layer in self.layers:
            shape = ", ".join(map(str, layer.output_shape))
            rows.append((type(layer).__name__, f"(samples, {shape})",
                         f"{sum(w.size for w in layer.weights):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, output, count_text in rows:
            yield f"{name:{widths[0]}}  {output:{widths[1]}}  {count_text:>{widths[2]}}"
        trained = sum(p.size for layer in self.layers if layer.trainable for p in layer.params)
        total = sum(w.size for w in self.weights)
        megabytes = sum(w.nbytes for w in self.weights) / 1e6
        yield f"{total:,} weights, {trained:,} of them trained, {megabytes:.2f} MB"


def declared_weights(layers: Sequence[Layer], shape: Shape) -> tuple[int, bool]:
    """Count the weights that layers need for samples of this shape, without making any.

    Returns
    -------
    tuple of int and bool
        The number, and whether it is that of all layers: one with a `build` of its own does not
        say what it makes.
    """
    count = 0
    for layer in layers:
        if type(layer).build is not Layer.build:
            return count, False
        output = layer.compute_output_shape(shape)
        count += sum(math.prod(weight.shape)
                     for weight in layer.describe_weights(shape).values())
        shape = output
    return count, True
