"""From what `compile` is given to a task: optimizer, loss and metrics that fit the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from fastmom.checks import reject_unknown
from fastmom.nn.loop import Task
from fastmom.nn.losses import get_loss
from fastmom.nn.metrics import get_metric
from fastmom.nn.stack import Stack
from fastmom.optim import Optimizer
from fastmom.optim.groups import have_arrays
from fastmom.optim.named import NAMES, make

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
        If there are no layers, or the optimizer is bound already, to other arrays than the
        network's parameters in their order.
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
    if stack.input_shape is not None and not have_arrays(optimizer.param_groups, stack.params):
        optimizer.bind(stack.params)
    return Task(optimizer, chosen, list(metrics), functions)


def _optimizer(given: Any, hyper: Mapping[str, Any]) -> Optimizer:
    if isinstance(given, Optimizer):
        reject_unknown("compile with an Optimizer object", hyper, {"optimizer", "loss", "metrics"})
        return given
    if not isinstance(given, str):
        raise TypeError(f"optimizer must be a name or an Optimizer, not {given!r}")
    if given.lower() not in NAMES:
        raise ValueError(f"optimizer must be one of {', '.join(map(repr, sorted(NAMES)))} or an "
                         f"Optimizer, not {given!r}")
    return make(given.lower(), hyper)


def _last_activation(stack: Stack) -> str:
    if not stack.layers:
        raise RuntimeError("the model has no layers: add some before compiling it")
    activation = stack.layers[-1].activation
    return "linear" if activation is None else str(activation.name)


# A task as data: for copies and pickles, which unlike files may hold functions --------------------

def stored(task: Task) -> dict[str, Any]:
    """Return a task without the network's arrays, for `restored`."""
    optimizer = task.optimizer
    groups = [{**group, "params": len(group["params"])} for group in optimizer.param_groups]
    bound = groups[0]["params"] > 0
    return {"optimizer": type(optimizer), "options": dict(optimizer._options), "groups": groups,
            "loss": task.loss, "metrics": task.metrics,
            "state": optimizer.state_dict() if bound else None}


def restored(stored: Mapping[str, Any], stack: Stack) -> Task:
    """Return the same task for a copy of the network."""
    optimizer = remade(stored["optimizer"], stored["options"], stored["groups"], stack)
    task = make_task(stack, optimizer, stored["loss"], stored["metrics"], {})
    if stored["state"] is not None:
        task.optimizer.load_state_dict(stored["state"])
    return task


def remade(kind: type[Optimizer], options: Mapping[str, Any],
           groups: Sequence[Mapping[str, Any]], stack: Stack) -> Optimizer:
    """Return an optimizer with these hyper-parameters, bound if it had several groups.

    Parameters
    ----------
    kind : type
    options : mapping
        Hyper-parameters that all groups share.
    groups : sequence of mapping
        The others of each group, and under ``"params"`` how many arrays it has.
    stack : Stack
        Whose parameters the groups share out, in their order.
    """
    own = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    optimizer = kind(**options, **own[0])
    if len(groups) > 1:
        rest = iter(stack.params)
        optimizer.bind([{**group, "params": list(islice(rest, count["params"]))}
                        for group, count in zip(own, groups, strict=True)])
    return optimizer
