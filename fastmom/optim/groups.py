"""The hyper-parameters of an optimizer: those of its groups of parameters, and the shared ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fastmom.checks import reject_unknown
from fastmom.optim.hyper import Declared, Hyper
from fastmom.optim.values import Values

if TYPE_CHECKING:
    from fastmom.kernels import Engine
    from fastmom.types import Array, Params, Row


def arrays_of(groups: Iterable[Mapping[str, Any]]) -> list[Array]:
    """Return the parameters of all groups, in their order."""
    return [array for group in groups for array in group["params"]]


def have_arrays(groups: Iterable[Mapping[str, Any]], params: Iterable[Any]) -> bool:
    """Return whether these are the very parameters of the groups, in their order."""
    return [*map(id, arrays_of(groups))] == [*map(id, params)]


class Elsewhere:
    """A name that other libraries' optimizers have: says what is done here instead.

    A descriptor, since ``__getattr__`` would make each look-up of any attribute slower.
    """

    def __init__(self, instead: str) -> None:
        self.instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r}: "
                             f"{self.instead}")


class Grouped(Declared):
    """The part of `Optimizer` that keeps the values of its hyper-parameters."""

    if not TYPE_CHECKING:       # to checkers they would exist
        zero_grad = Elsewhere("gradients are yours: pass step() those of this step")
        minimize = Elsewhere("compute the gradients and call step(grads)")
        apply_gradients = Elsewhere("call step(grads)")
        learning_rate = Elsewhere("it is lr here")

    def _start(self, hyper: Mapping[str, Any]) -> None:
        """Begin without parameters."""
        self._engine: Engine | None = None
        self._rows: list[Row] | None = None
        self._kinds: list[tuple[int, bool]] = []        # a group, and whether of its matrices
        self._kind_of: list[int] = []                   # of each parameter
        self._apart: list[dict[str, Array]] = []        # state that the engine has no part in
        self._masters: list[Array | None] = []
        self._options = Values(self, self._shared_hypers, hyper, {})
        self._defaults = Values(self, self._group_hypers, hyper, {"params": []})
        self.param_groups = [self._defaults]

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse an attribute without effect, such as another library's `learning_rate`."""
        if not (name.startswith("_") or name == "param_groups" or hasattr(type(self), name)):
            reject_unknown(type(self).__name__, [name], self._hypers)
        super().__setattr__(name, value)

    def _make_groups(self, params: Params) -> list[Values]:
        if isinstance(params, np.ndarray) or not isinstance(params, Sequence):
            raise TypeError(f"params must be a list of arrays or of groups, not "
                            f"{type(params).__name__}")
        if not any(isinstance(entry, Mapping) for entry in params):
            params = [{"params": params}]
        return [self._make_group(f"params[{i}]", i, entry) for i, entry in enumerate(params)]

    def _make_group(self, where: str, i: int, entry: Any) -> Values:
        given = entry.get("params") if isinstance(entry, Mapping) else None
        if not isinstance(given, Sequence):
            raise TypeError(f"{where} must be a group with a list of arrays under 'params'; arrays "
                            f"and groups cannot be mixed")
        reject_unknown(f"group {i} of {type(self).__name__}", entry,
                       {"params", *self._group_hypers})
        return Values(self, self._group_hypers, {**self._defaults, **entry},
                      {"params": list(given)})

    def _values(self, hyper: Hyper[Any, Any]) -> Values:
        """Return the values that this hyper-parameter is among."""
        if hyper.shared:
            return self._options
        if len(self.param_groups) > 1:
            raise AttributeError(f"there are {len(self.param_groups)} groups: use "
                                 f"param_groups[i][{hyper.name!r}]")
        return self.param_groups[0]

    def __repr__(self) -> str:
        """Return the call that makes it; a list where the groups differ."""
        groups = self.param_groups
        given = {**{name: [value] for name, value in self._options.items()},
                 **{name: [group[name] for group in groups] for name in self._group_hypers}}
        told = {name: values if any(v != values[0] for v in values) else values[0]
                for name, values in given.items()}
        always = [n for n in ("lr", "momentum") if n in told]
        shown = (f"{n}={told[n]!r}" for n in dict.fromkeys([*always, *sorted(told)])
                 if n in always or told[n] != self._hypers[n].default)
        return f"{type(self).__name__}({', '.join(shown)})"

    def _check_together(self, values: Mapping[str, Any]) -> None:
        """Raise if values that are allowed alone are not allowed together."""
        if values.get("clip_norm") is not None and values.get("clip_norm_per_tensor") is not None:
            raise ValueError(f"clip_norm={values['clip_norm']} and clip_norm_per_tensor="
                             f"{values['clip_norm_per_tensor']}: give one of them")

    def _changed(self) -> None:
        """Take changed hyper-parameters into the next step."""
        self._rows, self._stale, self._signs_stale = None, True, True
