"""The one timing engine: candidates take turns, in this process or in processes of their own.

Each round measures each candidate once, in an order of its own, so that whatever disturbs the
machine for a while disturbs all alike. A `Call` times a function here, a `Step` a function of
gradients; a `Worker` (worker.py) is another process that does the same.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from bench.worker import Answer, Worker

MIN_SECONDS = 0.02      # of one measurement, at least
SETTLE = 0.2            # seconds between turns in which the threads of the last one go to sleep
ASLEEP = 0.1            # cores: a process that uses less waits with none of its threads spinning
NAP, LONGEST = 0.003, 0.3       # seconds over which that is measured, and that it is waited for


class Call:
    """A function, called often enough that a measurement lasts so many seconds.

    Parameters
    ----------
    run : callable
    prepare : callable, optional
        Called before each call, outside the time.
    lasting : float
        Seconds.
    """

    def __init__(self, run: Callable[[], object], prepare: Callable[[], object] | None = None,
                 lasting: float = MIN_SECONDS) -> None:
        self.run, self.prepare, self.lasting, self.loops = run, prepare, lasting, 0

    def turn(self) -> Answer:
        """Return the seconds per call."""
        if self.loops:
            self.run()      # warm caches and threads after the others
        else:
            self.loops = self._enough()
        return {"seconds": self._seconds(self.loops)}

    def _enough(self) -> int:
        self.run()
        loops = 1
        while (seconds := self._seconds(loops) * loops) < self.lasting and loops <= 1_000_000:
            loops = max(2 * loops, int(1.2 * loops * self.lasting / max(seconds, 1e-6)))
        return loops

    def _seconds(self, loops: int) -> float:
        run, prepare = self.run, self.prepare
        if prepare is not None:
            total = 0.0
            for _ in range(loops):
                prepare()
                start = time.perf_counter()
                run()
                total += time.perf_counter() - start
            return total / loops
        start = time.perf_counter()
        for _ in range(loops):
            run()
        return (time.perf_counter() - start) / loops


class Step(Call):
    """A step that is given a list of gradients, another one at each call.

    Several libraries take turns in one process, whose threads may go on spinning after a step: a
    turn ends when they are asleep.

    Parameters
    ----------
    run : callable
        Takes a list of gradients.
    lists : sequence
        What it is given, over and over.
    hand : callable, optional
        Is given the list first, outside the time, where `run` takes gradients from elsewhere.
    within : callable, optional
        Returns a context in which the turn is taken.
    """

    def __init__(self, run: Callable[[Any], object], lists: Sequence[Any],
                 hand: Callable[[Any], object] | None = None,
                 within: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        super().__init__(lambda: self._seconds(1))
        self.step, self.lists, self.hand, self.within = run, lists, hand, within

    def turn(self) -> Answer:
        """Return the seconds per step, and the cores that this process used after it."""
        with self.within():
            answer = super().turn()
        return answer | {"spinning": until_asleep()}

    def _seconds(self, loops: int) -> float:
        step, hand = self.step, self.hand
        lists = islice(cycle(self.lists), loops)
        if hand is None:
            start = time.perf_counter()
            for grads in lists:
                step(grads)
            return (time.perf_counter() - start) / loops
        total = 0.0
        for grads in lists:
            hand(grads)
            start = time.perf_counter()
            step(grads)
            total += time.perf_counter() - start
        return total / loops


def until_asleep() -> float:
    """Wait until no thread of this process spins; return the cores it uses then."""
    end = time.perf_counter() + LONGEST
    while True:
        start, used = time.perf_counter(), time.process_time()
        time.sleep(NAP)
        now = time.perf_counter()
        cores = (time.process_time() - used) / (now - start)
        if cores < ASLEEP or now > end:
            return cores


class Record:
    """The answers of one candidate: first that of the warm-up, then one for each round.

    Parameters
    ----------
    name : str
    turn : callable
        Returns ``{"seconds": …, …}``, or ``{"error": reason}``.
    worker : Worker, optional
        The process that works when it is this candidate's turn.
    """

    def __init__(self, name: str, turn: Callable[[], Answer], worker: Worker | None = None) -> None:
        self.name, self.turn, self.worker = name, turn, worker
        self.warm_up: Answer = {}
        self.answers: list[Answer] = []
        self.others: list[float] = []    # cores that other programs used, the warm-up first
        self.error = ""

    @property
    def seconds(self) -> list[float]:
        return [answer["seconds"] for answer in self.answers]

    def take_turn(self) -> None:
        answer = self.turn()
        self.error = answer.get("error", "")
        if self.error:
            return
        if self.warm_up:
            self.answers.append(answer)
        else:
            self.warm_up = answer


class Load:
    """Return the processor time of other programs during one candidate's turn, in cores."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.workers = list(dict.fromkeys(r.worker for r in records if r.worker is not None))
        self.waiting: list[float] = []      # the workers that should wait
        self.others: list[float] = []       # everybody else on the machine

    def during(self, record: Record) -> None:
        """Let it take its turn, and watch the others."""
        start, machine, here = time.perf_counter(), _machine_seconds(), time.process_time()
        before = [worker.cpu_seconds() for worker in self.workers]
        record.take_turn()
        wall = time.perf_counter() - start
        used = {worker: worker.cpu_seconds() - b
                for worker, b in zip(self.workers, before, strict=True)}
        known = sum(used.values()) + (time.process_time() - here)
        mine = used[record.worker] if record.worker else 0.0
        self.waiting.append((sum(used.values()) - mine) / wall)
        self.others.append(max(0.0, _machine_seconds() - machine - known) / wall)
        record.others.append(self.others[-1])

    @staticmethod
    def summary(cores: Sequence[float]) -> str:
        return f"{statistics.median(cores):.2f} in the median, {max(cores):.2f} at most"


def _machine_seconds() -> float:
    """Return the processor time used by anybody so far; 0 where there is no /proc."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def take_turns(records: Sequence[Record], rounds: int, budget: float = math.inf,
               settle: float = SETTLE) -> Load:
    """Warm new candidates up, then measure each once in each round, in an order drawn by lot.

    A candidate whose answers so far took `budget` seconds sits the rest out, the warm-up counting
    as its answer where that took so long. `settle` seconds pass between two turns.
    """
    load, lots = Load(records), random.Random(0)
    for number in range(-1, rounds):
        for record in lots.sample(records, len(records)):
            due = sum(record.seconds) < budget if number >= 0 else not record.warm_up
            if due and not record.error:
                time.sleep(settle)
                load.during(record)
            if number < 0 and record.warm_up.get("seconds", 0.0) >= budget:
                record.answers = record.answers or [record.warm_up]
    return load


def interleaved(candidates: Mapping[str, Callable[[], object] | Call],
                rounds: int = 7) -> dict[str, list[float]]:
    """Return the seconds per call of functions of this process, in each round."""
    calls = {name: run if isinstance(run, Call) else Call(run) for name, run in candidates.items()}
    records = [Record(name, call.turn) for name, call in calls.items()]
    take_turns(records, rounds, settle=0)
    return {record.name: record.seconds for record in records}
