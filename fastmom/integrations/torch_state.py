"""The form of PyTorch's state dicts, which `fastmom.optim.state.from_torch` reads without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import integer

if TYPE_CHECKING:
    from fastmom.optim.base import Optimizer
    from fastmom.types import Array

# Names in groups and ours; names of buffers, ours, and the hyper-parameter without which PyTorch
# has none.
_ADAM = {"lr": ("lr",), "betas": ("beta1", "beta2"), "eps": ("eps",),
         "weight_decay": ("weight_decay",), "decoupled_weight_decay": ("decoupled_weight_decay",)}
Names = dict[str, tuple[str, ...]]
Buffers = dict[str, tuple[str, str | None]]
_MOMENTS: Buffers = {"exp_avg": ("mean", None), "exp_avg_sq": ("square", None)}
_LARGEST: Buffers = {"max_exp_avg_sq": ("largest_square", "amsgrad")}
TORCH: dict[str, tuple[Names, Buffers]] = {
    "SGD": ({"lr": ("lr",), "momentum": ("momentum",), "dampening": ("dampening",),
             "nesterov": ("nesterov",), "weight_decay": ("weight_decay",)},
            {"momentum_buffer": ("velocity", "momentum")}),
    "Adam": (_ADAM | {"amsgrad": ("amsgrad",)}, _MOMENTS | _LARGEST),
    "AdamW": (_ADAM | {"amsgrad": ("amsgrad",)}, _MOMENTS | _LARGEST),
    "NAdam": (_ADAM | {"momentum_decay": ("momentum_decay",)}, _MOMENTS),
    "RMSprop": ({"lr": ("lr",), "alpha": ("beta2",), "eps": ("eps",), "momentum": ("momentum",),
                 "centered": ("centered",), "weight_decay": ("weight_decay",)},
                {"square_avg": ("square", None), "momentum_buffer": ("velocity", "momentum"),
                 "grad_avg": ("mean", "centered")}),
    "Adagrad": ({"lr": ("lr",), "lr_decay": ("decay",), "eps": ("eps",),
                 "weight_decay": ("weight_decay",),
                 "initial_accumulator_value": ("initial_accumulator",)},
                {"sum": ("square", None)}),
    "Adadelta": ({"lr": ("lr",), "rho": ("beta2",), "eps": ("eps",),
                  "weight_decay": ("weight_decay",)},
                 {"square_avg": ("square", None), "acc_delta": ("step_square", None)}),
    "Adamax": ({name: _ADAM[name] for name in ("lr", "betas", "eps", "weight_decay")},
               {"exp_avg": ("mean", None), "exp_inf": ("largest", None)}),
    "RAdam": (_ADAM, _MOMENTS),
    "Adafactor": ({"lr": ("lr",), "beta2_decay": ("beta2_decay",), "eps": ("eps1", "eps2"),
                   "d": ("clipping_threshold",), "weight_decay": ("weight_decay",)},
                  {"row_var": ("row", None), "col_var": ("column", None),
                   "variance": ("square", None)}),
    "Muon": ({"lr": ("lr",), "momentum": ("momentum",), "nesterov": ("nesterov",),
              "weight_decay": ("weight_decay",), "ns_coefficients": ("ns_coefficients",),
              "ns_steps": ("ns_steps",), "eps": ("eps",), "adjust_lr_fn": ("scaling",)},
             {"momentum_buffer": ("velocity", None)}),
}
AS_TORCH = {"Muon": {"layout": "out_in"}}       # where our default is another
OF_THE_REST = {"Muon": {"adamw_lr", "beta1", "beta2", "adamw_eps"}}     # PyTorch leaves it to AdamW

# Flags of how to compute, and what learning rate schedulers keep in the groups.
DROPPED = {"foreach", "fused", "capturable", "differentiable", "param_names", "initial_lr",
           "max_lr", "min_lr", "max_momentum", "base_momentum"}
OLDER_LACK = {"decoupled_weight_decay", "maximize"}     # then it is the optimizer's default
NOT_COUNTED = {"SGD", "Muon"}       # their buffer alone tells that there was a step


def check_known(optimizer: Optimizer) -> None:
    """Raise ValueError if PyTorch has no such optimizer."""
    if type(optimizer).__name__ not in TORCH:
        raise ValueError(f"no PyTorch state can be imported into {type(optimizer).__name__}; only "
                         f"into {', '.join(TORCH)}")


def converted(optimizer: Optimizer, own: dict[str, Any], state: Mapping[str, Any],
              iterations: int | None) -> dict[str, Any]:
    """Return PyTorch's state dict in the form of `own`, the optimizer's, not yet checked."""
    result = own
    if not isinstance(state, Mapping) or set(state) != {"state", "param_groups"}:
        raise ValueError("state must be the state_dict() of an optimizer of PyTorch, with 'state' "
                         "and 'param_groups'")
    own_groups, groups = result["groups"], state["param_groups"]
    if not isinstance(groups, (list, tuple)) or len(groups) != len(own_groups):
        raise ValueError(f"param_groups must be a list of {len(own_groups)} groups")
    result["groups"] = [_group(f"param_groups[{i}]", optimizer, own, group)
                        for i, (own, group) in enumerate(zip(own_groups, groups, strict=True))]
    result["steps"], result["state"] = _buffers(optimizer, result["groups"], state["state"],
                                                iterations)
    result["iterations"] = max(result["steps"]) if iterations is None else iterations
    return result


def _group(where: str, optimizer: Optimizer, own: Mapping[str, Any], group: Any) -> dict[str, Any]:
    """Return the hyper-parameters of one group in our names."""
    name = type(optimizer).__name__
    if not isinstance(group, Mapping):
        raise TypeError(f"{where} must be a dict, not {type(group).__name__}")
    names = TORCH[name][0] | {"maximize": ("maximize",)}
    for key in {*names, "params"} - OLDER_LACK:
        if key not in group:
            raise ValueError(f"{where} has no {key!r}: is it of torch.optim.{name}?")
    result = {n: hyper.default for n, hyper in optimizer._group_hypers.items()}
    result |= {n: own[n] for n in OF_THE_REST.get(name, ())} | AS_TORCH.get(name, {})
    for key, value in group.items():
        if key in names:
            value = "original" if key == "adjust_lr_fn" and value is None else value
            result.update(named(f"{where}[{key!r}]", names[key], number(value)))
        elif key not in DROPPED | {"params"}:
            raise ValueError(f"{where} has {key!r}, which {name} has no counterpart of")
    for n in set(result) - {n for ours in names.values() for n in ours}:
        if own[n] != result[n]:
            raise ValueError(f"{n}={own[n]!r}: torch.optim.{name} computes as with "
                             f"{n}={result[n]!r}; set that before the import")
    return {**result, "params": group["params"]}


def named(where: str, names: tuple[str, ...], value: Any) -> dict[str, Any]:
    values = value if len(names) > 1 else (value,)
    if not isinstance(values, (list, tuple)) or len(values) != len(names):
        raise ValueError(f"{where} must be {len(names)} numbers, not {value!r}")
    return dict(zip(names, map(number, values), strict=True))


def _buffers(optimizer: Optimizer, groups: list[dict[str, Any]], state: Any,
             iterations: int | None) -> tuple[list[int], list[dict[str, Any]]]:
    """Return ages and buffers of all parameters."""
    own = optimizer.state
    if not isinstance(state, Mapping) or not set(state) <= set(range(len(own))):
        raise ValueError(f"state must be a dict with numbers of parameters below {len(own)}")
    hypers_of = [group for group, mine in zip(groups, optimizer.param_groups, strict=True)
                 for _ in mine["params"]]
    ages, buffers = [], []
    for i, (like, hypers) in enumerate(zip(own, hypers_of, strict=True)):
        age, arrays = _entry(f"state[{i}]", optimizer, state.get(i, {}), like, hypers,
                             iterations)
        start = hypers.get("initial_accumulator", 0.0)      # of a parameter that never stepped
        ages.append(age)
        buffers.append({n: arrays.get(n, a if n == "master" else np.full_like(a, start))
                        for n, a in like.items()})
    return ages, buffers


def _entry(where: str, optimizer: Optimizer, entry: Any, like: Mapping[str, Array],
           hypers: Mapping[str, Any], iterations: int | None) -> tuple[int, dict[str, Array]]:
    """Return age and buffers of one parameter, whose own are `like`."""
    name = type(optimizer).__name__
    if not isinstance(entry, Mapping):
        raise TypeError(f"{where} must be a dict, not {type(entry).__name__}")
    names = TORCH[name][1]
    product = {"mu_product"} if name == "NAdam" else set()
    for key in set(entry) - set(names) - {"step"} - product:
        raise ValueError(f"{where} has {key!r}, which {name} has no counterpart of")
    arrays = {names[key][0]: array_of(value) for key, value in entry.items()
              if key in names and value is not None}
    if name in NOT_COUNTED:
        age = 1 if iterations is None else iterations
        return age if arrays or (iterations and not hypers["momentum"]) else 0, arrays
    if not entry:
        return 0, {}
    for key, (ours, switch) in names.items():
        if ours in like and ours not in arrays and (switch is None or hypers[switch]):
            raise ValueError(f"{where} has no {key!r}")
    age = age_of(where, entry)
    if "mu_product" in entry:
        check_product(where, float(number(entry["mu_product"])), optimizer, hypers, age)
    return age, arrays


def age_of(where: str, entry: Mapping[str, Any]) -> int:
    step = number(entry.get("step"))
    if isinstance(step, float) and step.is_integer():       # PyTorch counts in float32
        step = int(step)
    return integer(f"{where}['step']", step, 0)


def check_product(where: str, product: float, optimizer: Any, hypers: Mapping[str, Any],
                   age: int) -> None:
    """Raise unless NAdam's product of momenta follows from hyper-parameters that never changed."""
    expected = optimizer.momentum_product(hypers["beta1"], hypers["momentum_decay"], age)
    # PyTorch usually multiplies in float32; a product below 1e-16 has no effect any more
    if not math.isclose(product, expected, rel_tol=1e-3, abs_tol=1e-16):
        raise ValueError(f"{where}['mu_product'] is {product:g}, expected {expected:g}: betas or "
                         f"momentum_decay have changed during the training")


def array_of(value: Any) -> Any:
    """Return a tensor as an array, without importing its library."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()


def number(value: Any) -> Any:
    value = array_of(value)
    single = isinstance(value, (np.ndarray, np.generic)) and value.size == 1
    return value.item() if single else value
