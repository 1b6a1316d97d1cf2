"""An optimizer whose state is divided among the ranks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import flag, integer, number
from fastmom.integrations.mpi import gathered
from fastmom.integrations.mpi.distributed import Distributed
from fastmom.integrations.mpi.norms import agreed_norm, refuse_nonfinite
from fastmom.integrations.mpi.ranks import LONG, TIMEOUT
from fastmom.integrations.mpi.sums import Sums
from fastmom.integrations.mpi.windows import Window
from fastmom.kernels import Engine
from fastmom.optim.ema import EMA
from fastmom.optim.groups import arrays_of
from fastmom.threads import get_num_threads

if TYPE_CHECKING:
    from fastmom.optim import Optimizer
    from fastmom.optim.values import Values
    from fastmom.types import Array, Params


class Sharded(Distributed):
    r"""An optimizer whose state is divided among the ranks of MPI: each steps its own part.

    The parameters lie once in each node, in memory that its ranks share, and so do the gradients of
    each rank. A rank adds up the gradients of its own part while it steps it, so that within a node
    nothing is copied or sent; between nodes, sums of gradients are exchanged before the step, and
    new parameters after it. The gradient is the mean of all ranks', as of one process with the
    whole batch if the ranks' batches are of one size.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Its ranks, with as many on each node, all make the object together.
    params : list of ndarray or of dict
        As for an optimizer, the same shapes and dtypes on each rank. The values of rank 0 count.
    optimizer : Optimizer
        Without parameters: it gets those of this rank.
    mirror : bool, default True
        Keep the given arrays at the new parameters too, which costs a copy of them all in each
        step. False: use those in the attribute `params`; the given ones are read once.
    accumulate : int, default 1
        Take a step from the mean of so many calls' gradients. Sums of them are divided as state is.
    wire : "bfloat16", optional
        Send gradients between nodes in two bytes: the sum over a node's ranks is rounded to
        nearest, and those of the nodes are added up in float32. For float32 parameters, which
        travel whole.
    timeout : float or None, default 25
        Seconds that a rank waits for the others in a step. After that the run ends on all ranks,
        with one error; None waits forever.
    ranks_per_node : int, optional
        Take so many ranks for a node each, by their order. By default those are one that can share
        memory.

    Attributes
    ----------
    params : list of ndarray
        The parameters that the ranks of the node share: read them, and write them with all ranks
        waiting.
    grads : list of ndarray
        Of this rank: gradients that are written here and given to `step` are not copied.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or parameters, optimizer or options differ between ranks; on every
        rank. A gradient that is None must be so on all.
    RuntimeError
        If another rank has raised.

    Notes
    -----
    Rules that work by elements have their tensors cut anywhere; `Muon`, `LARS`, `LAMB`, `NovoGrad`,
    `Adafactor` and `clip_norm_per_tensor` need whole ones, which are shared out by their sizes. So
    each has 1 / ranks of the state as nearly as whole tensors allow. `YellowFin` and
    ``restart=True`` of `SGD` need the gradients of all parameters, and are refused.

    What equals what: a run with as many ranks on as many nodes has the same bits again, whatever
    the threads. Gradients are added in the order of the ranks, node by node. Other numbers of
    ranks, and one process with the mean gradient, agree within rounding, since sums are rounded
    otherwise; with one rank the bits are those of the optimizer alone.
    ``rounding="stochastic"`` draws its noise by the place in a part.

    `clip_norm` and `nonfinite` see the mean of all ranks; one more small exchange serves them. A
    rank uses its share of the node's cores.

    Examples
    --------
    Run with ``mpiexec -n 2 python program.py``, or alone:

    >>> import numpy as np, fastmom as fm
    >>> from mpi4py import MPI
    >>> from fastmom.integrations.mpi import Sharded
    >>> w = np.zeros(3, np.float32)
    >>> with Sharded(MPI.COMM_WORLD, [w], fm.SGD(lr=0.5)) as optimizer:
    ...     optimizer.step([np.ones(3, np.float32)])
    True
    >>> w
    array([-0.5, -0.5, -0.5], dtype=float32)
    """

    def __init__(self, comm: Any, params: Params, optimizer: Optimizer, *, mirror: bool = True,
                 accumulate: int = 1, wire: str | None = None, timeout: float | None = TIMEOUT,
                 ranks_per_node: int | None = None) -> None:
        self._mirror = flag("mirror", mirror)
        self._accumulate = integer("accumulate", accumulate, 1)
        self._norm = math.nan
        self._ema: EMA | None = None
        self._sums: Sums | None = None
        super().__init__(comm, params, optimizer, True, wire, timeout, ranks_per_node,
                         {"mirror": mirror, "accumulate": accumulate})

    def _bind(self, groups: list[Values], optimizer: Optimizer) -> None:
        ranks = self._ranks
        self._shared = Window(ranks.node, self._layout.nbytes if ranks.node.rank == 0 else 0)
        memory = self._shared.memory[0]
        self.params = [t.view(memory) for t in self._layout.tensors]
        self._between.fill(memory, self._given)
        if not self._mirror:
            self._given = []
        self._copy_back()
        parts = iter([t.part(memory, self._between.own) for t in self._layout.tensors])
        optimizer.bind([{**group._values, "params": [next(parts) for _ in group["params"]]}
                        for group in groups])
        optimizer._is_part = True
        optimizer._changed()
        engine = optimizer._bound_engine()
        bare: list[Any] = [()] * len(engine.params)
        self._prober = Engine(engine.params, bare, False, engine.stochastic)
        engine.parts = self._prober.parts = max(1, get_num_threads() // ranks.node.size)
        if self._accumulate > 1:
            self._sums = Sums(engine.params, self._accumulate, engine.parts)
        self._inner = optimizer

    @property
    def grad_norm(self) -> float:
        """Norm of the latest mean gradient before clipping; NaN where no option needed it."""
        return self._norm

    # The step -------------------------------------------------------------------------------------

    def _update(self) -> bool:
        options = self._inner._options.at(self._inner.iterations)
        whole = all(t.whole for t in self._layout.tensors)
        if options["clip_norm_per_tensor"] is not None and not whole:
            raise ValueError("clip_norm_per_tensor needs whole tensors, and these were cut: give "
                             "it to the optimizer that Sharded is made of")
        sources, weight, mask = self._between.sources, 1 / self._ranks.size, self._mask
        if self._sums is None:
            return self._step_part(sources, weight, mask, options)
        if not self._sums.add(self._gradient(sources, weight / self._accumulate, mask), mask):
            return False
        try:
            return self._step_part(self._sums.sources, 1.0, self._sums.had, options)
        finally:
            self._sums.clear()

    def _step_part(self, sources: list[list[Any]], weight: float, mask: list[bool],
                   options: Mapping[str, Any]) -> bool:
        """Step this rank's part, if the gradients of all are as the options want them."""
        limit, policy = options["clip_norm"], options["nonfinite"]
        self._norm = math.nan
        if limit is not None or policy != "ignore":
            self._norm = agreed_norm(self._ranks, self._prober,
                                     self._gradient(sources, weight, mask), options["grad_scale"])
            if policy != "ignore" and not math.isfinite(self._norm):
                if policy == "raise":
                    refuse_nonfinite(self._ranks, self.grads, self._mask)
                return False
            if math.isnan(self._norm) and limit is not None:     # as one process: all is NaN then
                return self._inner.step([np.full_like(arrays[0], math.nan) if there else None
                                         for arrays, there in zip(sources, mask, strict=True)])
            if limit is not None and self._norm > limit:
                weight *= limit / self._norm
        return self._inner.step(self._gradient(sources, weight, mask))

    def _spread(self) -> None:
        if self._ranks.nodes > 1:
            self._between.spread(self._shared.memory[0])
            self._ranks.agree()
        self._copy_back()

    def _copy_back(self) -> None:
        """Bring the given arrays up to date, if they are to mirror the parameters."""
        for given, own in zip(self._given, self.params, strict=self._mirror):
            given[...] = own

    # Averages and memory --------------------------------------------------------------------------

    def average(self, decay: float = 0.999) -> None:
        """Average the parameters after each step from now on, each rank its part: see `EMA`.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If `decay` is wrong, or the parameters are averaged already.
        """
        decay = number("decay", decay, 0.0, 1.0)
        own = arrays_of(self._inner.param_groups)
        self._ema = self._ranks.together(
            lambda: EMA(own, decay, optimizer=self._inner), "average")
        self._inner._bound_engine().parts = self._prober.parts

    def averages(self) -> list[Array]:
        """Return the averages of all parameters, gathered on each rank; all call it.

        Raises
        ------
        RuntimeError
            If there are none: call `average` first.
        """
        if self._ema is None:
            raise RuntimeError("there are no averages: call average() before the steps")
        return gathered.everywhere(self._ranks, self._layout, self._between.own,
                                   self._ema.averages)

    def memory(self) -> dict[str, int]:
        """Return `Optimizer.memory` of this rank's part, and what else it takes, in bytes.

        That is ``"gradients"``, of this rank; ``"shared"``, the node's parameters; ``"buffers"``
        for accumulation and for what travels between nodes.
        """
        size = self._layout.nbytes
        buffers = self._between.nbytes + (0 if self._sums is None else self._sums.nbytes)
        return {**self._inner.memory(), "gradients": size, "shared": size, "buffers": buffers}

    # State ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any] | None:
        """Return on rank 0 the state of all, as the optimizer's own `state_dict`; else None.

        All ranks call it. It serves any number of ranks, and an optimizer without any.
        """
        return gathered.state_dict(self._ranks, self._layout, self._between.own, self._inner)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from such data, which every rank gives; all call it.

        Raises
        ------
        TypeError, ValueError
            If it does not fit. Nothing has changed then, on any rank.
        RuntimeError
            If another rank has raised.
        """
        change = self._ranks.together(lambda: gathered.prepared(
            self._layout, self._between.own, self._inner, state), "load_state_dict")
        change()
        self._ranks.agree()

    def save(self, path: str | os.PathLike[str], extra: Any = None) -> None:
        """Write a checkpoint of parameters and state, whole or not at all; all ranks call it.

        Rank 0 gathers and writes it. `fastmom.checkpoint` reads it, and `load` on any number of
        ranks.

        Raises
        ------
        OSError, TypeError, ValueError
            On rank 0, if it cannot be written; the others raise RuntimeError.
        """
        state = self.state_dict()
        self._ranks.together(lambda: gathered.write(path, self.params, state, extra)
                             if state is not None else None, "save", LONG)

    def load(self, path: str | os.PathLike[str]) -> Any:
        """Continue from a checkpoint that every rank can read; return its `extra`.

        Raises
        ------
        CheckpointError, OSError
            If it cannot be read or does not fit. Nothing has changed then, on any rank.
        """
        def read() -> tuple[Any, Any]:
            saved, fill = gathered.read(path, self.params if self._ranks.node.rank == 0 else None)
            load = gathered.prepared(self._layout, self._between.own, self._inner,
                                     saved.optimizer or {})
            return saved, (load, fill)
        saved, changes = self._ranks.together(read, "load", LONG)
        for change in changes:
            change()
        self._ranks.agree()
        self._copy_back()
        return saved.extra

    def close(self) -> None:
        """Give shared memory back; all ranks together. `params` and `grads` are gone then."""
        self._inner._bound_engine().blocked_by = "the Sharded that it belonged to is closed"
        self.params.clear()
        self._shared.close()
        super().close()
