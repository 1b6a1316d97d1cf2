"""The arguments of the classes: PyTorch's where it has the class, fastmom's otherwise."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from inspect import Parameter, Signature, signature
from operator import itemgetter
from typing import Any

import torch

from fastmom.checks import reject_unknown
from fastmom.integrations.torch_state import AS_TORCH, DROPPED, TORCH, Buffers, Names, named, number
from fastmom.optim import OPTIMIZERS
from fastmom.optim import Optimizer as Ours

# How PyTorch's kernels are chosen. "fused" is what fastmom does; the others are meaningless here.
FLAGS: dict[str, bool | None] = {"foreach": None, "fused": None, "capturable": False,
                                 "differentiable": False}
OPTIONS = ("clip_norm", "clip_norm_per_tensor", "clip_value", "nonfinite", "state_dtype",
           "rounding", "master")
RPROP: Names = {"lr": ("lr",), "etas": ("eta_minus", "eta_plus"),
                "step_sizes": ("step_min", "step_max")}
LEFT_OUT = {"SGD": {"decay"}}       # counts steps, which PyTorch's state does not
# Of what PyTorch's Muon leaves to AdamW; and "step_size" of Rprop is our ratio times lr
OTHERS = {"Muon": {"mean": "exp_avg", "square": "exp_avg_sq"}, "Rprop": {"gradient": "prev"}}


class Arguments:
    """Of one class: their names there and here, defaults, and the names of its state.

    Parameters
    ----------
    name : str
        Of the optimizer, in fastmom.
    """

    def __init__(self, name: str) -> None:
        self.kind: type[Ours] = OPTIMIZERS[name.lower()]
        hypers = self.kind._group_hypers
        theirs = getattr(torch.optim, name, None)
        buffers: Buffers
        names, buffers = TORCH.get(name, (RPROP if name == "Rprop" else {}, {}))
        self.toggles = [n for n in ("momentum", "amsgrad", "centered") if n in hypers]
        self.fixed: dict[str, Any] = dict(AS_TORCH.get(name, {}))
        covered = {n for ours in names.values() for n in ours}
        self.extras = {n: hypers[n].default for n in hypers if n not in {
            *covered, *self.fixed, *LEFT_OUT.get(name, ())}}
        self.names: Names = {**names, **{n: (n,) for n in self.extras}}
        self.buffers = {ours: theirs for theirs, (ours, _) in buffers.items()}
        self.buffers |= OTHERS.get(name, {})
        self.switches = {ours: switch for ours, switch in buffers.values() if switch}

        parameters = dict(signature(theirs).parameters) if theirs else {
            n: Parameter(n, Parameter.KEYWORD_ONLY if h.kw_only else
                         Parameter.POSITIONAL_OR_KEYWORD, default=h.default)
            for n, h in sorted(hypers.items(), key=lambda item: item[1].kw_only)}
        self.flags = [flag for flag in FLAGS if theirs and flag in parameters]
        parameters.setdefault("params", Parameter("params", Parameter.POSITIONAL_OR_KEYWORD))
        shown = [parameters.pop("params").replace(annotation=Parameter.empty)]
        shown += [p.replace(annotation=Parameter.empty) for p in parameters.values()]
        for n in (*self.names, *OPTIONS):
            if n not in parameters:
                shown.append(Parameter(n, Parameter.KEYWORD_ONLY,
                                       default=self.kind._hypers[n].default))
        self.signature = Signature(shown)
        self.defaults = {p.name: p.default for p in shown if p.name in {*self.names, *self.flags}}
        self.extras = {n: self.defaults[n] for n in self.extras if n not in parameters}
        self.read = itemgetter(*self.names, *self.flags)

    def bind(self, args: tuple[Any, ...],
             given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the defaults of groups, and fastmom's options, of the constructor's arguments."""
        reject_unknown(self.kind.__name__, given, self.signature.parameters)
        bound = self.signature.bind(None, *args, **given).arguments
        return ({n: bound.get(n, default) for n, default in self.defaults.items()},
                {n: bound[n] for n in OPTIONS if n in bound})

    def check_names(self, group: Mapping[str, Any]) -> None:
        """Raise TypeError if a name in a group looks like a misspelt argument."""
        known = {*self.names, *FLAGS, *DROPPED, "params"}
        for name in set(group) - known:
            for like in difflib.get_close_matches(str(name), self.names, 1, 0.8):
                raise TypeError(f"a group has {name!r}, which {self.kind.__name__} has not: did "
                                f"you mean {like!r}?")

    def ours(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyper-parameters of a group in fastmom's names, their values not yet checked.

        Raises
        ------
        TypeError, ValueError
            If one has another form, or a flag is on that means nothing here.
        """
        for flag in self.flags:
            if flag != "fused" and group.get(flag):
                raise ValueError(f"{flag}={group[flag]!r} has no meaning here: fastmom has one "
                                 f"way to compute a step; leave it {FLAGS[flag]}")
        result = dict(self.fixed)
        for name, ours in self.names.items():
            value = group[name]
            if name == "adjust_lr_fn" and value is None:
                value = "original"
            result.update(named(name, ours, number(value)))
        return result

    def plain(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return values of a group without tensors, to compare later ones with."""
        return tuple(tuple(map(number, value)) if isinstance(value, tuple) else
                     None if isinstance(value, list) else number(value) for value in values)
