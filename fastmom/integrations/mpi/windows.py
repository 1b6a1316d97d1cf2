"""Memory that all ranks of a node see."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from fastmom.integrations.mpi.shards import LINE

PAGE = 4096


class Window:
    """Bytes of each rank of a node, zeros at first, which all of its ranks read and write.

    Parameters
    ----------
    node : MPI.Intracomm
        Ranks that can share memory. All of them make the window together.
    nbytes : int
        Of this rank's own bytes.

    Attributes
    ----------
    memory : list of ndarray of uint8
        The bytes of each rank, beginning at a cache line.
    """

    def __init__(self, node: Any, nbytes: int) -> None:
        room = -(-nbytes // PAGE) * PAGE + PAGE
        self._window = MPI.Win.Allocate_shared(room, 1, comm=node)
        self.memory = []
        for rank in range(node.size):
            memory = np.asarray(self._window.Shared_query(rank)[0], np.uint8)
            lead = -memory.ctypes.data % LINE       # the same for all: they map whole pages
            self.memory.append(memory[lead:])
        self._window.Lock_all(MPI.MODE_NOCHECK)

    def sync(self) -> None:
        """Let others see what was written, and see what they have written."""
        self._window.Sync()

    def close(self) -> None:
        """Give the memory back; all ranks together. Arrays in it must not be used any more."""
        self.memory = []
        self._window.Unlock_all()
        self._window.Free()
