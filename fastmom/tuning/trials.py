"""One pair of learning rate and momentum in training, in this process or in one of several."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fastmom import threads
from fastmom.nn import Callback, TerminateOnNaN
from fastmom.nn.callbacks.base import Logs

POLL = 0.2          # seconds between two looks at the clock

NAMES = "x", "y", "x_val", "y_val"


@dataclass(frozen=True)
class Trial:
    """A pair and how far it has come.

    Attributes
    ----------
    lr, momentum : float
    samples : int
        Trained on so far.
    loss : float
        Of the validation; NaN before the first training, infinity once diverged.
    score : float
        What is compared, the higher the better: the validation's accuracy, or minus its loss.
    diverged : bool
    """

    lr: float
    momentum: float
    samples: int = 0
    loss: float = math.nan
    score: float = -math.inf
    diverged: bool = False
    saved: bytes = b""          # the model

    def __repr__(self) -> str:
        end = "diverged" if self.diverged else f"loss {self.loss:.4g}"
        return f"<Trial lr {self.lr:.3g}, momentum {self.momentum:g}: {self.samples:,} samples, " \
               f"{end}>"


@dataclass(frozen=True)
class Work:
    """What all trials share, and each process has."""

    model: bytes                # pickled, compiled
    arrays: dict[str, Any]      # by NAMES
    batch_size: int
    seed: int
    stop: Callable[[], bool]

    def train(self, trial: Trial, samples: int) -> Trial | None:
        """Go on until so many samples; None if the search was stopped meanwhile."""
        model = pickle.loads(trial.saved or self.model)
        for group in model.optimizer.param_groups:
            group["lr"], group["momentum"] = trial.lr, trial.momentum
        watch, x, y = Watch(self.stop), self.arrays["x"], self.arrays["y"]
        for rows in pieces(len(x), self.seed, trial.samples, samples):
            model.fit(x[rows], y[rows], self.batch_size, verbose=0, shuffle=False,
                      callbacks=[watch.diverged, watch])
            if watch.stopped:
                return None
            if watch.diverged.diverged is not None:
                return replace(trial, samples=samples, loss=math.inf, diverged=True, saved=b"")
        found = model.evaluate(self.arrays["x_val"], self.arrays["y_val"], verbose=0,
                               return_dict=True)
        if not math.isfinite(found["loss"]):
            return replace(trial, samples=samples, loss=math.inf, diverged=True, saved=b"")
        return replace(trial, samples=samples, loss=found["loss"],
                       score=found.get("accuracy", -found["loss"]), saved=pickle.dumps(model))


class Watch(Callback):
    """End a training that diverges or whose search is over."""

    adds = ()
    reads_batch_logs = False

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop, self.stopped = stop, False
        self.diverged = TerminateOnNaN(limit=1e3, verbose=0)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self._stop():
            self.stopped = self.model.stop_training = True


def pieces(n: int, seed: int, start: int, stop: int) -> Iterator[Any]:
    """Yield the rows from `start` to `stop` of an endless stream: each epoch in a new order."""
    while start < stop:
        epoch, first = divmod(start, n)
        last = min(n, first + stop - start)
        yield np.random.default_rng([seed, epoch]).permutation(n)[first:last]
        start += last - first


# Several processes --------------------------------------------------------------------------------

Train: TypeAlias = Callable[[Sequence[Trial], int], Iterator[Trial]]

_work: Work | None = None       # of a process that was started for trials


def begin(model: bytes, directory: Path, batch_size: int, seed: int, deadline: float,
          stop: Any) -> None:
    """Prepare a process: the arrays are mapped, so that all processes share their memory."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threads.set_num_threads(1)
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits
        threadpool_limits(1, user_api="blas")
    arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in NAMES}
    _work = Work(model, arrays, batch_size, seed,
                 lambda: bool(stop.value) or time.monotonic() > deadline)


def go_on(trial: Trial, samples: int) -> Trial | None:
    """Do this in such a process."""
    assert _work is not None
    return _work.train(trial, samples)


@contextmanager
def trainer(model: bytes, arrays: dict[str, Any], batch_size: int, seed: int, deadline: float,
            processes: int) -> Iterator[Train]:
    """Give the function that trains pairs and yields each as it is done.

    It yields fewer when the deadline comes, and raises KeyboardInterrupt within a step of Ctrl-C.
    """
    if processes == 1:
        def late() -> bool:
            return time.monotonic() > deadline
        work = Work(model, arrays, batch_size, seed, late)
        yield lambda trials, samples: filter(None, (
            work.train(trial, samples) for trial in trials if not late()))
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Value("b", False, lock=False)
    with tempfile.TemporaryDirectory(prefix="fastmom-tune-") as name:
        for key, array in arrays.items():
            np.save(Path(name) / f"{key}.npy", array, allow_pickle=False)
        pool = ProcessPoolExecutor(processes, context, begin,
                                   (model, Path(name), batch_size, seed, deadline, stop))
        try:
            yield lambda trials, samples: in_pool(pool, trials, samples)
        finally:
            stop.value = True
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def deaf() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: processes that are started meanwhile do so for good.

    A terminal sends it to all of them, and it is for the parent alone, which gets it afterwards.
    Where signals cannot be blocked it is ignored for that moment.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if hasattr(signal, "pthread_sigmask"):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def in_pool(pool: ProcessPoolExecutor, trials: Sequence[Trial], samples: int) -> Iterator[Trial]:
    """Train in the pool's processes."""
    try:
        with deaf():
            left: set[Future[Trial | None]] = {pool.submit(go_on, t, samples) for t in trials}
        while left:
            done, left = wait(left, POLL, FIRST_COMPLETED)
            for future in done:
                if (trial := future.result()) is not None:
                    yield trial
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a process of the search has ended unexpectedly: a script must call tune below "
            "`if __name__ == \"__main__\":`, or with processes=1; else memory may be short"
        ) from error
