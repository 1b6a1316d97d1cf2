"""Parameters on an accelerator whose optimizer works in the memory of the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, NoReturn

import torch

from fastmom.integrations.torch import base
from fastmom.integrations.torch.base import Optimizer
from fastmom.integrations.torch.memory import mark, order_of
from fastmom.kernels.sums import WeightedSum

__all__ = ["CPUOffload"]

MADE: dict[Any, type[Optimizer]] = {}       # classes, by those that they are of


def CPUOffload(params: Any, optimizer_class: type[Optimizer],
               **settings: Any) -> Optimizer:
    """Return an optimizer of parameters on an accelerator whose state is in the CPU's memory.

    Each gradient is copied down, in 16 bits, as soon as the backward pass has it, while that goes
    on; then the accelerator's memory of it is free, and ``.grad`` is None. A step updates float32
    masters and state with the CPU, and copies the parameters up.

    Parameters
    ----------
    params : iterable
        Of parameters or groups. Of bfloat16 and float16 parameters the CPU has a copy and a
        float32 master, of others a copy.
    optimizer_class : type
        Of those in `fastmom.integrations.torch`, such as ``AdamW``.
    **settings
        Its arguments. To limit the norm of all gradients give ``clip_norm=`` here: PyTorch's
        `clip_grad_norm_` would find none.

    Returns
    -------
    Optimizer
        Of `optimizer_class`, with all its ways: groups, schedulers, state dicts.

    Raises
    ------
    TypeError, ValueError
        If a parameter or a setting will not do.

    Notes
    -----
    Gradients are sent in bfloat16 (float16 and float64 ones as they are); those of several backward
    passes before a step are added up in float32 by the step. ``zero_grad()`` drops them. Pinned
    memory and a stream of its own are used with CUDA.

    Examples
    --------
    >>> import torch
    >>> from fastmom.integrations.torch import AdamW, CPUOffload
    >>> model = torch.nn.Linear(3, 1, dtype=torch.bfloat16)     # .to("cuda")
    >>> optimizer = CPUOffload(model.parameters(), AdamW, lr=0.01, clip_norm=1.0)
    >>> model(torch.ones(2, 3, dtype=torch.bfloat16)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.state[model.bias]["master"].dtype
    torch.float32
    """
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise TypeError(f"optimizer_class must be one of fastmom.integrations.torch, not "
                        f"{optimizer_class!r}")
    return offloaded(optimizer_class)(params, **settings)


def offloaded(optimizer_class: type[Optimizer]) -> type[Optimizer]:
    """Return the class that does so."""
    if optimizer_class not in MADE:
        MADE[optimizer_class] = type(f"Offloaded{optimizer_class.__name__}",
                                     (Offloaded, optimizer_class), {})
    return MADE[optimizer_class]


class Offloaded(Optimizer):
    """The part of such a class that moves parameters and gradients."""

    def _begin(self, options: Mapping[str, Any]) -> None:
        super()._begin(options)
        self._sent: dict[int, tuple[Any, Any]] = {}     # its mark and CPU tensor by parameter
        self._spare: dict[int, list[Any]] = {}          # memory for gradients
        self._arrived: dict[int, int] = {}              # how many of these are filled
        self._hooked: dict[int, Any] = {}               # parameters, which keeps their ids theirs
        self._streams: dict[Any, Any] = {}              # of the copies down, by device

    def _check_parameter(self, name: str, p: Any) -> None:
        order_of(name, p if p.device.type == "cpu" else torch.empty_like(
            p, device="cpu") if p.layout is torch.strided else p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        mine = weakref.ref(self)

        def arrives(p: Any) -> None:
            optimizer = mine()
            if optimizer is not None:
                optimizer._fetch(p)
        for p in self.param_groups[-1]["params"]:
            if p.requires_grad:
                self._hooked[id(p)] = p
                p.register_post_accumulate_grad_hook(arrives)

    # Down -----------------------------------------------------------------------------------------

    def _fetch(self, p: Any) -> None:
        """Copy a gradient to the CPU's memory, and give that of the accelerator back."""
        gradient = p.grad
        if gradient.layout is not torch.strided:
            raise TypeError(f"a gradient of shape {tuple(p.shape)} has layout {gradient.layout}; "
                            f"expected a dense one")
        p.grad = None
        count = self._arrived.get(id(p), 0)
        spare = self._spare.setdefault(id(p), [])
        dtype = p.dtype if p.dtype in (torch.float16, torch.float64) else torch.bfloat16
        if len(spare) == count:
            spare.append(host_memory(p, dtype))
        if p.device.type == "cuda":
            if p.device not in self._streams:
                self._streams[p.device] = torch.cuda.Stream(p.device)
            stream = self._streams[p.device]
            stream.wait_stream(torch.cuda.current_stream(p.device))
            with torch.no_grad(), torch.cuda.stream(stream):
                spare[count].copy_(gradient.to(dtype), non_blocking=True)
            gradient.record_stream(stream)
        else:
            spare[count].copy_(gradient.detach())
        self._arrived[id(p)] = count + 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients that have arrived."""
        super().zero_grad(set_to_none)
        self._arrived.clear()

    def _gradients(self, params: list[Any]) -> list[Any]:
        for p in params:
            if p.grad is not None:      # set by hand
                self._fetch(p)
        for stream in self._streams.values():
            stream.synchronize()
        counts = [self._arrived.get(id(p), 0) for p in params]
        return [self._spare[id(p)][:count] if count else None
                for p, count in zip(params, counts, strict=True)]

    def _run(self, grads: list[Any]) -> bool:
        arrived = [g if g is None else base.EXCHANGE.arrays([self._ordered(i, t) for t in g])
                   for i, g in enumerate(grads)]
        stepped = self._ours.step([g if g is None else g[0] if len(g) == 1 else
                                   WeightedSum(g, [1.0] * len(g)) for g in arrived])
        self._arrived.clear()
        return stepped

    # Up -------------------------------------------------------------------------------------------

    def _homes(self, params: list[Any]) -> list[Any]:
        for device in self._streams:        # else a step would change what is being sent up
            torch.cuda.current_stream(device).synchronize()
        for p in params:
            seen, home = self._sent.get(id(p), (None, None))
            if home is None or home.shape != p.shape or home.dtype != p.dtype:
                seen, home = None, host_memory(p, p.dtype)
            if seen != mark(p):             # new, or somebody else has written to it
                home.copy_(p.detach())
                self._sent[id(p)] = mark(p), home
        return [self._sent[id(p)][1] for p in params]

    def _written(self, params: list[Any]) -> None:
        for p in params:
            home = self._sent[id(p)][1]
            with torch.no_grad():
                p.copy_(home, non_blocking=True)
            self._sent[id(p)] = mark(p), home

    def __getstate__(self) -> NoReturn:
        raise TypeError("an optimizer of CPUOffload cannot be copied or pickled: its hooks belong "
                        "to its parameters; save its state_dict()")


def host_memory(p: Any, dtype: Any) -> Any:
    """Return a tensor on the CPU like this one, from which CUDA can copy in the background."""
    return torch.empty_like(p, device="cpu", dtype=dtype, requires_grad=False,
                            pin_memory=p.device.type == "cuda")
