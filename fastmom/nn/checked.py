"""Data for training and evaluation, checked against the network and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmom.nn.inputs import class_weights, sample_weights, split
from fastmom.nn.loop import Data, Task
from fastmom.nn.stack import Stack


def check_data(stack: Stack, task: Task, x: Any, y: Any, weights: Any = None) -> Data:
    """Return samples, targets and weights as the batches take them; raises naming them."""
    x = stack.checked(x)
    y = task.loss.check(y, stack.output_shape, stack.dtype)
    if len(x) != len(y) or not len(x):
        raise ValueError(f"x has {len(x)} samples and y has {len(y)}; both must have the same "
                         f"number, at least one")
    if weights is not None:
        weights = sample_weights(weights, len(x), stack.dtype)
    return x, y, weights


def weighted(stack: Stack, task: Task, data: Data, by_class: Any) -> Data:
    """Multiply the samples' weights by those of their classes."""
    if by_class is None:
        return data
    x, y, weights = data
    factor = class_weights(by_class, y, task.loss.targets, stack.output_shape[-1])
    return x, y, sample_weights(factor if weights is None else factor * weights, len(x),
                                stack.dtype)


def check_validation(stack: Stack, task: Task, data: Data, share: float,
                     given: Any) -> tuple[Data, dict[str, Data]]:
    """Return the samples to train on, and those to evaluate by the prefix of their metrics."""
    data, held_out = split(data, share)
    if held_out is None:
        return data, {} if given is None else _check_given(stack, task, given)
    if given is not None:
        raise ValueError("validation_split and validation_data: give one of them")
    return data, {"val": held_out}


def _check_given(stack: Stack, task: Task, given: Any) -> dict[str, Data]:
    if not isinstance(given, Mapping):
        return {"val": _check_evaluated(stack, task, "validation_data", given)}
    for name in given:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"validation_data must have words as keys, not {name!r}")
    return {name: _check_evaluated(stack, task, f"validation_data[{name!r}]", samples)
            for name, samples in given.items()}


def _check_evaluated(stack: Stack, task: Task, name: str, given: Any) -> Data:
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise TypeError(f"{name} must be a tuple (x, y) or (x, y, sample_weight), not "
                        f"{type(given).__name__}")
    try:
        return check_data(stack, task, *given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
