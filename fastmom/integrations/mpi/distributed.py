"""What `Sharded` and `Replicated` share: one optimizer on many ranks, and its step."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from fastmom.checks import integer, reject_unknown
from fastmom.integrations.mpi.arguments import (
    check_gradient,
    checked_groups,
    checked_wire,
    described,
)
from fastmom.integrations.mpi.between import Between
from fastmom.integrations.mpi.ranks import Ranks, meet
from fastmom.integrations.mpi.shards import layout
from fastmom.integrations.mpi.windows import Window
from fastmom.kernels.sums import WeightedSum
from fastmom.optim import Optimizer
from fastmom.optim.copying import refuse_shallow_copy
from fastmom.optim.groups import arrays_of

if TYPE_CHECKING:
    from fastmom.optim.values import Values
    from fastmom.types import Grads, Params

OWN = ("clip_norm", "nonfinite")


class Distributed:
    """Base of both classes: see there for parameters.

    The hyper-parameters of the optimizer are attributes of this object too, and are to be changed
    on all ranks alike.
    """

    _inner: Optimizer

    def __init__(self, comm: Any, params: Params, optimizer: Optimizer, divided: bool,
                 wire: str | None, timeout: float | None, ranks_per_node: int | None,
                 about: Mapping[str, Any]) -> None:
        self._ranks = ranks = Ranks(comm, timeout, ranks_per_node)
        error, groups, lines, narrow = None, [], list[str](), None
        try:
            groups = checked_groups(params, optimizer, divided)
            narrow = checked_wire(wire, groups)
            lines = described(groups, optimizer, {**about, "wire": wire})
        except (TypeError, ValueError, RuntimeError) as raised:
            error = raised
        meet(ranks, f"making of {type(self).__name__}", error, lines)
        self._given = [np.asarray(array) for array in arrays_of(groups)]
        whole = optimizer.needs_whole_tensors or optimizer.clip_norm_per_tensor is not None
        self._layout = layout([a.shape for a in self._given], [a.dtype for a in self._given],
                              ranks.size, divided and whole)
        self._window = Window(ranks.node, self._layout.nbytes + 8 * len(self._given))
        self.grads = [t.view(self._window.memory[ranks.node.rank]) for t in self._layout.tensors]
        self._mask, self._ready = [True] * len(self.grads), set[int]()
        self._between = Between(ranks, self._layout, self._window.memory, narrow)
        self._made: tuple[Any, list[Any]] = None, []
        self._digest = 0
        self._bind(groups, optimizer)

    def _bind(self, groups: list[Values], optimizer: Optimizer) -> None:
        """Give the optimizer its parameters, which begin as those of the first rank."""
        raise NotImplementedError

    def ready(self, i: int) -> None:
        """Say that this rank's gradient of parameter i is written to ``grads[i]``.

        Called during the backward pass, it lets gradients travel to other nodes meanwhile: a part
        of the parameters does when all that it cuts are ready on the ranks of the node. It may be
        left out for any of them; within one node nothing travels.

        Parameters
        ----------
        i : int
            Index of the parameter. The next step has to get ``grads[i]``, as it is.

        Raises
        ------
        TypeError, ValueError
            If there is no such parameter, or it is ready already.
        """
        i = integer("i", i, 0, len(self.grads) - 1)
        if i in self._ready:
            raise ValueError(f"i={i}: that gradient is ready already for this step")
        self._ready.add(i)
        self._between.ready(i)

    def step(self, grads: Grads) -> bool:
        """Update the parameters on all ranks from the mean of their gradients; all call it.

        Parameters
        ----------
        grads : list or tuple of (ndarray or None)
            One for each parameter, as for `Optimizer.step`. The arrays of the attribute `grads`
            are used where they are; others are copied into those. None on all ranks leaves a
            parameter untouched.

        Returns
        -------
        bool
            Whether a step was taken, the same on all ranks.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            If a gradient of this rank does not fit, or one of any rank is not finite, by the
            optimizer's policy. Nothing has changed, on any rank.
        RuntimeError
            If those of another rank do not fit, or the ranks have fallen out of step.
        """
        return self.step_and_tell(grads)[0]

    def step_and_tell(self, grads: Grads, *values: float) -> tuple[bool, Any]:
        """Step, and return besides what all ranks have told each other: an array of rows of these.

        Up to five numbers travel with what a step needs anyway.
        """
        error = None
        try:
            self._take(grads)
        except (TypeError, ValueError) as raised:
            error = raised
        self._ready.clear()
        told = self._ranks.agree(error is not None, zlib.crc32(bytes(self._mask)),
                                 self._digest_now(), *values, moving=self._between.begun)
        self._between.collect()         # even if the step is refused: some of it may have begun
        self._ranks.check(error, told)
        self._check_alike(told)
        return any(self._mask) and self._step_all(), told[:, 3:3 + len(values)]

    def _step_all(self) -> bool:
        stepped, error = False, None
        try:
            stepped = self._update()
        except FloatingPointError:      # of which all have told each other
            raise
        except Exception as raised:
            error = raised
        told = self._ranks.agree(error is not None)
        if told[:, 0].any() and not told[:, 0].all():
            self._ranks.broken = "a rank could not take a step that others have taken"
        self._ranks.check(error, told)
        if stepped:
            self._spread()
        return stepped

    def _update(self) -> bool:
        """Step from the gradients of all ranks, which are there."""
        raise NotImplementedError

    def _spread(self) -> None:
        """Put new parameters where this rank reads them."""

    def _gradient(self, sources: list[list[Any]], weight: float, mask: list[bool]) -> list[Any]:
        """Return the gradients as weighted sums; those of the last step, if they are the same."""
        key = id(sources), weight, tuple(mask)
        if self._made[0] != key:
            self._made = key, [WeightedSum(arrays, [weight] * len(arrays)) if there else None
                               for arrays, there in zip(sources, mask, strict=True)]
        return self._made[1]

    def _take(self, grads: Any) -> None:
        """Check the gradients and put them into the window."""
        if not isinstance(grads, (list, tuple)):
            raise TypeError(f"grads must be a list or tuple of arrays (or None) aligned with "
                            f"params, not {type(grads).__name__}")
        if len(grads) != len(self.grads):
            raise ValueError(f"grads has {len(grads)} entries, expected {len(self.grads)}: one for "
                             f"each array in params")
        for i, (grad, own) in enumerate(zip(grads, self.grads, strict=True)):
            if i in self._ready and grad is not own:
                raise ValueError(f"grads[{i}] is not the array of the attribute grads, for which "
                                 f"ready({i}) was called")
            if grad is not None and grad is not own:
                check_gradient(i, grad, own)
        for grad, own in zip(grads, self.grads, strict=True):
            if grad is not None and grad is not own:
                own[...] = grad
        self._mask = [grad is not None for grad in grads]

    def _digest_now(self) -> int:
        """Return a checksum of the hyper-parameters, but for functions."""
        if self._inner._stale or not self._digest:
            values = [(name, value if not callable(value) else type(value).__name__)
                      for own in (self._inner._options, *self._inner.param_groups)
                      for name, value in own._values.items()]
            self._digest = zlib.crc32(repr(values).encode())
        return self._digest

    def _check_alike(self, told: Any) -> None:
        """Raise on all ranks if they do not agree on what the step is."""
        for column, what in ((1, "which gradients are None"), (2, "the hyper-parameters")):
            others = np.flatnonzero(told[:, column] != told[0, column])
            if others.size:
                raise ValueError(f"{what} differ between rank 0 and rank {others[0]}; they must be "
                                 f"the same on all ranks")

    # What looks like the optimizer ----------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        inner = vars(self).get("_inner")
        if inner is None or name.startswith("_") or name not in (
                *inner._hypers, "param_groups", "iterations", "grad_norm"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = vars(self).get("_inner")
        if inner is None or name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        if name not in inner._hypers:
            reject_unknown(type(self).__name__, [name], inner._hypers)
        setattr(inner, name, value)

    def __repr__(self) -> str:
        ranks, nodes = self._ranks.size, self._ranks.nodes
        return (f"<{type(self).__name__} {self._inner!r} on {ranks} rank{'s' * (ranks > 1)}, "
                f"{nodes} node{'s' * (nodes > 1)}>")

    def close(self) -> None:
        """Give shared memory back; all ranks together. `params` and `grads` are gone then."""
        self.grads.clear()
        self._window.close()
        self._ranks.close()
        self._ranks.broken = f"this {type(self).__name__} is closed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:        # else others may be elsewhere
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled: it shares memory with "
                        f"other ranks; save its state_dict()")

    __copy__ = refuse_shallow_copy
