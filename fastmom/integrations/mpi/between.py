"""What travels between nodes: gradients to those who step, and parameters back.

Each node's ranks divide all parts among them by columns: the rank at place l of a node serves
parts ``l * nodes`` to ``(l + 1) * nodes``, one for each node's rank at that place. It adds up the
gradients of its node, sends each part to the one that owns it, and gets as many pieces of its own:
a reduce-scatter whose sum the step itself takes, in the order of the nodes. A part is sent as soon
as all gradients that it cuts are known to be ready.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from fastmom.integrations.mpi.ranks import Ranks
from fastmom.integrations.mpi.shards import Layout

PIECE = 16384       # elements that are added up at a time, in the cache


class Between:
    """Exchanges of one layout's parts between nodes.

    Parameters
    ----------
    ranks : Ranks
    layout : Layout
    memory : list of ndarray
        The gradient windows of the node's ranks: the layout's bytes, and 8 for each tensor, which
        are the last turn in which the rank had its gradient ready.
    wire : dtype, optional
        In which gradients travel, where that is not their own.

    Attributes
    ----------
    own : int
        The part of this rank.
    sources : list of list of ndarray
        For each tensor the arrays whose sum, after `collect`, is the gradient of this rank's part.
    """

    def __init__(self, ranks: Ranks, layout: Layout, memory: list[Any],
                 wire: np.dtype[Any] | None = None) -> None:
        self._ranks, self._layout, self._memory = ranks, layout, memory
        self._wire = layout if wire is None else layout.narrowed(wire)
        nodes = ranks.nodes
        first = ranks.node.rank * nodes
        self.column = range(first, first + nodes)
        self.own = self.column[ranks.across.rank]
        bounds = layout.bounds
        self.begin, self.end = bounds[self.column.start], bounds[self.column.stop]
        self._counts = [bounds[k + 1] - bounds[k] for k in self.column]
        self._starts = [bounds[k] - self.begin for k in self.column]
        self._of_ranks = [place * nodes + node for node in range(nodes)
                          for place in range(ranks.node.size)]
        self._turn = 1
        self._ready = [m[layout.nbytes:][:8 * len(layout.tensors)].view(np.int64) for m in memory]
        self._needs = {k: [i for i, t in enumerate(layout.tensors) if t.cuts[k + 1] > t.cuts[k]]
                       for k in self.column}
        self._unsent = [*self.column]
        self._requests: list[Any] = []
        if nodes > 1:
            bounds = self._wire.bounds
            self._first, begin = bounds[first], bounds[self.own]
            # one rank's gradients are sent from where they are
            self._straight = len(memory) == 1 and wire is None
            self._sent = np.empty(
                0 if self._straight else bounds[first + nodes] - self._first, np.uint8)
            self._got = np.empty((nodes, bounds[self.own + 1] - begin), np.uint8)
            self.sources = [[t.part(got, self.own, begin) for got in self._got]
                            for t in self._wire.tensors]
        else:
            self.sources = [[t.part(m, self.own) for m in memory] for t in layout.tensors]

    @property
    def nbytes(self) -> int:
        """Bytes of its buffers."""
        return self._sent.nbytes + self._got.nbytes if self._ranks.nodes > 1 else 0

    def fill(self, memory: Any, given: list[Any]) -> None:
        """Fill the nodes' windows with the parameters of the first rank."""
        ranks, layout = self._ranks, self._layout
        if ranks.rank == 0:
            for tensor, array in zip(layout.tensors, given, strict=True):
                tensor.view(memory)[...] = array
        if ranks.node.rank == 0 and ranks.nodes > 1:
            data = [memory[:layout.nbytes], MPI.BYTE]
            ranks.wait(ranks.across.Ibcast(data).Test, "first exchange of parameters", moving=True)
        ranks.agree()

    @property
    def begun(self) -> bool:
        """Whether gradients of the next step are on the way."""
        return bool(self._requests)

    def ready(self, i: int) -> None:
        """Send the parts for which a gradient of this rank was the last to be written."""
        if self._ranks.nodes == 1:
            return
        self._ready[self._ranks.node.rank][i] = self._turn
        self._ranks.sync()
        for k in [*self._unsent]:
            if all(ready[n] >= self._turn for ready in self._ready for n in self._needs[k]):
                self._send(k)
        MPI.Request.Testall(self._requests)     # MPI sends on while it is called

    def collect(self) -> None:
        """Bring the gradients of other nodes here, once all of this node are written."""
        if self._ranks.nodes == 1:
            return
        for k in [*self._unsent]:
            self._send(k)
        requests = self._requests
        self._ranks.wait(lambda: MPI.Request.Testall(requests), "exchange of gradients",
                         moving=True)
        self._turn += 1
        self._unsent, self._requests = [*self.column], []

    def _send(self, k: int) -> None:
        """Send the sum over the node's ranks of part k to the node that owns it."""
        across = self._ranks.across
        if not self._requests:
            self._requests = [across.Irecv([got, MPI.BYTE], node)
                              for node, got in enumerate(self._got)]
        first, stop = self._wire.bounds[k:k + 2]
        if self._straight:
            part = self._memory[0][first:stop]
        else:
            self._add_up(k)
            part = self._sent[first - self._first:stop - self._first]
        self._requests.append(across.Isend([part, MPI.BYTE], k - self.column.start))
        self._unsent.remove(k)

    def _add_up(self, k: int) -> None:
        """Write the sum over the node's ranks, in their order, of part k."""
        for t, sent in zip(self._layout.tensors, self._wire.tensors, strict=True):
            parts = [t.part(m, k).reshape(-1) for m in self._memory]
            total = sent.part(self._sent, k, self._first).reshape(-1)
            for i in range(0, total.size, PIECE):
                piece = parts[0][i:i + PIECE]
                for part in parts[1:]:
                    piece = piece + part[i:i + PIECE]
                total[i:i + PIECE] = piece

    def spread(self, memory: Any) -> None:
        """Fill this rank's column of a window with the parts of the other nodes' ranks."""
        if self._ranks.nodes == 1:
            return
        request = self._ranks.across.Iallgatherv(MPI.IN_PLACE, [
            memory[self.begin:self.end], (self._counts, self._starts), MPI.BYTE])
        self._ranks.wait(request.Test, "exchange of parameters", moving=True)

    def total(self, result: Any) -> None:
        """Fill bytes like a window's with the sums over all ranks of all parts.

        They are made where the parts are at home, and then spread.
        """
        for t, arrays in zip(self._layout.tensors, self.sources, strict=True):
            own = t.part(result, self.own)
            own[...] = arrays[0]
            for array in arrays[1:]:
                own += array
        # a rank has its node's column alone; the others' are at its node's other ranks
        ranks, bounds = self._ranks, self._layout.bounds
        counts = [bounds[k + 1] - bounds[k] for k in self._of_ranks]
        starts = [bounds[k] for k in self._of_ranks]
        request = ranks.comm.Iallgatherv(MPI.IN_PLACE, [result, (counts, starts), MPI.BYTE])
        ranks.wait(request.Test, "exchange of sums", moving=True)
