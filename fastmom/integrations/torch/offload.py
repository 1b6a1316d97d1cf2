"""Parameters on an accelerator whose optimizer works in the memory of the CPU."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, NoReturn

import torch

from fastmom.checks import integer
from fastmom.integrations.torch import base
from fastmom.integrations.torch.ahead import Ahead, check_ahead
from fastmom.integrations.torch.base import Optimizer
from fastmom.integrations.torch.memory import mark, order_of
from fastmom.kernels.sums import WeightedSum

__all__ = ["CPUOffload"]

MADE: dict[Any, type[Optimizer]] = {}       # classes, by those that they are of


def CPUOffload(params: Any, optimizer_class: type[Optimizer], *, threads: int | None = None,
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
    threads : int, optional
        Work on gradients as they arrive, with so many threads, while the backward pass goes on:
        ``step()`` finds all but the last ones done. There must be one backward pass to a step then.
        None, the default, does all in ``step()``, with the threads of `fastmom.set_num_threads`.
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
        If a parameter or a setting will not do: with `threads`, `YellowFin` and ``restart=True``.
    RuntimeError
        With `threads`, by a second backward pass before the step, and by ``zero_grad()`` and state
        dicts between the two.

    Notes
    -----
    Gradients are sent in bfloat16 (float16 and float64 ones as they are); those of several backward
    passes before a step are added up in float32 by the step. ``zero_grad()`` drops them. Pinned
    memory and a stream of its own are used with CUDA.

    With `threads`, masters and state change during the backward pass, some tensors at a time, and
    the parameters in ``step()``, to the same bits as without; but noise of rounding is drawn anew.
    Values of the groups are those at the first gradient. Where `clip_norm` or `nonfinite` asks for
    all gradients, only their norms are taken ahead (which rounds the last bit of the norm).

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
    if threads is not None:
        threads = integer("threads", threads, 1)
    made: Any = offloaded(optimizer_class)(params, **settings)
    for group in made.param_groups if threads is not None else ():
        check_ahead(made._arguments.kind(**made._settings(), **made._checked(group)._values))
    made._threads = threads
    optimizer: Optimizer = made
    return optimizer


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
        self._one_at_a_time = threading.Lock()          # each accelerator's pass has a thread
        self._hooked: dict[int, Any] = {}               # parameters, which keeps their ids theirs
        self._streams: dict[Any, Any] = {}              # of the copies down, by device
        self._uploads: list[Any] = []                   # events after the copies up
        self._threads: Any = None                       # that work ahead, if any
        self._ahead: Any = None
        self._places: dict[int, int] = {}               # of parameters in the list of all

    def _check_parameter(self, name: str, p: Any) -> None:
        order_of(name, p if p.device.type == "cpu" else torch.empty_like(
            p, device="cpu") if p.layout is torch.strided else p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        mine = weakref.ref(self)

        def arrives(p: Any) -> None:
            optimizer = mine()
            if optimizer is not None:
                with optimizer._one_at_a_time:
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
        if self._threads is not None:
            self._await(p, count)
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
        if self._ahead is not None:
            i = self._places[id(p)]
            array, = base.EXCHANGE.arrays([self._ordered(i, spare[count])])
            self._ahead.take(i, array, stream.record_event() if p.device.type == "cuda" else None)

    def _await(self, p: Any, count: int) -> None:
        """Prepare for the first gradient of a step, or refuse the second of a parameter."""
        if count:
            raise RuntimeError(f"{self._named(self._places[id(p)])} has another gradient before "
                               f"step(): with threads={self._threads} each is stepped as it "
                               f"arrives; give threads=None to add several up")
        if not self._is_ahead():
            params = [p for group in self.param_groups for p in group["params"]]
            self._prepare(params)
            self._places = {id(p): i for i, p in enumerate(params)}
            if self._ahead is None or self._ahead.whole is not self._ours._bound_engine():
                self._ahead = Ahead(self._ours, self._threads)
            self._ahead.begin()

    def _is_ahead(self) -> bool:
        """Return whether a part of the coming step may have been taken."""
        return self._ahead is not None and self._ahead.pool is not None

    def _check_between(self, what: str) -> None:
        """Raise RuntimeError if this is asked for in the middle of a step."""
        if self._is_ahead():
            raise RuntimeError(f"{what} before step(): with threads={self._threads} a part of the "
                               f"step was taken as gradients arrived")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients that have arrived."""
        self._check_between("zero_grad()")
        super().zero_grad(set_to_none)
        self._arrived.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return state and groups: see `Optimizer.state_dict`."""
        self._check_between("state_dict()")
        return super().state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state dict: see `Optimizer.load_state_dict`."""
        self._check_between("load_state_dict()")
        super().load_state_dict(state_dict)

    def _prepare(self, params: list[Any]) -> None:
        if not self._is_ahead():        # as it was prepared at its first gradient
            super()._prepare(params)

    def _gradients(self, params: list[Any]) -> list[Any]:
        if vars(self).get("found_inf") is not None:
            raise TypeError("a GradScaler cannot see gradients that have been copied down: train "
                            "in bfloat16, which needs none")
        for p in params:
            if p.grad is not None:      # set by hand
                self._fetch(p)
        for stream in self._streams.values():
            stream.synchronize()
        counts = [self._arrived.get(id(p), 0) for p in params]
        return [self._spare[id(p)][:count] if count else None
                for p, count in zip(params, counts, strict=True)]

    def _run(self, grads: list[Any]) -> bool:
        if self._is_ahead():
            return self._finish(grads)
        arrived = [g if g is None else base.EXCHANGE.arrays([self._ordered(i, t) for t in g])
                   for i, g in enumerate(grads)]
        stepped = self._ours.step([g if g is None else g[0] if len(g) == 1 else
                                   WeightedSum(g, [1.0] * len(g)) for g in arrived])
        self._arrived.clear()
        return stepped

    def _finish(self, grads: list[Any]) -> bool:
        """Take what is left of a step; if a part of it fails, the others are taken all the same."""
        self._arrived.clear()
        try:
            stepped: bool = self._ahead.finish()
        except BaseException:
            self._written([p for p, g in zip(self._params, grads, strict=True) if g is not None])
            raise
        return stepped

    # Up -------------------------------------------------------------------------------------------

    def _homes(self, params: list[Any]) -> list[Any]:
        for event in self._uploads:         # else a step would change what is being sent up
            event.synchronize()
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
        self._uploads = [torch.cuda.current_stream(device).record_event()
                         for device in self._streams]

    def __getstate__(self) -> NoReturn:
        raise TypeError("an optimizer of CPUOffload cannot be copied or pickled: its hooks belong "
                        "to its parameters; save its state_dict()")


def host_memory(p: Any, dtype: Any) -> Any:
    """Return a tensor on the CPU like this one, from which CUDA can copy in the background."""
    return torch.empty_like(p, device="cpu", dtype=dtype, requires_grad=False,
                            pin_memory=p.device.type == "cuda")
