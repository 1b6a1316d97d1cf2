"""From what `compile` is given to a task: optimizer, loss and metrics that fit the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmom.checks import reject_unknown
from fastmom.nn.loop import Task
from fastmom.nn.losses import get_loss
from fastmom.nn.metrics import get_metric
from fastmom.nn.stack import Stack
from fastmom.optim import OPTIMIZERS, Optimizer

# The loss of a model that says none, by its last activation
LOSS_OF = {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy"}


def make_task(stack: Stack, optimizer: Any, loss: Any, metrics: Any,
              hyper: Mapping[str, Any]) -> Task:
    """Return the task for these arguments of `Sequential.compile`, its optimizer bound.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or loss, metrics and the last layer do not fit together.
    RuntimeError
        If there are no layers, or the optimizer is bound already.
    """
    optimizer = _optimizer(optimizer, hyper)
    head = _last_activation(stack)
    chosen = get_loss(LOSS_OF.get(head, "mean_squared_error") if loss is None else loss)
    if chosen.fused not in (None, head):
        raise ValueError(f"loss {chosen.name!r} needs a last layer with "
                         f"activation={chosen.fused!r}, not {head!r}")
    if metrics is None or isinstance(metrics, str):
        metrics = [] if metrics is None else [metrics]
    if not isinstance(metrics, (list, tuple)):
        raise TypeError(f"metrics must be a name, a list or None, not {metrics!r}")
    functions = dict(get_metric(metric, chosen) for metric in metrics)
    if stack.input_shape is not None:
        optimizer.bind(stack.params)
    return Task(optimizer, chosen, list(metrics), functions)


def _optimizer(given: Any, hyper: Mapping[str, Any]) -> Optimizer:
    if isinstance(given, Optimizer):
        reject_unknown("compile with an Optimizer object", hyper, {"optimizer", "loss", "metrics"})
        return given
    if not isinstance(given, str):
        raise TypeError(f"optimizer must be a name or an Optimizer, not {given!r}")
    if given.lower() not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(map(repr, OPTIMIZERS))} or an "
                         f"Optimizer, not {given!r}")
    made: Optimizer = OPTIMIZERS[given.lower()](**hyper)
    return made


def _last_activation(stack: Stack) -> str:
    if not stack.layers:
        raise RuntimeError("the model has no layers: add some before compiling it")
    activation = stack.layers[-1].activation
    return "linear" if activation is None else str(activation.name)


# A task as data: for copies and pickles, which unlike files may hold functions --------------------

def stored(task: Task) -> dict[str, Any]:
    """Return a task without the network's arrays, for `restored`."""
    optimizer = task.optimizer
    hyper = {**optimizer._options, **optimizer.param_groups[0]}
    bound = bool(hyper.pop("params"))
    return {"optimizer": type(optimizer), "hyper": hyper, "loss": task.loss,
            "metrics": task.metrics, "state": optimizer.state_dict() if bound else None}


def restored(stored: Mapping[str, Any], stack: Stack) -> Task:
    """Return the same task for a copy of the network."""
    task = make_task(stack, stored["optimizer"](**stored["hyper"]), stored["loss"],
                     stored["metrics"], {})
    if stored["state"] is not None:
        task.optimizer.load_state_dict(stored["state"])
    return task
