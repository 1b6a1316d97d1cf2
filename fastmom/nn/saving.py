"""Models in files: checkpoints whose ``extra`` describes the layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from fastmom import checkpoint
from fastmom.checkpoint import CheckpointError
from fastmom.checks import integer
from fastmom.nn.compiling import remade
from fastmom.nn.layer_base import Layer
from fastmom.nn.loop import Task
from fastmom.nn.losses import LOSSES, Loss
from fastmom.nn.registered import LAYERS
from fastmom.nn.stack import Stack, declared_weights
from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.optim.schedule_base import Schedule


class Loadable(Protocol):
    """The part of a model that `load` uses."""

    epoch: int
    _stack: Stack
    _order: np.random.Generator

    @property
    def optimizer(self) -> Optimizer | None: ...

    def add(self, layer: Layer) -> None: ...

    def build(self, input_shape: Sequence[int]) -> None: ...

    def compile(self, optimizer: Optimizer, loss: Loss, metrics: Sequence[Any]) -> None: ...


Model = TypeVar("Model", bound=Loadable)

if TYPE_CHECKING:
    on_class = classmethod
else:
    class on_class(classmethod):
        """A class method that an object refuses: it would not change the object."""

        def __get__(self, instance, owner=None):
            if instance is not None:
                raise AttributeError(
                    f"{owner.__name__}.load(path) makes a new model, so call it on the class; "
                    f"load_weights(path) loads the file of save_weights into this one")
            return super().__get__(instance, owner)


def save(path: str | os.PathLike[str], stack: Stack, task: Task | None,
         order: np.random.Generator, *, seed: int, epoch: int, extra: Any = None) -> None:
    """Write a model to one file, whole or not at all.

    It holds the layers and their weights, the seed and the random state, the number of epochs
    trained and, of a compiled model, loss, metrics and the optimizer with its state: training goes
    on from it as if it had not stopped. The file is a checkpoint, which `fastmom.checkpoint` can
    read and find too.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz`` or, for a file of that library, ``.safetensors``.
    stack, task, order, seed, epoch
        The parts of the model, which `fastmom.nn.Sequential.save` gives.
    extra : optional
        Anything JSON can hold: ``fastmom.checkpoint.load(path).extra["extra"]`` has it again.

    Raises
    ------
    RuntimeError
        If the model has no weights yet.
    TypeError, ValueError
        If it has something a file cannot hold: a layer whose constructor's arguments are not all
        in `Layer.arguments`; activations, losses, optimizers or metrics that are not the library's
        own; a hyper-parameter that is a function but no Schedule.
    OSError
        If the file cannot be written; an older one of the same name is whole.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from fastmom import nn
    >>> model = nn.Sequential([nn.Dense(2, input_shape=(3,))], seed=1)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model.save(f"{directory}/model.npz")
    ...     other = nn.Sequential.load(f"{directory}/model.npz")
    >>> x = np.ones((1, 3))
    >>> bool((other.predict(x) == model.predict(x)).all())
    True
    """
    stack.check_built()
    content = {
        "layers": [_described(i, layer) for i, layer in enumerate(stack.layers)],
        "input_shape": list(stack.input_shape or ()), "dtype": str(stack.dtype), "seed": seed,
        "dropout": [[getattr(layer, name) for name in layer.counters]
                    for layer in _counting(stack.layers)],
        "weights_rng": stack.rng.bit_generator.state,
        "compiled": None if task is None else _compiled(task), "extra": extra}
    checkpoint.save(path, params=stack.weights, optimizer=None if task is None else task.optimizer,
                    rng=order, epoch=epoch, extra=content)


def load(make: Callable[..., Model], path: str | os.PathLike[str]) -> Model:
    """Make the model that `save` wrote, as ``make(layers, seed=, dtype=)`` returns it.

    Raises
    ------
    CheckpointError
        If the file is damaged or holds no model.
    OSError
        If the file cannot be opened.
    """
    with checkpoint.opened(path) as saved:
        return read(make, saved)


def read(make: Callable[..., Model], saved: checkpoint.OpenCheckpoint) -> Model:
    """Make the model that `save` wrote to a file that is open already, as `load` does."""
    try:
        model = _made(make, saved)
    except MALFORMED as error:
        raise CheckpointError(f"{saved.path} holds no model that can be made: {error}") from error
    saved.fill(params=model._stack.weights, optimizer=model.optimizer, rng=model._order)
    model.epoch = saved.epoch or 0
    return model


def _made(make: Callable[..., Model], saved: checkpoint.OpenCheckpoint) -> Model:
    """Make the model with all but its arrays, which take no memory before they are written to."""
    extra = saved.extra
    if not isinstance(extra, dict) or "layers" not in extra:
        raise ValueError("it is a checkpoint without a model")
    layers = [_layer(description) for description in extra["layers"]]
    _check_size(layers, extra["input_shape"], saved.params)
    model = make([], seed=extra["seed"], dtype=extra["dtype"])
    with model._stack.blank():
        for layer in layers:
            model.add(layer)
        model.build(extra["input_shape"])
    if "weights_rng" in extra:      # for layers that are added later
        model._stack.rng.bit_generator.state = extra["weights_rng"]
    if (compiled := extra["compiled"]) is not None:
        model.compile(_optimizer(saved.optimizer, model._stack), _loss(compiled["loss"]),
                      compiled["metrics"])
    for layer, numbers in zip(_counting(layers), extra["dropout"], strict=True):
        for name, value in zip(layer.counters, numbers, strict=True):
            setattr(layer, name, integer(f"dropout {name}", value, 0, 2 ** 64 - 1))
    return model


# Errors of making a model from a forged file
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError,
             RuntimeError)


def _counting(layers: Sequence[Layer]) -> list[Layer]:
    return [layer for layer in layers if layer.counters]


def _check_size(layers: Sequence[Layer], shape: Sequence[int], stored: Any) -> None:
    """Raise before a model is built that has more weights than the file, and maybe the memory."""
    if layers and layers[0].input_shape:
        shape = layers[0].input_shape
    count, whole = declared_weights(layers, tuple(integer("input_shape", n, 1) for n in shape))
    held = sum(weights.size for weights in stored)
    if count > held or (whole and count < held):
        raise ValueError(f"its layers have {count} weights, and it holds {held}")


# Descriptions: what JSON can hold, and back -------------------------------------------------------

def _described(i: int, layer: Layer) -> dict[str, Any]:
    try:
        return layer.describe()
    except TypeError as error:
        raise TypeError(f"layers[{i}]: {error}") from None


def _layer(description: Mapping[str, Any]) -> Layer:
    name = description["layer"]
    if not isinstance(name, str) or name not in LAYERS:
        raise ValueError(f"its layer {name!r} is not known here; a layer of your own is, once the "
                         f"module that defines it is imported")
    make: Any = LAYERS[name]
    layer: Layer = make(**description["arguments"])
    if description["input_shape"] is not None:
        Layer.__init__(layer, description["input_shape"])
    layer.trainable = description.get("trainable", True)
    return layer


def _compiled(task: Task) -> dict[str, Any]:
    optimizer, loss = task.optimizer, task.loss
    if OPTIMIZERS.get(type(optimizer).__name__.lower()) is not type(optimizer):
        raise TypeError(f"optimizer {type(optimizer).__name__} cannot be stored: it is none of the "
                        f"library's")
    for values in (optimizer._options, *optimizer.param_groups):
        for name, value in values.items():
            if callable(value) and not isinstance(value, Schedule):
                raise TypeError(f"{name}={value!r} cannot be stored: it is no Schedule")
    for metric in task.metrics:
        if not isinstance(metric, str):
            raise TypeError(f"metric {metric!r} cannot be stored: it is no name")
    if LOSSES.get(loss.name) is not type(loss):
        raise TypeError(f"loss {loss.name!r} cannot be stored: it is none of the library's")
    options = {name: getattr(loss, name) for name in loss.arguments}
    return {"loss": {"name": loss.name, **options}, "metrics": list(task.metrics)}


def _optimizer(state: Any, stack: Stack) -> Optimizer:
    """One with the hyper-parameters of this state dict, which decide what state it has."""
    kind = _known("optimizer", state["optimizer"].lower(), OPTIMIZERS)
    groups = [_hyper(group) | {"params": len(group["params"])} for group in state["groups"]]
    if len(groups) > 1 and sum(group["params"] for group in groups) != len(stack.params):
        raise ValueError(f"its optimizer's groups are not for {len(stack.params)} parameters")
    return remade(kind, _hyper(state["options"]), groups, stack)


def _hyper(values: Mapping[str, Any]) -> dict[str, Any]:
    made = {}
    for name, value in values.items():
        if isinstance(value, dict) and "callable" in value:
            raise ValueError(f"its optimizer's {name} was the function {value['callable']}, which "
                             f"cannot be stored; a schedule can")
        made[name] = Schedule.from_dict(value) if _is_schedule(value) else value
    return made


def _is_schedule(value: Any) -> bool:
    return isinstance(value, dict) and "schedule" in value


def _loss(description: Mapping[str, Any]) -> Loss:
    options = dict(description)
    loss: Loss = _known("loss", options.pop("name"), LOSSES)(**options)
    return loss


def _known(what: str, name: Any, table: Mapping[str, Any]) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"its {what} {name!r} is not known to this fastmom")
    return table[name]
