"""An optimizer that every rank has for itself, all with the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.integrations.mpi.distributed import Distributed
from fastmom.integrations.mpi.ranks import TIMEOUT
from fastmom.threads import get_num_threads

if TYPE_CHECKING:
    from fastmom.optim import Optimizer
    from fastmom.optim.values import Values
    from fastmom.types import Params


class Replicated(Distributed):
    """An optimizer that every rank has for itself, fed with the mean of all ranks' gradients.

    For models whose parameters and state are small. Each rank steps its own arrays, in place, and
    all keep the same bits: each adds up the gradients of its node in the order of the ranks while
    it steps, and sums of other nodes in the order of the nodes.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Its ranks, with as many on each node, all make the object together.
    params : list of ndarray or of dict
        As for an optimizer, the same shapes and dtypes on each rank. They become those of rank 0.
    optimizer : Optimizer
        Without parameters, or with these very arrays and the same state on all ranks. All of its
        options work; `optimizer.state_dict` and checkpoints are as those of one process.
    wire, timeout, ranks_per_node
        As for `Sharded`.

    Attributes
    ----------
    optimizer : Optimizer
    grads : list of ndarray
        Of this rank: gradients that are written here and given to `step` are not copied.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `Sharded`.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> from mpi4py import MPI
    >>> from fastmom.integrations.mpi import Replicated
    >>> w = np.zeros(3, np.float32)
    >>> with Replicated(MPI.COMM_WORLD, [w], fm.SGD(lr=0.5)) as optimizer:
    ...     optimizer.step([np.ones(3, np.float32)])
    True
    >>> w
    array([-0.5, -0.5, -0.5], dtype=float32)
    """

    def __init__(self, comm: Any, params: Params, optimizer: Optimizer, *,
                 wire: str | None = None, timeout: float | None = TIMEOUT,
                 ranks_per_node: int | None = None) -> None:
        super().__init__(comm, params, optimizer, False, wire, timeout, ranks_per_node, {})

    @property
    def optimizer(self) -> Optimizer:
        return self._inner

    def _bind(self, groups: list[Values], optimizer: Optimizer) -> None:
        from mpi4py import MPI
        for array in self._given:
            data = array.reshape(-1).view(np.uint8)
            self._ranks.wait(self._ranks.comm.Ibcast([data, MPI.BYTE]).Test,
                             "first exchange of parameters", moving=True)
        if optimizer._engine is None:
            optimizer.bind([{**group._values, "params": group["params"]} for group in groups])
        optimizer._bound_engine().fill_copies()
        optimizer._bound_engine().parts = max(1, get_num_threads() // self._ranks.node.size)
        memory = self._window.memory
        if self._ranks.nodes > 1:
            self._total = np.zeros(self._layout.nbytes, np.uint8)
            memory = [self._total]
        self._sources = [[t.view(m) for m in memory] for t in self._layout.tensors]
        self._inner = optimizer

    def _update(self) -> bool:
        if self._ranks.nodes > 1:
            self._between.total(self._total)
        return self._inner.step(self._gradient(self._sources, 1 / self._ranks.size, self._mask))
