"""The state of the classes in PyTorch's form: tensors on fastmom's buffers, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from fastmom.integrations.torch.arguments import FLAGS
from fastmom.integrations.torch.memory import numbers_of, tensor_of
from fastmom.integrations.torch_state import NOT_COUNTED, OLDER_LACK, age_of, check_product, number
from fastmom.optim.state import live_state
from fastmom.optim.state import load_state_dict as load_ours

if TYPE_CHECKING:
    from fastmom.integrations.torch.base import Optimizer
    from fastmom.optim import Optimizer as Ours

SPARE = {"update"}      # memory of a step, which is no state


def no_state() -> defaultdict[Any, dict[str, Any]]:
    """Return the state before the first step."""
    return defaultdict(dict)


def publish(optimizer: Optimizer) -> None:
    """Give the state of all parameters that have had a step as tensors on its memory."""
    steps = optimizer._ours._bound_engine().steps
    stateful = [i for i in optimizer._stateless if steps[i]]
    if stateful:
        optimizer._stateless = [i for i in optimizer._stateless if not steps[i]]
        for i, entry in _entries(optimizer, stateful):
            optimizer.state[optimizer._params[i]] = entry


def _entries(optimizer: Optimizer, indices: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the entries of these parameters, live."""
    ours = optimizer._ours
    buffers, steps = ours._buffers(), ours._bound_engine().steps
    groups = [g for g in ours.param_groups for _ in g["params"]]
    for i in indices:
        p, order = optimizer._params[i], optimizer._order(i)
        entry = {_key(optimizer, name): tensor_of(buffer, order)
                 for name, buffer in buffers[i].items() if _is_kept(optimizer, name, groups[i])}
        if _counted(optimizer, p):
            entry = {"step": torch.from_numpy(steps[i:i + 1].reshape(())), **entry}
        yield i, entry


def _is_kept(optimizer: Optimizer, name: str, hypers: Mapping[str, Any]) -> bool:
    """Return whether a buffer holds anything that later steps depend on."""
    switch = optimizer._arguments.switches.get(name)
    return (name not in SPARE and name not in optimizer._ours._idle_state(hypers)
            and not (switch and not hypers[switch]))


def _key(optimizer: Optimizer, name: str) -> str:
    """Return the name in PyTorch of a buffer."""
    return optimizer._arguments.buffers.get(name, name)


def _counted(optimizer: Optimizer, p: Any) -> bool:
    """Return whether a state dict tells the number of steps of this parameter."""
    name = optimizer._arguments.kind.__name__
    return name not in NOT_COUNTED or (name == "Muon" and p.ndim != 2)


def exported(optimizer: Optimizer) -> defaultdict[Any, dict[str, Any]]:
    """Return the state as PyTorch's class of the name has it: steps are floats there."""
    result = no_state()
    dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    if not optimizer._params:
        return result
    had = optimizer._ours._bound_engine().steps.tolist()
    groups = [g for g in optimizer._ours.param_groups for _ in g["params"]]
    for i, entry in _entries(optimizer, [i for i, steps in enumerate(had) if steps]):
        if "step" in entry:
            entry["step"] = torch.tensor(float(had[i]), dtype=dtype)
        if optimizer._arguments.kind.__name__ == "NAdam":
            product = optimizer._ours.momentum_product(     # type: ignore[attr-defined]
                groups[i]["beta1"], groups[i]["momentum_decay"], had[i])
            entry["mu_product"] = torch.tensor(product, dtype=dtype)
        if optimizer._arguments.kind.__name__ == "Rprop":
            entry["step_size"] = entry["ratio"] * groups[i]["lr"]
        if entry:
            result[optimizer._params[i]] = entry
    return result


def without_defaults(optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """Leave out of the groups what PyTorch's class does not know, where it is at its default."""
    extras = optimizer._arguments.extras
    if hasattr(torch.optim, optimizer._arguments.kind.__name__):
        saved["param_groups"] = [
            {n: v for n, v in group.items() if n not in extras or v != extras[n]}
            for group in saved["param_groups"]]
    return saved


def carry_over(old: Ours, before: list[Any], new: Ours, now: list[Any]) -> None:
    """Let each parameter go on with the state that it had in another optimizer."""
    place = {id(p): i for i, p in enumerate(before)}
    saved, state = live_state(old), live_state(new)
    for i, p in enumerate(now):
        if id(p) in place:
            j = place[id(p)]
            state["steps"][i] = saved["steps"][j]
            kept = {n: a for n, a in saved["state"][j].items() if n != "master"}
            state["state"][i] = {**state["state"][i], **kept}
    state["iterations"] = saved["iterations"]
    load_ours(new, state)


# Loading ------------------------------------------------------------------------------------------

def load(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Continue from a state dict, or raise with nothing changed."""
    groups = _groups(optimizer, saved)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if not (optimizer._has(params) and optimizer._lie_still(params)):
        optimizer._bind(params)
    ours = optimizer._ours
    state = live_state(ours)
    values = []
    for i, group in enumerate(groups):
        values.append(optimizer._checked(group)._values)
        state["groups"][i] |= values[-1]
    ids = list(chain.from_iterable(group["params"] for group in saved["param_groups"]))
    entries = {ids.index(k): entry for k, entry in saved["state"].items() if k in ids}
    hypers = [own for own, group in zip(values, groups, strict=True) for _ in group["params"]]
    for i, own in enumerate(hypers):
        state["steps"][i], state["state"][i] = _taken(optimizer, i, entries.get(i, {}), own,
                                                      state)
    state["iterations"] = max(state["steps"], default=0)
    load_ours(ours, state)
    optimizer.param_groups = groups
    optimizer.state = no_state()
    optimizer._told = [None] * len(groups)
    optimizer._stateless = list(range(len(params)))
    publish(optimizer)


def _groups(optimizer: Optimizer, saved: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the groups as they will be, with the parameters and flags of those there."""
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= set(saved):
        raise ValueError("state_dict must be that of an optimizer, with 'state' and "
                         "'param_groups'")
    before, loaded = optimizer.param_groups, saved["param_groups"]
    if [len(g["params"]) for g in before] != [len(g["params"]) for g in loaded]:
        raise ValueError(f"state_dict has groups of {[len(g['params']) for g in loaded]} "
                         f"parameters, the optimizer of {[len(g['params']) for g in before]}")
    arguments = optimizer._arguments
    result = []
    for i, (own, group) in enumerate(zip(before, loaded, strict=True)):
        missing = {n: arguments.defaults[n] for n in (*arguments.extras, *OLDER_LACK)
                   if n in arguments.names}
        for name in arguments.names:
            if name not in group and name not in missing:
                raise ValueError(f"param_groups[{i}] has no {name!r}: is it of "
                                 f"{arguments.kind.__name__}?")
        kept = {n: own[n] for n in ("params", "param_names", *FLAGS) if n in own}
        if "param_names" in group:
            kept.pop("param_names", None)
        given = {n: deepcopy(v) for n, v in group.items() if n not in FLAGS}
        result.append({**missing, **given, **kept})
    return result


def _taken(optimizer: Optimizer, i: int, entry: Mapping[str, Any], hypers: Mapping[str, Any],
           state: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return age and buffers of one parameter."""
    where, ours, p = f"state[{i}]", optimizer._ours, optimizer._params[i]
    order = optimizer._order(i)
    own, kind = state["state"][i], optimizer._arguments.kind
    names = {_key(optimizer, name): name for name in own}
    if kind.__name__ == "Rprop" and "step_size" in entry:
        entry = {"ratio": entry["step_size"] / hypers["lr"], **entry}       # kept, if there is one
        del entry["step_size"]
    product = {"mu_product"} if kind.__name__ == "NAdam" else set()
    for key in set(entry) - {*names, "step"} - product:
        raise ValueError(f"{where} has {key!r}, which {kind.__name__} has no counterpart of")
    needed = {key: name for key, name in names.items()
              if name != "master" and _is_kept(optimizer, name, hypers)}
    arrays = {names[key]: numbers_of(value, own[names[key]], order)
              for key, value in entry.items() if key in names and value is not None}
    for key, name in needed.items():
        if entry and name not in arrays:
            raise ValueError(f"{where} has no {key!r}")
    if not _counted(optimizer, p):
        age = 1 if arrays else 0
    else:
        age = age_of(where, entry) if entry else 0
    if "mu_product" in entry:
        check_product(where, float(number(entry["mu_product"])), ours, hypers, age)
    if "master" in own and "master" not in arrays:
        arrays["master"] = numbers_of(p, own["master"], order)
    return age, {**_fresh(optimizer, i, hypers), **arrays}


def _fresh(optimizer: Optimizer, i: int, hypers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a parameter before its first step."""
    new = optimizer._arguments.kind(**optimizer._settings())
    new.bind([{**hypers, "params": [optimizer._memory[i].copy()]}])
    own = optimizer._ours._buffers()[i]         # the first parameter has more than others
    return {name: buffer for name, buffer in new._buffers()[0].items() if name in own}
