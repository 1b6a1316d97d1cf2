"""Models in files: checkpoints whose ``extra`` describes the layers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fastmom import checkpoint
from fastmom.checkpoint import CheckpointError
from fastmom.checks import integer
from fastmom.nn.activations import ACTIVATIONS, LeakyReLU
from fastmom.nn.activations import Activation as Function
from fastmom.nn.dense import Dense
from fastmom.nn.initializers import INITIALIZERS, Checked, Constant
from fastmom.nn.layers import Activation, Dropout, Flatten, Layer, Rescaling
from fastmom.nn.losses import LOSSES, Loss
from fastmom.nn.normalization import BatchNorm
from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.optim.schedule_base import Schedule

if TYPE_CHECKING:
    from fastmom.nn.model import Sequential

LAYERS: dict[str, type[Layer]] = {kind.__name__: kind for kind in (
    Activation, BatchNorm, Dense, Dropout, Flatten, Rescaling)}
Model = TypeVar("Model", bound="Sequential")


def save(model: Sequential, path: str | os.PathLike[str], extra: Any = None) -> None:
    """Write a model to one file, whole or not at all.

    It holds the layers and their weights, the seed and the random state, the number of epochs
    trained and, of a compiled model, loss, metrics and the optimizer with its state: training goes
    on from it as if it had not stopped. The file is a checkpoint, which `fastmom.checkpoint` can
    read and find too.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz``.
    extra : optional
        Anything JSON can hold: ``fastmom.checkpoint.load(path).extra["extra"]`` has it again.

    Raises
    ------
    RuntimeError
        If the model has no weights yet.
    TypeError, ValueError
        If it has something a file cannot hold: layers, activations, losses, optimizers or metrics
        that are not the library's own, or a hyper-parameter that is a function but no Schedule.
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
    weights = model.weights
    content = {
        "layers": [_described(i, layer) for i, layer in enumerate(model.layers)],
        "input_shape": list(model.input_shape or ()), "dtype": str(model.dtype),
        "seed": model.seed,
        "dropout": [[layer.key, layer.step] for layer in _dropouts(model.layers)],
        "compiled": None if model.optimizer is None else _compiled(model, model.optimizer),
        "extra": extra}
    checkpoint.save(path, params=weights, optimizer=model.optimizer, rng=model._order,
                    epoch=model.epoch, extra=content)


def load(cls: type[Model], path: str | os.PathLike[str]) -> Model:
    """Make the model that `save` wrote.

    Raises
    ------
    CheckpointError
        If the file is damaged or holds no model.
    OSError
        If the file cannot be opened.
    """
    content = checkpoint.load(path)
    extra = content.extra
    try:
        if not isinstance(extra, dict) or "layers" not in extra:
            raise ValueError("it is a checkpoint without a model")
        layers = [_layer(description) for description in extra["layers"]]
        _check_size(layers, extra["input_shape"], content.params)
        model = cls(layers, seed=extra["seed"], dtype=extra["dtype"])
        model.build(extra["input_shape"])
        compiled = extra["compiled"]
        if compiled is not None:
            model.compile(_optimizer(content.optimizer), _loss(compiled["loss"]),
                          compiled["metrics"])
        for layer, numbers in zip(_dropouts(layers), extra["dropout"], strict=True):
            layer.key, layer.step = (integer("dropout", number, 0) for number in numbers)
            if max(layer.key, layer.step) >= 2 ** 64:
                raise ValueError(f"its dropout is {numbers}, expected integers below 2**64")
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, MemoryError) as error:
        raise CheckpointError(f"{path} holds no model that can be made: {error}") from error
    checkpoint.load(path, params=model.weights, optimizer=model.optimizer, rng=model._order)
    model.epoch = content.epoch or 0
    return model


def _dropouts(layers: Sequence[Layer]) -> list[Dropout]:
    return [layer for layer in layers if isinstance(layer, Dropout)]


def _check_size(layers: Sequence[Layer], shape: Sequence[int], stored: Any) -> None:
    """Raise before a model is built that has more weights than the file, and maybe the memory."""
    count = 0
    if layers and layers[0].input_shape:
        shape = layers[0].input_shape
    shape = [integer("input_shape", n, 1) for n in shape]
    for layer in layers:
        if isinstance(layer, Flatten):
            shape = [math.prod(shape)]
        elif isinstance(layer, Dense):
            count += (shape[-1] + 1) * layer.units
            shape = [layer.units]
        elif isinstance(layer, BatchNorm):
            count += 4 * shape[-1]
    held = sum(weights.size for weights in stored)
    if count != held:
        raise ValueError(f"its layers have {count} weights, and it holds {held}")


# Descriptions: what JSON can hold, and back -------------------------------------------------------

def _described(i: int, layer: Layer) -> dict[str, Any]:
    if LAYERS.get(type(layer).__name__) is not type(layer):
        raise TypeError(f"layers[{i}] cannot be stored: {type(layer).__name__} is none of "
                        f"{', '.join(LAYERS)}")
    arguments = {name: _plain(getattr(layer, name)) for name in layer.arguments}
    return {"layer": type(layer).__name__, "arguments": arguments,
            "input_shape": None if layer.input_shape is None else list(layer.input_shape)}


def _plain(value: Any) -> Any:
    if isinstance(value, Function):
        if ACTIVATIONS.get(value.name) is not type(value):
            raise TypeError(f"activation {value.name!r} cannot be stored: it is none of the "
                            f"library's")
        return {"leaky_relu": value.slope} if isinstance(value, LeakyReLU) else value.name
    if isinstance(value, Checked):
        value = value.function
    if isinstance(value, Constant):
        return {"constant": value.value}
    if callable(value):     # an initializer, which has done its work
        name = getattr(value, "name", "")
        return name if INITIALIZERS.get(name) is value else "zeros"
    return value


def _layer(description: Mapping[str, Any]) -> Layer:
    kind = _known("layer", description["layer"], LAYERS)
    make: Any = {"leaky_relu": LeakyReLU, "constant": Constant}
    arguments = {}
    for name, value in description["arguments"].items():
        if isinstance(value, dict):
            (key, number), = value.items()
            value = make[key](number)
        arguments[name] = value
    layer: Layer = kind(**arguments, input_shape=description["input_shape"])
    return layer


def _compiled(model: Sequential, optimizer: Optimizer) -> dict[str, Any]:
    if OPTIMIZERS.get(type(optimizer).__name__.lower()) is not type(optimizer):
        raise TypeError(f"optimizer {type(optimizer).__name__} cannot be stored: it is none of the "
                        f"library's")
    for values in (optimizer._options, *optimizer.param_groups):
        for name, value in values.items():
            if callable(value) and not isinstance(value, Schedule):
                raise TypeError(f"{name}={value!r} cannot be stored: it is no Schedule")
    for metric in model.metrics:
        if not isinstance(metric, str):
            raise TypeError(f"metric {metric!r} cannot be stored: it is no name")
    if LOSSES.get(model.loss.name) is not type(model.loss):
        raise TypeError(f"loss {model.loss.name!r} cannot be stored: it is none of the library's")
    options = {name: getattr(model.loss, name) for name in ("from_logits", "delta")
               if name in vars(model.loss)}
    return {"loss": {"name": model.loss.name, **options}, "metrics": list(model.metrics)}


def _optimizer(state: Any) -> Optimizer:
    """One with the hyper-parameters of this state dict, which decide what state it has."""
    kind = _known("optimizer", state["optimizer"].lower(), OPTIMIZERS)
    group, = state["groups"]
    hyper = {}
    for name, value in {**state["options"], **group}.items():
        if isinstance(value, dict) and "callable" in value:
            raise ValueError(f"its optimizer's {name} was the function {value['callable']}, which "
                             f"cannot be stored; a schedule can")
        if name != "params":
            hyper[name] = Schedule.from_dict(value) if isinstance(value, dict) else value
    optimizer: Optimizer = kind(**hyper)
    return optimizer


def _loss(description: Mapping[str, Any]) -> Loss:
    options = dict(description)
    loss: Loss = _known("loss", options.pop("name"), LOSSES)(**options)
    return loss


def _known(what: str, name: Any, table: Mapping[str, Any]) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"its {what} {name!r} is not known to this fastmom")
    return table[name]
