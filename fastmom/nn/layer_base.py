"""The base of all layers: weights, buffers and copies."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np

from fastmom.checks import flag, integer, reject_unknown
from fastmom.nn.activations import Linear
from fastmom.nn.initializers import INITIALIZERS, Initializer
from fastmom.nn.memory import gradients_of, on_lines, zeros_on_lines
from fastmom.nn.registered import Registered
from fastmom.optim.state_checks import check_fits
from fastmom.types import Array

Shape: TypeAlias = tuple[int, ...]

assign = object.__setattr__     # what a pass keeps: past the checks, which would cost 0.4 us each


class Weight(NamedTuple):
    """One of a layer's arrays: its shape, its initial values, and whether it is trained."""

    shape: Shape
    initializer: Initializer = INITIALIZERS["zeros"]
    trained: bool = True


class Layer(Registered):
    """Base of all layers: no weights, output shaped like the input.

    A subclass overrides `forward` and `backward`; with weights `describe_weights`; with another
    shape of output `compute_output_shape`; with buffers `allocate`. It is registered by its class's
    name, or by ``class Scale(nn.Layer, name="acme.Scale")``, so that models with it can be saved
    and loaded; its constructor's arguments are attributes of the same names, listed in `arguments`.

    A layer is allocated for a largest batch; smaller ones use the first rows of its buffers. What
    `forward` and `backward` return may be such a buffer: the next call overwrites it. Inference
    takes shallow copies of the layers, with the same weights and buffers of their own: what a pass
    writes has to be an attribute that `allocate`, `forward` or `backward` assigns.

    Attributes
    ----------
    arguments : dict of str to callable, or tuple of str
        The constructor's arguments, with a check ``value -> value as used`` where it is a dict.
    fixed : tuple of str
        The arguments that cannot change any more once the layer has its weights.
    buffers : tuple of str
        All other attributes that a pass assigns. A class that lists them refuses any other name,
        such as a misspelt one, and does not store them.
    counters : tuple of str
        Integers from 0 to 2**64 - 1 that are stored with the weights.
    params, grads : sequence of ndarray
        Aligned; `backward` overwrites the gradients, the optimizer updates the parameters.
    state : sequence of ndarray
        Stored with the parameters but not trained, such as moving averages.
    activation : Activation, optional
        Of a layer that ends in one. It is ``Linear()`` where the loss includes it.
    trainable : bool
        Whether the optimizer updates the parameters, from the next epoch or `train_on_batch` on.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom import nn
    >>> class Scale(nn.Layer):
    ...     def describe_weights(self, input_shape):
    ...         return {"factor": nn.Weight(input_shape, nn.Constant(2.0))}
    ...     def forward(self, x, training):
    ...         self.x = x
    ...         return x * self.factor
    ...     def backward(self, dy):
    ...         self.grads[0][...] = (dy * self.x).sum(axis=0)
    ...         return dy * self.factor
    >>> nn.Sequential([Scale(input_shape=(2,))]).predict(np.ones((1, 2)))
    array([[2., 2.]], dtype=float32)
    """

    fixed: ClassVar[tuple[str, ...]] = ()
    buffers: ClassVar[tuple[str, ...]] = ()
    counters: ClassVar[tuple[str, ...]] = ()
    is_view: ClassVar[bool] = False     # whether it passes on the same numbers in another shape

    _passing: ClassVar[frozenset[str]] = frozenset()    # names that a pass assigns
    _names: ClassVar[frozenset[str] | None] = None      # all names, where others are refused

    trainable: bool = True
    in_use: bool = False                # by a model: layers own their weights, so cannot be shared
    activation: Any = None
    numbers: Any = None                 # where a layer takes a batch as it is loaded, the loader
    nonzeros: Any = None                # and that of nonzeros alone
    shape: Shape = ()                   # of a sample that comes in
    output_shape: Shape = ()
    params: Sequence[Array] = ()
    grads: Sequence[Array] = ()
    state: Sequence[Array] = ()
    _weights: Mapping[str, Array] | None = None         # by attribute, once the layer is built
    _changes: list[int] | None = None                   # counts what passes have to take up

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__(name)
        cls._passing = frozenset((*cls.buffers, *cls.counters, "in_use", "output_shape"))
        cls._names = None
        if "buffers" in vars(cls):
            cls._names = frozenset((*cls._passing, *cls.arguments, "trainable", "input_shape",
                                    "activation", "params", "grads", "state", "shape"))

    def __init__(self, input_shape: Sequence[int] | None = None) -> None:
        if input_shape is not None and not (isinstance(input_shape, Sequence) and input_shape):
            raise TypeError(f"input_shape must be a sequence of integers >= 1, not {input_shape!r}")
        self.input_shape: Shape | None = None
        if input_shape is not None:
            self.input_shape = tuple(integer("input_shape", n, 1) for n in input_shape)

    # For subclasses to override -------------------------------------------------------------------

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of a sample's output; raises ValueError where the input does not fit."""
        return input_shape

    def describe_weights(self, input_shape: Shape) -> dict[str, Weight]:
        """Return the weights for samples of this shape, each by the attribute's name."""
        return {}

    def seed(self, rng: np.random.Generator) -> None:
        """Draw what the layer needs of random numbers besides its weights."""

    def build(self, input_shape: Shape, dtype: np.dtype[Any],
              rng: np.random.Generator | None) -> Shape:
        """Create the weights for samples of this shape and return the output's shape.

        Without a generator they are zeros, to be loaded. An overriding method always gets one.
        """
        output = self.compute_output_shape(input_shape)
        described = self.describe_weights(input_shape)
        arrays = {name: zeros_on_lines(weight.shape, dtype) if rng is None else
                  on_lines(weight.initializer(weight.shape, dtype, rng))
                  for name, weight in described.items()}
        params = [arrays[name] for name, weight in described.items() if weight.trained]
        vars(self).update(
            arrays, shape=input_shape, params=params, grads=gradients_of(params),
            state=[arrays[name] for name, weight in described.items() if not weight.trained])
        if rng is not None:
            self.seed(rng)
        self.close()
        return output

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        """Make buffers for batches of up to this many samples."""

    def forward(self, x: Array, training: bool) -> Array:
        """Return the output for a batch."""
        raise NotImplementedError

    def backward(self, dy: Array) -> Array | None:
        """Fill `grads` from the gradient of the output, and return that of the input.

        May overwrite ``dy``. None where nobody needs the input's gradient (``needs_dx=False``).
        """
        raise NotImplementedError

    def scaling(self) -> tuple[float, float] | None:
        """Return (scale, offset) if the layer does nothing but ``scale * x + offset``."""
        return None

    # Weights and other attributes -----------------------------------------------------------------

    def close(self) -> None:
        """Let weights be assigned by value alone from here on; called after `build`."""
        own = (*self.params, *self.state)
        vars(self).update(
            params=tuple(self.params), grads=tuple(self.grads), state=tuple(self.state),
            _weights={name: a for name, a in vars(self).items() if any(a is w for w in own)})

    @property
    def weights(self) -> list[Array]:
        """Parameters and state: the arrays themselves."""
        return [*self.params, *self.state]

    def named_weights(self) -> dict[str, Array]:
        """Return the arrays themselves by the attribute's name, or else by their place."""
        names = {id(array): name for name, array in (self._weights or {}).items()}
        return {names.get(id(array), str(i)): array for i, array in enumerate(self.weights)}

    def get_weights(self) -> list[Array]:
        """Return copies of `weights`."""
        return [w.copy() for w in self.weights]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Copy these arrays into the layer's, in the order of `get_weights`.

        Raises
        ------
        TypeError, ValueError
            If their number, a shape or a dtype is another. No weight has changed then.
        """
        copy_into(self.weights, weights)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._passing:
            value = self._checked(name, value)
            if self._changes is not None:
                self._changes[0] += 1
        object.__setattr__(self, name, value)

    def _checked(self, name: str, value: Any) -> Any:
        """Return what to store; a weight's new values are copied into its array."""
        own = self._weights
        if own is not None and name in own:
            if value is not own[name]:
                check_fits(name, value, own[name])
                own[name][...] = value
            return own[name]
        if name == "trainable":
            return flag(name, value)
        if own is not None and name in ("params", "grads", "state", "input_shape", "shape",
                                        *self.fixed):
            raise AttributeError(f"{name} of {type(self).__name__} is fixed once the layer has its "
                                 f"weights; make a new layer (weights: set_weights)")
        if self._names is not None and name not in self._names and not name.startswith("_"):
            reject_unknown(type(self).__name__, [name], {
                *self.arguments, *self.counters, *(own or ()), "trainable"})
        if isinstance(self.arguments, Mapping) and name in self.arguments:
            return self.arguments[name](value)
        return value

    # Copies and files -----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return all but buffers and gradients, and each weight once: joblib knows no sharing."""
        kept = self._without_buffers()
        if self._weights is None:
            return kept
        arrays = [*self.params, *self.state, *self.grads]
        place = {id(array): i for i, array in enumerate(arrays)}
        places = {name: place[id(value)] for name, value in kept.items() if id(value) in place}
        for name in ("params", "state", "grads", "_weights", *places):
            kept.pop(name, None)
        return {**kept, "_arrays": (self.params, self.state, places)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        params, kept, places = state.pop("_arrays", (None, None, {}))
        vars(self).update(state)
        if params is not None:
            params, kept = map(_writeable, (params, kept))
            grads = gradients_of(params)
            arrays = [*params, *kept, *grads]
            vars(self).update({name: arrays[i] for name, i in places.items()},
                              params=params, state=kept, grads=grads)
            self.close()

    def describe(self) -> dict[str, Any]:
        """Return class, arguments and input shape as data for JSON; raises TypeError."""
        return {**super().describe(),
                "input_shape": None if self.input_shape is None else list(self.input_shape),
                **({} if self.trainable else {"trainable": False})}

    def _without_buffers(self) -> dict[str, Any]:
        passing = {*self._passing, "_changes"} - {*self.counters, "output_shape"}
        return {name: value for name, value in vars(self).items() if name not in passing}

    def twin(self) -> Self:
        """Return a layer with the same weights, the arrays themselves, and no buffers."""
        twin = object.__new__(type(self))
        vars(twin).update(self._without_buffers(), activation=copy.copy(self.activation))
        return twin

    def headless(self) -> Self:
        """Return a layer that shares all with this one but does not apply the activation."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), activation=Linear())
        return other


def copy_into(own: Sequence[Array], weights: Any) -> None:
    """Copy arrays into others of the same number, shapes and dtypes, or change none and raise."""
    if not isinstance(weights, (list, tuple)) or len(weights) != len(own):
        given = len(weights) if isinstance(weights, (list, tuple)) else type(weights).__name__
        raise ValueError(f"weights must be a list of {len(own)} arrays, not {given}")
    for i, (mine, new) in enumerate(zip(own, weights, strict=True)):
        check_fits(f"weights[{i}]", new, mine)
    for mine, new in zip(own, weights, strict=True):
        mine[...] = new


def _writeable(arrays: Sequence[Any]) -> list[Any]:
    """Copy those that cannot be trained: joblib maps files read-only if it is asked to."""
    return [array if array.flags.writeable else np.array(array) for array in arrays]
