"""The ranks of a run: their nodes, how they agree, and what happens if one does not answer."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import numpy as np
from mpi4py import MPI

from fastmom.checks import integer, number
from fastmom.integrations.mpi.windows import Window

T = TypeVar("T")

TIMEOUT = 25.0      # seconds
VALUES = 8          # numbers that a rank tells the others at a time
SPINS = 2000        # looks before a rank that waits sleeps between two
LONG = 20           # timeouts to wait where files are read and written
NAP = 1e-4          # seconds
TURN, LAST_TURN = 0.2, 4.0      # seconds that a rank leaves to those before it to tell an error
MEMORY, FILES, OLD = "/dev/shm", ("mpich_sh", "ucx_shm_posix_"), 60.0


class Ranks:
    """The ranks of a communicator on their nodes.

    Parameters
    ----------
    comm : MPI.Intracomm
    timeout : float or None
        Seconds to wait for other ranks, after which the whole run is ended; None waits forever.
    ranks_per_node : int, optional
        Take so many ranks for a node each; by default those that can share memory are one.

    Attributes
    ----------
    comm, node, across : MPI.Intracomm
        All ranks; those of this node; those with this rank's place on each node.
    rank, size : int
        This rank among all, ordered by node, and how many there are.
    """

    def __init__(self, comm: Any, timeout: float | None = TIMEOUT,
                 ranks_per_node: int | None = None) -> None:
        if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
            raise TypeError(f"comm must be an MPI.Intracomm, not {comm!r}")
        self.timeout = None if timeout is None else number("timeout", timeout, 0.0, open_low=True)
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        if ranks_per_node is not None:
            ranks_per_node = integer("ranks_per_node", ranks_per_node, 1)
            if self.size % ranks_per_node:
                raise ValueError(f"ranks_per_node must divide the number of ranks, {self.size}, "
                                 f"not {ranks_per_node}")
        self._per_node = ranks_per_node
        self.broken: str | None = None

    def join(self, what: str) -> None:
        """Split the ranks by their nodes, once all are there."""
        self.wait(self.comm.Ibarrier().Test, what)
        unlink_memory()
        if self.size > 1 and sys.excepthook is sys.__excepthook__:
            sys.excepthook = end_by_error
        given: Any = self.comm
        per_node = self._per_node
        if per_node is None:
            self.node = given.Split_type(MPI.COMM_TYPE_SHARED, given.rank)
        else:
            self.node = given.Split(given.rank // per_node, given.rank)
        sizes = given.allgather(self.node.size)
        if len(set(sizes)) > 1:
            raise ValueError(f"comm has nodes of {', '.join(map(str, sorted(set(sizes))))} ranks; "
                             f"start as many on each")
        if self.node.rank == 0:
            sweep()
        self.across = given.Split(self.node.rank, given.rank)
        self.nodes = self.across.size
        self.rank = self.across.rank * self.node.size + self.node.rank
        self.comm = given.Split(0, self.rank)
        self._control = Window(self.node, 8 * (8 + 2 * VALUES * self.nodes))
        self._seen = [m.data.cast("B")[:8].cast("q") for m in self._control.memory]
        self._told = [m[64:64 + 16 * VALUES * self.nodes].view(np.float64).reshape(
            2, self.nodes, VALUES) for m in self._control.memory]
        self._turn = 0

    def sync(self) -> None:
        """Let the node's ranks see what was written, and see what they have written."""
        self._control.sync()

    # Agreement ------------------------------------------------------------------------------------

    def agree(self, *values: float, what: str = "step", patience: float = 1,
              moving: bool = False) -> Any:
        """Tell the others up to `VALUES` numbers, and return those of all ranks, in their order.

        No rank returns before each has come here, and then all have seen what any had written to
        shared memory. `patience` multiplies the timeout; `moving`: other data is on the way.
        """
        if self.broken is not None:
            raise RuntimeError(self.broken)
        self.broken = "an earlier call has ended before the ranks agreed: they are out of step"
        own = np.zeros(VALUES)
        own[:len(values)] = values
        told = own[None]
        if self.nodes > 1:
            told = np.empty((self.nodes, VALUES))
            self.wait(self.across.Iallgather(own, told).Test, what, patience, moving)
        self._turn += 1
        self._told[self.node.rank][self._turn % 2] = told
        self._control.sync()
        self._seen[self.node.rank][0] = self._turn
        for seen in self._seen:
            if seen[0] < self._turn:
                self.wait(lambda seen=seen:     # type: ignore[misc]
                          seen[0] >= self._turn, what, patience)
        self._control.sync()
        result = np.stack([told[self._turn % 2] for told in self._told], 1)
        self.broken = None
        return result.reshape(self.size, VALUES)

    def wait(self, done: Callable[[], Any], what: str, patience: float = 1,
             moving: bool = False) -> None:
        """Wait until a condition holds; if that takes too long, end the run.

        `moving`: MPI moves data, a piece each time it is asked, so do not sleep in between.
        """
        limit = None if self.timeout is None else time.monotonic() + patience * self.timeout
        looks = 0
        while not done():
            looks += 1
            if moving or looks < SPINS:
                os.sched_yield()
            else:
                time.sleep(NAP)
            if looks % 64 == 0 and limit is not None and time.monotonic() > limit:
                self.fail(what, patience)

    def fail(self, what: str, patience: float = 1) -> NoReturn:
        """End all ranks with one error."""
        late = ""
        if hasattr(self, "_seen"):
            first = self.rank - self.node.rank
            missing = [str(first + k) for k, seen in enumerate(self._seen) if seen[0] < self._turn]
            late = f"rank{'s' * (len(missing) > 1)} {', '.join(missing)} " if missing else ""
        end(f"fastmom: error: {late or 'some rank '}did not come to the {what} within "
            f"{patience * (self.timeout or 0):g} s: all ranks end")

    def together(self, function: Callable[[], T], what: str, patience: float = 1) -> T:
        """Return what a function returns; if it raises on one rank, raise on each."""
        error, result = None, None
        try:
            result = function()
        except Exception as raised:
            error = raised
        self.check(error, self.agree(error is not None, what=what, patience=patience))
        return result       # type: ignore[return-value]

    def check(self, error: Exception | None, told: Any) -> None:
        """Raise this rank's error, or another's, if any has told of one by its first number."""
        if not told[:, 0].any():
            return
        own = None if error is None else f"{type(error).__name__}: {error}"
        messages = self.exchange(own)
        if error is not None:
            raise error
        first = next(i for i, message in enumerate(messages) if message)
        raise RuntimeError(f"rank {first} raised {messages[first]}; nothing has changed")

    # MPI's own waits for others would keep a core busy, for ever if one of them has stopped

    def exchange(self, thing: Any, what: str = "step") -> list[Any]:
        """Return what each rank gives, in their order: anything that can be pickled."""
        own = np.frombuffer(pickle.dumps(thing), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self.wait(self.comm.Iallgather(np.array([own.size]), sizes).Test, what)
        got = np.empty(sizes.sum(), np.uint8)
        self.wait(self.comm.Iallgatherv(own, [got, sizes.tolist(), MPI.BYTE]).Test, what,
                  moving=True)
        return [pickle.loads(part.tobytes()) for part in np.split(got, np.cumsum(sizes)[:-1])]

    def send(self, thing: Any, to: int, what: str) -> None:
        request = self.comm.isend(thing, to)
        self.wait(lambda: request.test()[0], what, moving=True)

    def receive(self, source: int, what: str) -> Any:
        """Return the next object that another rank sends."""
        self.wait(lambda: self.comm.Iprobe(source), what)
        return self.comm.recv(source=source)

    def close(self) -> None:
        self._seen, self._told = [], []
        self._control.close()
        for comm in (self.comm, self.across, self.node):
            comm.Free()


def unlink_memory() -> None:
    """Take the names off MPICH's files of shared memory, which would outlive ranks that are killed.

    Once MPI is initialized every rank has them, and the memory stays until its last user ends.
    """
    for name in mapped("self"):
        Path(name).unlink(missing_ok=True)


def sweep(directory: str = MEMORY, age: float = OLD) -> None:
    """Remove what ranks have left that were killed before they could take the name off.

    MPICH makes its files in MPI_Init, and leaves them, with fastmom or without. So these are this
    user's files of MPICH that no process has, and older than any rank needs to open one, in
    seconds.
    """
    with suppress(OSError):         # there is no such directory on other systems
        left = [path for path in Path(directory).iterdir() if path.name.startswith(FILES)
                and path.stat().st_uid == os.getuid() and path.stat().st_mtime < time.time() - age]
        used = set().union(*(mapped(p.name) for p in Path("/proc").glob("[1-9]*") if left))
        for path in left:
            if str(path) not in used:
                path.unlink(missing_ok=True)


def mapped(process: str) -> set[str]:
    """Return the names of MPICH's files of shared memory that a process has."""
    with suppress(OSError):         # it has ended, is another user's, or there is no /proc
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
        return {name for line in lines
                if Path(name := line.split()[-1]).name.startswith(FILES)}
    return set()


def end(reason: str) -> NoReturn:
    """Print the reason, and end all ranks.

    The first rank that has one does so; the others give it time to end them.
    """
    time.sleep(min(TURN * MPI.COMM_WORLD.rank, LAST_TURN))
    print(reason, file=sys.stderr, flush=True)
    sys.stdout.flush()
    unlink_memory()
    MPI.COMM_WORLD.Abort(1)
    raise SystemExit(1)     # not reached


def end_by_error(kind: type[BaseException], error: BaseException,
                 trace: TracebackType | None) -> None:
    """End all ranks by an error that nobody catches, where it would leave the others waiting."""
    end("".join(traceback.format_exception(kind, error, trace)).rstrip())


def meet(ranks: Ranks, what: str, error: Exception | None, about: Sequence[str]) -> None:
    """Begin together: raise on every rank if one has an error, or is about something else.

    Parameters
    ----------
    ranks : Ranks
    what : str
        What the ranks are to make, for errors.
    error : Exception or None
        Of this rank, so far.
    about : sequence of str
        A line for each thing that must be the same on all ranks.
    """
    ranks.join(what)
    ranks.check(error, ranks.agree(error is not None, what=what))
    text = "\n".join(about).encode()
    told = ranks.agree(zlib.crc32(text), len(about), what=what)
    if (told == told[0]).all():
        return
    theirs = ranks.exchange(list(about), what)
    for line in range(max(map(len, theirs))):
        said = [lines[line] if line < len(lines) else "nothing" for lines in theirs]
        for other, its in enumerate(said):
            if its != said[0]:
                raise ValueError(f"the ranks differ: rank 0 has {said[0]}, rank {other} has {its}")
