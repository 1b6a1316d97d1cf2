"""Worker processes that take turns: one works, the others wait for input, and that is checked."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 900.0        # seconds that an answer may take
SETTLE = 0.2            # seconds between turns in which the threads of the last one go to sleep


class Worker:
    """A process that answers lines of JSON; `missing` says why there is none.

    Parameters
    ----------
    command : sequence of str
    cwd : Path
    environment : mapping
        On top of this process's own.
    """

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self.variants: list[str] = []
        self.versions = self.note = ""
        self.log: Any = tempfile.TemporaryFile()    # noqa: SIM115  (stderr, until it closes)
        try:
            self.process: Any = subprocess.Popen(
                command, cwd=cwd, env=os.environ | environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=self.log, text=True)
        except OSError as error:
            self.process, self.missing = None, f"{command[0]}: {error.strerror}"
            return
        ready = self._answer()
        self.missing: str = ready.get("missing") or ready.get("error", "")
        self.variants = ready.get("variants", [])
        self.versions, self.note = ready.get("versions", ""), ready.get("note", "")
        if self.missing:
            self.close()

    def ask(self, what: str, given: object) -> dict[str, Any]:
        """Its answer; ``{"error": reason}`` if it fails, dies or takes too long."""
        try:
            self.process.stdin.write(json.dumps({what: given}) + "\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": self._last_words()}
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            return {"error": self._last_words()}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        status = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return f"ended with status {status}: {lines[-1] if lines else 'silently'}"[:200]

    def cpu_seconds(self) -> float:
        """Of all its threads so far; 0 where there is no /proc, or no process."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, AttributeError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()      # ends it, as there is nothing left to answer
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
        self.log.close()


class Record:
    """What one variant of a worker has answered: of epochs or of steps, whichever is asked."""

    def __init__(self, worker: Worker, request: str, system: str, environment: str,
                 what: str = "epoch") -> None:
        self.worker, self.request, self.system, self.what = worker, request, system, what
        self.variant = ", ".join(filter(None, [request, environment]))
        self.warm_up: dict[str, Any] = {}
        self.answers: list[dict[str, Any]] = []
        self.strangers: list[float] = []    # cores that other programs used, the warm-up first
        self.accuracy: float | None = None
        self.error = ""

    @property
    def seconds(self) -> list[float]:
        return [answer["seconds"] for answer in self.answers]

    def take_turn(self) -> None:
        answer = self.worker.ask(self.what, self.request)
        self.error = answer.get("error", "")
        if self.error:
            return
        if self.warm_up:
            self.answers.append(answer)
        else:
            self.warm_up = answer

    def test(self) -> None:
        if self.what == "epoch" and not self.error:
            self.accuracy = self.worker.ask("accuracy", self.request).get("accuracy")


class Load:
    """Who else used the processor while one worker had its turn, in cores."""

    def __init__(self, workers: Sequence[Worker], settle: float = SETTLE) -> None:
        self.workers, self.settle = workers, settle
        self.waiting: list[float] = []      # the workers that should wait
        self.strangers: list[float] = []    # everybody else on the machine

    def during(self, record: Record) -> None:
        """Let it take its turn, and watch the others."""
        time.sleep(self.settle)
        start, machine = time.perf_counter(), _machine_seconds()
        before = [worker.cpu_seconds() for worker in self.workers]
        record.take_turn()
        wall = time.perf_counter() - start
        used = [worker.cpu_seconds() - b for worker, b in zip(self.workers, before, strict=True)]
        mine = used[self.workers.index(record.worker)]
        self.waiting.append((sum(used) - mine) / wall)
        disturbed = max(0.0, _machine_seconds() - machine - sum(used)) / wall
        self.strangers.append(disturbed)
        record.strangers.append(disturbed)

    @staticmethod
    def summary(cores: Sequence[float]) -> str:
        return f"{statistics.median(cores):.2f} as a rule, {max(cores):.2f} at most"


def _machine_seconds() -> float:
    """Processor time that anybody has used so far; 0 where there is no /proc."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def take_turns(records: Sequence[Record], rounds: int, budget: float,
               settle: float = SETTLE) -> Load:
    """A warm-up each, and rounds A B C, A B C, … of one epoch, or measurement of a step, each.

    A variant whose epochs so far took `budget` seconds sits the rest out, but not before its
    second round.
    """
    workers = list(dict.fromkeys(record.worker for record in records))
    load = Load(workers, settle)
    for number in range(-1, rounds):
        for record in records:
            if not record.error and (number < 2 or sum(record.seconds) < budget):
                load.during(record)
    for record in records:
        record.test()
    return load
