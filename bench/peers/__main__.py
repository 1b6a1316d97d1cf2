"""A worker, started by `bench.worker.Worker` and spoken to in lines of JSON.

It is given a peer's module and, for epochs, a setting. It first says what it can do:
``{"variants": […], "versions": …, "note": …}``, or ``{"missing": reason}`` and ends. In between it
waits for input.

- With a setting: ``{"again": setting}`` starts anew, with this one; to ``{"epoch": variant}`` it
  answers with the seconds and the metrics of an epoch, and to ``{"accuracy": variant}`` with the
  test accuracy.
- Without: ``{"prepare": {"steps": case}}`` calls the module's function of that name with the case
  and answers with the variants; to ``{"turn": variant}`` it answers with the seconds of one call;
  ``{"lasting": seconds}`` says how long a measurement should last; ``{"drop": null}`` frees the
  arrays.

To what fails it answers ``{"error": …}``.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from bench.timing import MIN_SECONDS, Call
from bench.worker import Answer
from bench.workloads import Case, Setting, Task

GIVEN: dict[str, type[Case | Setting]] = {"steps": Case, "predictions": Setting}


def reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


class Epochs:
    """Answers of a module that trains."""

    def __init__(self, module: Any, setting: str) -> None:
        self.module = module
        self.again(json.loads(setting))

    def again(self, setting: dict[str, Any]) -> Answer:
        """Start a training anew."""
        self.runs = self.module.variants(Task(Setting(**setting)))
        self.variants = list(self.runs)
        return {"variants": self.variants}

    def epoch(self, variant: str) -> Answer:
        start = time.perf_counter()
        metrics = self.runs[variant].epoch()
        return {"seconds": time.perf_counter() - start, **metrics}

    def accuracy(self, variant: str) -> Answer:
        return {"accuracy": self.runs[variant].accuracy()}


class Calls:
    """Answers of a module that makes calls to be timed."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.calls: dict[str, Call] = {}
        self.variants: list[str] = []
        self.seconds = MIN_SECONDS

    def lasting(self, seconds: float) -> Answer:
        self.seconds = seconds
        return {}

    def drop(self, _: None) -> Answer:
        self.calls = {}
        gc.collect()        # a run may refer to itself
        return {}

    def prepare(self, content: dict[str, dict[str, Any]]) -> Answer:
        (what, given), = content.items()
        runs = getattr(self.module, what)(GIVEN[what](**given))
        self.calls = {name: run if isinstance(run, Call) else Call(run)
                      for name, run in runs.items()}
        for call in self.calls.values():
            call.lasting = self.seconds
        return {"variants": list(runs)} | getattr(self.module, "FACTS", {})

    def turn(self, variant: str) -> Answer:
        return self.calls[variant].turn()


def serve(worker: Epochs | Calls, say: Callable[..., None], lines: Iterable[str]) -> None:
    for line in lines:
        try:
            (what, given), = json.loads(line).items()
            say(**getattr(worker, what)(given))
        except Exception as error:
            say(error=reason(error))


def main(arguments: Sequence[str]) -> None:
    # Libraries may print; answers have a stream of their own.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**content: Any) -> None:
        print(json.dumps(content), file=out, flush=True)

    name, *setting = arguments
    try:
        module = import_module(f"bench.peers.{name}")
        worker = Epochs(module, *setting) if setting else Calls(module)
    except Exception as error:      # whatever it is, the others go on
        return say(missing=reason(error))
    say(variants=worker.variants, versions=module.VERSIONS, note=module.NOTE)
    serve(worker, say, sys.stdin)
