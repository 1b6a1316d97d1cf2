"""``mpiexec -n N fastmom train --distributed``: one training on many ranks.

Every rank has the model, and a share of each batch. What decides the course of the training
(losses, metrics, whether Ctrl-C was pressed) is told to all with each step, so that all do the
same. Rank 0 alone prints and writes.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO, TypeVar

import fastmom
from fastmom import nn
from fastmom.cli.interrupt import BEFORE, Interrupt
from fastmom.cli.options import FAILED, SECONDS
from fastmom.extras import need
from fastmom.nn.loop import Team
from fastmom.optim import Optimizer

T = TypeVar("T")

WRITTEN = "json", "log", "plot", "smooth"       # options that only rank 0 follows
TIMEOUT = 25.0      # seconds
ODD = 0x9E3779B97F4A7C15        # each rank's dropout has a key of its own


def add_options(train: ArgumentParser) -> None:
    """Add the options of many ranks."""
    many = train.add_argument_group("many processes, started by mpiexec")
    many.add_argument("--distributed", action="store_const", const=True,
                      help="mpiexec -n N fastmom train --distributed: train one model on N ranks, "
                           "each on its share of every batch, with one thread unless --threads "
                           "says otherwise; needs the extra mpi")
    many.add_argument("--timeout", type=SECONDS, metavar="SECONDS",
                      help="end the training if a rank keeps the others waiting for so long "
                           f"(default: {TIMEOUT:g})")


class Crew(Team):
    """Ranks that train one model.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
    timeout : float
        Seconds to wait for the others.
    """

    def __init__(self, comm: Any, timeout: float) -> None:
        from fastmom.integrations.mpi.ranks import Ranks, end, meet
        self._comm, self._timeout, self._end = comm, timeout, end
        self.rank, self.ranks = comm.rank, comm.size
        self._ranks = Ranks(comm, timeout)
        meet(self._ranks, "start of fastmom train", None, [f"fastmom {fastmom.__version__}"])
        self.signal = Signal()
        self._optimizer: Any = None

    def together(self, function: Callable[[], T]) -> T:
        """Return what it returns; if it raises on one rank, raise on each."""
        error, result = None, None
        try:
            result = function()
        except (OSError, ValueError, TypeError, ImportError, MemoryError, OverflowError) as raised:
            error = raised
        try:
            told = self._ranks.agree(error is not None, what="start of fastmom train", patience=4)
            self._ranks.check(error, told)
        except Exception as raised:
            raise AgreedError(raised) from raised
        return result       # type: ignore[return-value]

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise ValueError if the batches cannot be shared out equally."""
        if config["batch_size"] % self.ranks:
            raise ValueError(f"--batch-size: {config['batch_size']} cannot be shared out equally "
                             f"among {self.ranks} ranks; take a multiple")

    def join(self, model: nn.Sequential, data: int) -> None:
        """Train this model together, on data with this checksum."""
        from fastmom.integrations.mpi import Replicated
        told = self._ranks.agree(data)
        if (told[:, 0] != data).any():
            raise ValueError("--data: the ranks have different samples")
        assert model.optimizer is not None
        self._optimizer = Replicated(self._comm, model.params, model.optimizer,
                                     timeout=self._timeout)
        for layer in model.layers:
            if isinstance(layer, nn.Dropout):
                layer.key ^= self.rank * ODD % 2 ** 64
        model._team = self

    def step(self, optimizer: Optimizer, grads: Any, sums: list[float]) -> list[float]:
        _, told = self._optimizer.step_and_tell(grads, self.signal.pressed, *sums)
        if told[:, 0].any():
            self.signal.asked = True
        return [sum(column) for column in told[:, 1:].T.tolist()]

    def end(self, error: BaseException) -> None:
        """End all ranks, some of which may be waiting for this one."""
        self._end(f"fastmom: error: rank {self.rank}: {type(error).__name__}: {error}")


class Signal(Interrupt):
    """Ctrl-C or SIGTERM, which end the training on all ranks after the same step."""

    def __init__(self) -> None:
        super().__init__()
        self.pressed = False

    def _ask(self, number: int, *where: Any) -> None:
        self.pressed = True
        signal.signal(number, BEFORE[number])


def run(args: Namespace, train: Callable[[Namespace, Crew], int]) -> int:
    """Run a training on all ranks; an error ends it on all."""
    need("mpi4py", "mpi", "trainings on many ranks")
    import_module("fastmom.integrations.mpi")       # which explains an MPI that is missing
    from mpi4py import MPI
    args.threads = args.threads or 1
    comm = MPI.COMM_WORLD
    if comm.rank:
        sys.stdout = open(os.devnull, "w")      # noqa: SIM115
        for option in WRITTEN:
            setattr(args, option, None)
    elif (shows := shows_terminal()) is not None:
        sys.stdout = Forwarded(sys.stdout, shows)
    crew = Crew(comm, args.timeout or TIMEOUT)
    try:
        return train(args, crew)
    except AgreedError as agreed:
        if comm.rank == 0 and agreed.error is not None:
            raise agreed.error from None
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        crew.end(error)
        return FAILED


class AgreedError(Exception):
    """What all ranks know to have gone wrong on at least one."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(str(error))
        self.error = error


class Forwarded:
    """A stream that mpiexec forwards to a terminal, or to something else: it alone knows."""

    def __init__(self, stream: TextIO, shows_terminal: bool) -> None:
        self._stream, self._shows_terminal = stream, shows_terminal

    def isatty(self) -> bool:
        return self._shows_terminal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def shows_terminal() -> bool | None:
    """Return whether the mpiexec that started this process writes to a terminal; None without."""
    try:
        process = os.getppid()
        for _ in range(3):      # there is a proxy between
            status = Path(f"/proc/{process}/stat").read_text().rpartition(")")
            if "mpiexec" in status[0] or "mpirun" in status[0]:
                return os.readlink(f"/proc/{process}/fd/1").startswith(("/dev/pts/", "/dev/tty"))
            process = int(status[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
