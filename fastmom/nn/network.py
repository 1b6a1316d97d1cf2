"""A network as one uses it: its layers, weights and output. Training is `Sequential`'s."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastmom import checkpoint
from fastmom.checks import integer, reject_unknown
from fastmom.nn.batches import Batches
from fastmom.nn.callbacks import Progress
from fastmom.nn.guard import Guard
from fastmom.nn.layer_base import Layer, Shape, copy_into
from fastmom.nn.passes import Passes
from fastmom.nn.stack import Input, Stack
from fastmom.types import Array

EVALUATION_BATCH = 1000     # samples at a time where no gradient is needed


class Network:
    """A stack of layers that any number of threads may use at a time.

    It is built, which creates the weights, as soon as the shape of a sample is known: from an
    `Input`, the first layer's ``input_shape``, or the first data.
    """

    # Attributes that may be assigned, and what checks their values
    settable: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}

    def __init__(self, layers: Iterable[Layer | Input], seed: int, dtype: str) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a list of layers, not {type(layers).__name__}")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
        self._seed = integer("seed", seed, 0)
        rng, self._order = np.random.default_rng(seed).spawn(2)
        self._set_stack(Stack(np.dtype(dtype), rng))
        try:
            for layer in layers:
                self._stack.add(layer)
        except BaseException:       # a model that was not made owns nothing
            self._stack.release()
            raise

    def _set_stack(self, stack: Stack) -> None:
        self._stack, self._passes = stack, Passes(stack, None)
        self._guard = Guard()

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse an attribute without effect; a subclass may have its own."""
        known = name.startswith("_") or name in self.settable
        if not known and isinstance(getattr(type(self), name, None), property):
            raise AttributeError(f"{name} of {type(self).__name__} cannot be assigned; what can: "
                                 f"{', '.join(self.settable)}")
        if not known and type(self).__module__.startswith("fastmom."):
            reject_unknown(type(self).__name__, [name], self.settable)
        check = self.settable.get(name)
        object.__setattr__(self, name, value if check is None else check(name, value))

    # Description ----------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order; `Sequential.add` appends one."""
        return self._stack.layers

    @property
    def seed(self) -> int:
        """Of the weights, the dropout and the order of the samples."""
        return self._seed

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of weights and outputs: float32 or float64."""
        return self._stack.dtype

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one sample, or None before the weights exist."""
        return self._stack.input_shape

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        return self._stack.output_shape

    def build(self, input_shape: Sequence[int]) -> None:
        """Create the weights for samples of this shape, where the first layer does not say it.

        Raises
        ------
        ValueError
            If the model has no layers, or is built for another shape.
        """
        shape = tuple(integer("input_shape", n, 1) for n in input_shape)
        self._stack.build(shape)
        if shape != self.input_shape:
            raise ValueError(f"the model is built for samples of shape {self.input_shape}, not "
                             f"{shape}")

    def summary(self, print_fn: Callable[[str], object] = print) -> None:
        """Print each layer with its output's shape and number of weights, line by line."""
        if not callable(print_fn):
            raise TypeError(f"print_fn must be callable, not {print_fn!r}")
        for line in self._stack.summary():
            print_fn(line)

    # Weights --------------------------------------------------------------------------------------

    @property
    def params(self) -> list[Array]:
        """The parameters of all layers, in order: the arrays themselves."""
        return self._stack.params

    @property
    def grads(self) -> list[Array]:
        """The gradients of the latest batch, aligned with `params`: the arrays themselves."""
        return [g for layer in self.layers for g in layer.grads]

    @property
    def weights(self) -> list[Array]:
        """Parameters and moving averages of all layers, in order: the arrays themselves."""
        return self._stack.weights

    def get_weights(self) -> list[Array]:
        """Return copies of `weights`."""
        with self._guard.use:
            return [w.copy() for w in self.weights]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Copy these into the model's, as `get_weights` returns them.

        Raises
        ------
        TypeError, ValueError
            If their number, a shape or a dtype is another. No weight has changed then.
        RuntimeError
            If another thread uses the model.
        """
        own = self.weights
        with self._guard.change("set_weights", inside=True):
            copy_into(own, weights)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights alone, by names such as ``1.Dense.kernel``, to a checkpoint.

        Its name ends in ``.npz``, or in ``.safetensors`` for other programs to read.

        Raises
        ------
        RuntimeError
            If the model has no weights yet.
        OSError
            If the file cannot be written; an older one of the same name is whole.
        """
        with self._guard.use:
            checkpoint.save(path, params=self._stack.named_weights())

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Copy the weights that `save_weights` wrote into a model of the same layers.

        Raises
        ------
        CheckpointError
            If the file is damaged, or has other names, shapes or dtypes. No weight has changed.
        RuntimeError
            If the model has no weights yet, or another thread uses it.
        OSError
            If the file cannot be opened.
        """
        own = self._stack.named_weights()
        with self._guard.change("load_weights", inside=True):
            checkpoint.load(path, params=own)

    # Output ---------------------------------------------------------------------------------------

    def predict(self, x: Any, batch_size: int | None = None,
                verbose: bool | int | str = 0) -> Array:
        """Return the output for each sample, a new array of shape (samples, *output_shape).

        Any number of threads may call it at a time. The last bits of the output for a sample may
        depend on how many there are, as those of NumPy's matrix products do.

        Parameters
        ----------
        x : array-like of shape (samples, *input_shape)
            An array, nested lists or a DataFrame of real numbers, all finite; converted to the
            model's dtype batch by batch.
        batch_size : int, optional
            Samples at a time: by default 1000.
        verbose : {0, 1, 2, "auto"}, default 0
            1 and 2 print a line when it is done.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.
        RuntimeError
            If another thread is training or changing the model.
        """
        if type(verbose) is not int or verbose:
            verbose = check_verbose(verbose)
        size = EVALUATION_BATCH if batch_size is None else integer("batch_size", batch_size, 1)
        with self._guard.use:
            stack = self._stack
            x = stack.checked(x)
            batches = Batches(x, size)
            result = np.empty((len(x), *stack.layers[-1].output_shape), stack.dtype)
            passes = self._passes
            taken = passes.take(batches.size, with_loss=False)
            try:
                path = batches.fold(taken.layers, taken.inputs)
                for i, outputs, _, _ in batches.in_order():
                    n = len(outputs)
                    for layer in path:
                        outputs = layer.forward(outputs, False)
                    result[i:i + n] = outputs
            finally:
                passes.give(taken)
        if verbose in (1, 2):
            print(f"predicted {len(x)} samples")
        return result


def check_verbose(verbose: Any) -> int | str:
    """Return it as `Progress` takes it; raises TypeError or ValueError."""
    if isinstance(verbose, (bool, np.bool_)):
        verbose = int(verbose)
    Progress(verbose=verbose)
    checked: int | str = verbose
    return checked
