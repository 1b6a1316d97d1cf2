"""What ranks check before they begin, and before each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import choice
from fastmom.kernels.arrays import MemoryMap, check_array
from fastmom.optim import Optimizer
from fastmom.optim.formats import dtype_named
from fastmom.optim.groups import arrays_of, have_arrays

if TYPE_CHECKING:
    from fastmom.optim.values import Values
    from fastmom.types import Params


def checked_groups(params: Params, optimizer: Any, divided: bool) -> list[Values]:
    """Return the groups of parameters; raise for what cannot be distributed."""
    if not isinstance(optimizer, Optimizer):
        hint = ""
        if type(optimizer).__name__ == "GradientAccumulation":
            hint = "; for accumulation give Sharded its accumulate="
        raise TypeError(f"optimizer must be an Optimizer, not {type(optimizer).__name__}{hint}")
    if divided:
        optimizer._check_divisible("in one process: Sharded divides them; use Replicated")
    if optimizer._engine is not None:
        if not divided and have_arrays(optimizer.param_groups, params):
            return optimizer.param_groups
        raise ValueError("optimizer has parameters already; give one without, such as "
                         "fm.AdamW(lr=1e-3)")
    groups = optimizer._make_groups(params)
    arrays = arrays_of(groups)
    if not arrays:
        raise ValueError("params is empty; expected at least one array")
    memory = MemoryMap()
    for i, array in enumerate(arrays):
        check_array(array, "params", i, True, True)
        memory.add(array, f"params[{i}]")
    memory.seal()
    return groups


def checked_wire(wire: str | None, groups: Sequence[Values]) -> np.dtype[Any] | None:
    """Return the dtype in which gradients travel, if it is not their own."""
    if wire is None:
        return None
    choice("wire", wire, ("bfloat16",))
    for i, array in enumerate(arrays_of(groups)):
        if array.dtype != np.float32:
            raise ValueError(f"wire='bfloat16' is for float32 parameters; params[{i}] is "
                             f"{array.dtype}")
    return dtype_named(wire)


def described(groups: Sequence[Values], optimizer: Optimizer,
              about: Mapping[str, Any]) -> list[str]:
    """Return line by line what must be the same on all ranks."""
    lines = [f"optimizer {optimizer!r} after {optimizer.iterations} steps",
             *(f"{name}={value!r}" for name, value in about.items())]
    i = 0
    for n, group in enumerate(groups):
        values = {name: value if not callable(value) else type(value).__name__
                  for name, value in group._values.items()}
        lines.append(f"group {n} with {values}")
        for array in group["params"]:
            lines.append(f"params[{i}] of shape {array.shape} and {array.dtype} in group {n}")
            i += 1
    return lines


def check_gradient(i: int, grad: Any, like: Any) -> None:
    """Raise unless a gradient may be copied into its place."""
    check_array(grad, "grads", i, False, True)
    wide = like.dtype == np.float32
    if not (grad.dtype == like.dtype or (wide and grad.dtype.name in ("float16", "bfloat16"))):
        expected = "float32, float16 or bfloat16" if wide else str(like.dtype)
        raise TypeError(f"grads[{i}] has dtype {grad.dtype}, expected {expected} as params[{i}] is "
                        f"{like.dtype}")
    if grad.shape != like.shape:
        raise ValueError(f"grads[{i}] has shape {grad.shape}, expected {like.shape} as params[{i}]")
