"""The state of an optimizer as data: taken out, put back, imported from PyTorch.

A state dict holds numbers, strings, lists, dicts and, under ``"state"``, arrays; no code::

    {"format": 2, "optimizer": "SGD", "iterations": 20, "steps": [20, 18],
     "options": {"clip_norm": None, ...},
     "groups": [{"lr": 0.1, "momentum": {"schedule": "Linear", ...}, ..., "params": [0, 1]}],
     "state": [{"velocity": array}, {"velocity": array}]}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import integer
from fastmom.integrations.torch_state import check_known, converted
from fastmom.optim.schedules import ReduceOnPlateau, Schedule
from fastmom.optim.state_checks import (
    check_equal,
    check_list,
    check_names,
    checked_buffers,
    checked_steps,
)
from fastmom.optim.values import Values

if TYPE_CHECKING:
    from fastmom.kernels import Engine
    from fastmom.optim.base import Optimizer
    from fastmom.types import Array

FORMAT = 2
KEYS = ("format", "optimizer", "iterations", "steps", "options", "groups", "state")
Updates = list[tuple[ReduceOnPlateau, ReduceOnPlateau]]     # one in use, and what it shall become


def state_dict(optimizer: Optimizer) -> dict[str, Any]:
    """Return hyper-parameters, counters and copies of the state buffers.

    Schedules are there as `Schedule.to_dict` gives them; of any other callable only the name.

    Raises
    ------
    RuntimeError
        If the optimizer has no parameters yet, or they hold their averages.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> opt, other = (fm.SGD([np.zeros(2)], momentum=0.9) for _ in range(2))
    >>> opt.step([np.ones(2)])
    True
    >>> load_state_dict(other, state_dict(opt))
    >>> other.state, other.iterations
    ([{'velocity': array([1., 1.])}], 1)
    """
    result = live_state(optimizer)
    result["state"] = [{name: _copy(buffer) for name, buffer in buffers.items()}
                       for buffers in result["state"]]
    return result


def live_state(optimizer: Optimizer) -> dict[str, Any]:
    """Return `state_dict` with the buffers themselves, which the next step changes."""
    engine = _engine(optimizer)
    return {"format": FORMAT, "optimizer": type(optimizer).__name__,
            "iterations": engine.iterations, "steps": engine.steps.tolist(),
            "options": _stored(optimizer._options),
            "groups": [{**_stored(group), "params": indices}
                       for group, indices in _layout(optimizer)],
            "state": optimizer._buffers()}


def load_state_dict(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Continue from what `state_dict` returned.

    The numbers are copied into the existing buffers; the parameters are left alone. The optimizer
    keeps its own `state_dtype`, `rounding` and `master`: numbers of another format are rounded to
    the nearest, in ufloat8 up or down. Schedules are replaced, except that a `ReduceOnPlateau` in
    use takes over the stored one's arguments and state and remains the same object. A
    hyper-parameter that was a function must be one already.

    Parameters
    ----------
    optimizer : Optimizer
        Of the same class, with parameters of the same shapes and dtypes in the same groups.
    state : dict

    Raises
    ------
    TypeError, ValueError
        If anything is missing, unknown or does not fit, or a number is beyond the largest of the
        format that it is to be kept in. Nothing has changed then.
    RuntimeError
        If the optimizer has no parameters yet, or they hold their averages.
    """
    prepare(optimizer, state)()


def prepare(optimizer: Optimizer, state: Mapping[str, Any]) -> Callable[[], None]:
    """Validate all of a state dict; return a function that loads it and cannot fail."""
    engine = _engine(optimizer)
    check_names("the state dict", state, KEYS)
    check_equal("optimizer", state["optimizer"], type(optimizer).__name__)
    if type(state["format"]) is int and state["format"] == 1:
        try:
            state = optimizer._from_format_1(dict(state))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the state dict of format 1 is damaged: {error!r}") from error
    check_equal("format", state["format"], FORMAT)
    iterations = integer("iterations", state["iterations"], 0)
    steps = checked_steps(state["steps"], iterations, len(engine.params))
    copies = list(checked_buffers(optimizer._buffers(), state["state"]))
    updates: Updates = []
    options = state["options"]
    if isinstance(options, Mapping):        # its own formats stay, and older data names none
        options = {**options, **{name: optimizer._options[name]
                                 for name, hyper in optimizer._shared_hypers.items()
                                 if hyper.at_binding}}
    changed = [(optimizer._options,
                _checked("options", optimizer, optimizer._options, options, updates))]
    layout = list(_layout(optimizer))
    check_list("groups", state["groups"], len(layout))
    for i, ((group, indices), saved) in enumerate(zip(layout, state["groups"], strict=True)):
        check_names(f"groups[{i}]", saved, [*group])
        check_equal(f"groups[{i}]['params']", saved["params"], indices)
        hypers = {name: value for name, value in saved.items() if name != "params"}
        changed.append((group, _checked(f"groups[{i}]", optimizer, group, hypers, updates)))

    def load() -> None:
        for buffer, source in copies:
            _fill(buffer, source)
        for schedule, new in updates:
            vars(schedule).update(vars(new))
        for values, checked in changed:
            values.hold(checked._values)
        engine.restore(steps, iterations)
        optimizer._changed()
    return load


def snapshot(optimizer: Optimizer) -> dict[str, Any]:
    """Return all of an optimizer, parameters included, for `pickle` and `copy.deepcopy`."""
    result: dict[str, Any] = {"hyper": {**optimizer._options, **optimizer._defaults}}
    if optimizer._engine is not None:
        engine = _engine(optimizer)
        result |= {"groups": [dict(group) for group in optimizer.param_groups],
                   "state": [tuple(own.values()) for own in optimizer._buffers()],
                   "steps": engine.steps.tolist(), "iterations": engine.iterations}
    return result


def restore(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Bring an optimizer without parameters to what `snapshot` returned."""
    if "groups" not in saved:
        return
    optimizer.bind(saved["groups"])
    engine = optimizer._bound_engine()
    for own, stored in zip(optimizer._buffers(), saved["state"], strict=True):
        for buffer, source in zip(own.values(), stored, strict=True):
            _fill(buffer, source)
    engine.restore(saved["steps"], saved["iterations"])
    optimizer._changed()


def _engine(optimizer: Optimizer) -> Engine:
    engine = optimizer._bound_engine()
    if engine.blocked_by:
        raise RuntimeError("the parameters hold their averages now; save, copy or load outside of "
                           "the with block")
    return engine


def _layout(optimizer: Optimizer) -> Iterator[tuple[Values, list[int]]]:
    """Yield each group with the indices of its parameters."""
    indices = count()
    for group in optimizer.param_groups:
        yield group, list(islice(indices, len(group["params"])))


def _blank(array: Array) -> bool:
    """Return whether all bits are zero (those of -0.0 are not)."""
    return not np.ascontiguousarray(array).reshape(-1).view(np.uint8).any()


def _fill(buffer: Array, source: Array) -> None:
    if not (_blank(buffer) and _blank(source)):     # untouched, a buffer takes no memory
        buffer[...] = source


def _copy(array: Array) -> Any:
    return np.zeros(array.shape, array.dtype) if _blank(array) else array.copy()


# Hyper-parameters ---------------------------------------------------------------------------------

def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items() if name != "params"}


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    if callable(value):
        return {"callable": getattr(value, "__qualname__", type(value).__name__)}
    return list(value) if isinstance(value, tuple) else value


def _checked(where: str, optimizer: Optimizer, old: Values, saved: Mapping[str, Any],
             updates: Updates) -> Values:
    """Return the saved hyper-parameters, as valid as if they had been assigned."""
    check_names(where, saved, [name for name in old if name != "params"])
    try:
        given = {name: _revived(name, old[name], value, updates) for name, value in saved.items()}
        return Values(optimizer, old._hypers, given, {})
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def _revived(name: str, old: Any, saved: Any, updates: Updates) -> Any:
    if not isinstance(saved, Mapping) or not {"schedule", "callable"} & set(saved):
        return saved
    if "callable" not in saved:
        return _merged(old, Schedule.from_dict(saved), updates)
    if not callable(old):
        raise ValueError(f"{name} was the function {saved['callable']}, which cannot be stored: "
                         f"assign it again before loading")
    return old


def _merged(old: Any, new: Any, updates: Updates) -> Any:
    """Return `new` with every plateau that `old` has in the same place replaced by that object."""
    if isinstance(old, ReduceOnPlateau) and isinstance(new, ReduceOnPlateau):
        if any(old is other and new != its_new for other, its_new in updates):
            raise ValueError(f"{old!r} is in use twice, but was stored in two different states")
        updates.append((old, new))
        return old
    if isinstance(new, tuple) and isinstance(old, tuple) and len(new) == len(old):
        return tuple(_merged(o, n, updates) for o, n in zip(old, new, strict=True))
    if isinstance(new, Schedule) and type(new) is type(old):
        vars(new).update({k: _merged(vars(old).get(k), v, updates) for k, v in vars(new).items()})
    return new


def from_torch(optimizer: Optimizer, state: Mapping[str, Any], *,
               iterations: int | None = None) -> None:
    """Continue from the state dict of an optimizer of PyTorch.

    These are SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, Adafactor and,
    with ``layout="out_in"``, Muon.

    Buffers, step counts and hyper-parameters are taken; clipping and the like stay as they are.
    What PyTorch's optimizer does not have (`decay` and `convention` of `SGD`, say) must be at its
    default. Flags of how PyTorch computes (foreach, fused, capturable, differentiable) and what its
    learning rate schedulers leave in the groups are dropped.

    Parameters
    ----------
    optimizer : Optimizer
        Of the same name, with parameters of the same shapes and dtypes in the same groups.
    state : dict
        From ``state_dict()`` of the optimizer of PyTorch; tensors or arrays.
    iterations : int, optional
        Steps taken so far, for schedules. By default the largest count in the state; SGD and
        Muon of PyTorch do not count, so there it is 1 if any velocity is.

    Raises
    ------
    TypeError, ValueError
        If anything is missing or does not map or fit; a state dict does not tell its optimizer's
        name, but the names in it do, except Adam's and AdamW's before PyTorch 2.7. Nothing has
        changed then.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> opt = fm.SGD([np.zeros(2)], momentum=0.5)
    >>> group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "nesterov": True, "weight_decay": 0}
    >>> from_torch(opt, {"state": {0: {"momentum_buffer": np.ones(2)}},
    ...                  "param_groups": [{**group, "params": [0]}]}, iterations=20)
    >>> opt, opt.state, opt.iterations
    (SGD(lr=0.1, momentum=0.9, nesterov=True), [{'velocity': array([1., 1.])}], 20)
    """
    check_known(optimizer)
    load_state_dict(optimizer, converted(optimizer, live_state(optimizer), state, iterations))
