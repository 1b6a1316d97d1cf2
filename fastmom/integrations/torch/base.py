"""The base of all classes: PyTorch's interface around one of fastmom's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import is_
from typing import Any, ClassVar

import torch

from fastmom.integrations.torch import state as states
from fastmom.integrations.torch.arguments import OPTIONS, Arguments
from fastmom.integrations.torch.memory import Order, exchange, looked_at, mark, order_of
from fastmom.optim import OPTIMIZERS
from fastmom.optim import Optimizer as Ours
from fastmom.optim.values import Values

EXCHANGE = exchange()


class Option:
    """A setting that holds for all groups: read and assigned as fastmom's optimizer has it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Optimizer | None, owner: type) -> Any:
        return self if optimizer is None else optimizer._ours._options[self.name]

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        setattr(optimizer._ours, self.name, value)


class Optimizer(torch.optim.Optimizer):
    """Base of all classes.

    Notes
    -----
    Parameters are bound to the kernels at the first step, without a copy; one whose memory is
    another since (``p.data = ...``) is bound anew, with its state.
    """

    _arguments: ClassVar[Arguments]
    _step_supports_amp_scaling = True       # for GradScaler: the kernels divide by its scale

    clip_norm, clip_norm_per_tensor, clip_value = Option(), Option(), Option()
    nonfinite, state_dtype, rounding, master = Option(), Option(), Option(), Option()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__name__.lower() in OPTIMIZERS and not hasattr(cls, "_arguments"):
            cls._arguments = Arguments(cls.__name__)
            cls.__signature__ = cls._arguments.signature

    def __init__(self, params: Any, *args: Any, **given: Any) -> None:
        defaults, options = self._arguments.bind(args, given)
        self._begin(options)
        super().__init__(params, defaults)

    def _begin(self, options: Mapping[str, Any]) -> None:
        self._ours: Ours = self._arguments.kind(**options)
        self._params: list[Any] = []            # that are bound, in the order of the groups
        self._memory: list[Any] = []            # arrays of theirs
        self._orders: list[Order] | None = None     # where some are not contiguous as they are
        self._masters: list[tuple[Any, Any, Any]] = []      # parameters, masters, arrays
        self._versions: list[Any] = []          # marks of those parameters
        self._told: list[Any] = []              # values of the groups that are in force
        self._stateless: list[int] = []         # parameters that had no step yet

    def _settings(self) -> dict[str, Any]:
        """Return the options."""
        return {name: self._ours._options[name] for name in OPTIONS}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take further parameters: see `torch.optim.Optimizer.add_param_group`.

        Raises
        ------
        TypeError, ValueError
            If a parameter cannot be updated in place, or a value is not allowed. Nothing has
            changed then.
        """
        count = len(self.param_groups)
        super().add_param_group(param_group)
        try:
            group = self.param_groups[count]
            self._arguments.check_names(group)
            first = sum(len(g["params"]) for g in self.param_groups[:count])
            for i, p in enumerate(group["params"], first):
                self._check_parameter(self._named(i), p)
            self._checked(group)
        except BaseException:
            del self.param_groups[count]
            raise

    def _check_parameter(self, name: str, p: Any) -> None:
        """Raise if steps cannot update this parameter."""
        order_of(name, p)

    def _named(self, i: int) -> str:
        """Return what errors call a parameter."""
        first = 0
        for group in self.param_groups:
            names = group.get("param_names")
            if names and i - first < len(names):
                return f"parameter {names[i - first]!r}"
            first += len(group["params"])
        return f"params[{i}]"

    def _checked(self, group: Mapping[str, Any]) -> Values:
        """Return the values of a group as fastmom's, or raise."""
        ours = self._ours
        return Values(ours, ours._group_hypers, self._arguments.ours(group), {})

    # The step -------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters in place from their ``.grad``.

        Parameters
        ----------
        closure : callable, optional
            Computes the gradients and returns the loss, which is returned.

        Raises
        ------
        TypeError, ValueError
            If a gradient is sparse or on another device, or a value in a group is not allowed.
            Parameters and state are as before.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = [p for group in self.param_groups for p in group["params"]]
        grads = self._gradients(params)
        self._prepare(params)
        own = self.__dict__
        if "found_inf" in own and own["found_inf"] is not None and own["found_inf"].item():
            return loss
        ours, scale = self._ours, own.get("grad_scale")
        scale = 1.0 if scale is None else float(scale)
        if ours._options["grad_scale"] != scale:
            ours.grad_scale = scale
        if self._run(grads):
            if ours._bound_engine().uneven:
                params = [p for p, g in zip(params, grads, strict=True) if g is not None]
            self._written(params)
            if self._stateless:
                states.publish(self)
            if self._masters:
                self._versions = [mark(p) for p, _, _ in self._masters]
        return loss

    def _gradients(self, params: list[Any]) -> list[Any]:
        """Return the gradients of the coming step."""
        return [p.grad for p in params]

    def _homes(self, params: list[Any]) -> list[Any]:
        """Return the tensors on the CPU that steps change."""
        return params

    def _written(self, params: list[Any]) -> None:
        """Tell PyTorch that a step has changed these parameters."""
        torch.autograd.graph.increment_version(params)

    def _order(self, i: int) -> Order:
        """Return the order in which the axes of a parameter are bound."""
        return None if self._orders is None else self._orders[i]

    def _ordered(self, i: int, gradient: Any) -> Any:
        """Return a gradient with its axes as they are bound."""
        order = self._order(i)
        if order is None or gradient is None or gradient.layout is not torch.strided:
            return gradient
        return gradient.detach().permute(*order)

    def _run(self, grads: list[Any]) -> bool:
        """Step fastmom's optimizer; gradients that it does not take as they are take longer."""
        if self._orders is not None:
            grads = [self._ordered(i, g) for i, g in enumerate(grads)]
        arrays = EXCHANGE.arrays(grads)
        try:
            return self._ours.step(arrays)
        except (TypeError, ValueError):
            closer = [looked_at(self._named(i), g, a)
                      for i, (g, a) in enumerate(zip(grads, arrays, strict=True))]
            if all(new is old for new, old in zip(closer, arrays, strict=True)):
                raise
            return self._ours.step(closer)

    def _prepare(self, params: list[Any]) -> None:
        """Bind the parameters, if they are not as they were, and take the values of the groups."""
        if not self._has(params) or not self._lie_still(params):
            self._bind(params)
        read = self._arguments.read
        for i, group in enumerate(self.param_groups):
            values = read(group)
            if values != self._told[i]:
                checked, before = self._checked(group), self._ours.param_groups[i]
                if any(bool(checked[n]) != bool(before[n]) for n in self._arguments.toggles):
                    self._stateless = list(range(len(params)))      # its buffers are others
                before.hold(checked._values)
                self._ours._changed()
                self._told[i] = self._arguments.plain(values)
        for (p, master, array), version in zip(self._masters, self._versions, strict=True):
            if mark(p) != version:          # someone else has written to it
                master[...] = array

    def _has(self, params: list[Any]) -> bool:
        """Return whether these are the parameters that are bound."""
        return len(params) == len(self._params) and all(map(is_, params, self._params))

    def _lie_still(self, params: list[Any]) -> bool:
        """Return whether they are in the memory that is bound."""
        still: bool = EXCHANGE.are(self._homes(params), self._memory)
        return still

    def _bind(self, params: list[Any]) -> None:
        """Bind these parameters; those that were bound before go on with their state."""
        homes = self._homes(params)
        orders = [order_of(self._named(i), p) for i, p in enumerate(homes)]
        kind = self._arguments.kind
        if kind.__name__ in ("Adafactor", "Muon"):
            for i, (p, order) in enumerate(zip(homes, orders, strict=True)):
                if order is not None and (p.ndim == 2 or kind.__name__ == "Adafactor"):
                    raise ValueError(f"{self._named(i)} has strides {p.stride()}; {kind.__name__} "
                                     f"takes matrices, so they must be contiguous")
        # of tensors of our own, so that no memory goes away while it is bound
        memory = EXCHANGE.arrays([p.detach() if order is None else p.detach().permute(*order)
                                  for p, order in zip(homes, orders, strict=True)])
        ours, rest, groups = kind(**self._settings()), iter(memory), []
        for group in self.param_groups:
            groups.append({**self._checked(group)._values,
                           "params": [next(rest) for _ in group["params"]]})
        ours.bind(groups)
        if self._params:
            states.carry_over(self._ours, self._params, ours, params)
        self._ours, self._params, self._memory = ours, list(params), memory
        self._orders = orders if any(order is not None for order in orders) else None
        self._masters = [(p, own["master"], array)
                         for p, own, array in zip(params, ours._buffers(), memory, strict=True)
                         if "master" in own]
        self._versions = [mark(p) for p, _, _ in self._masters]
        self._told = [None] * len(self.param_groups)
        self._stateless = list(range(len(params)))
        states.publish(self)

    # State ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return state and groups in PyTorch's form, as its own class of the name has them."""
        live: Any = self.state
        self.state: Any = states.exported(self)
        try:
            result: dict[str, Any] = super().state_dict()
        finally:
            self.state = live
        return states.without_defaults(self, result)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state dict of this class, or of PyTorch's own class of the name.

        Raises
        ------
        TypeError, ValueError
            If it does not fit. Nothing has changed then.
        """
        state_dict = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = before(self, state_dict)
            state_dict = state_dict if replaced is None else replaced
        states.load(self, state_dict)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return all of it for `pickle` and `copy.deepcopy`, parameters included."""
        return {"defaults": self.defaults, "param_groups": self.param_groups,
                "options": self._settings(), "saved": self.state_dict() if self._params else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(state["options"])
        super().__setstate__({"defaults": state["defaults"], "state": states.no_state(),
                              "param_groups": state["param_groups"]})
        if state["saved"] is not None:
            states.load(self, state["saved"])
