"""A worker: ``python -m bench.workers epoch|step SYSTEM [SETTING]``, spoken to in lines of JSON.

It first says what it can do: ``{"variants": […], "versions": …, "note": …}``, or ``{"missing":
reason}`` and ends. In between it waits for input.

- Of epochs, to the setting on its command line: to ``{"epoch": variant}`` it answers with the
  seconds and the figures of an epoch, and to ``{"accuracy": variant}`` with the test accuracy.
- Of steps: ``{"prepare": case}`` makes the tensors and answers with the variants, to ``{"step":
  variant}`` it answers with the seconds of one step, and ``{"drop": null}`` frees the tensors.

To what fails it answers ``{"error": …}``.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from bench.timing import loops_of, seconds_per_call
from bench.workers.task import Case, Setting, Task

Answer = dict[str, Any]


def reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


class Epochs:
    """Answers of a module that trains."""

    def __init__(self, module: Any, setting: str) -> None:
        self.runs = module.variants(Task(Setting(**json.loads(setting))))
        self.variants = list(self.runs)

    def epoch(self, variant: str) -> Answer:
        start = time.perf_counter()
        figures = self.runs[variant].epoch()
        return {"seconds": time.perf_counter() - start, **figures}

    def accuracy(self, variant: str) -> Answer:
        return {"accuracy": self.runs[variant].accuracy()}


class Steps:
    """Answers of a module that steps."""

    def __init__(self, module: Any) -> None:
        self.make: Callable[[Case], dict[str, Callable[[], object]]] = module.steps
        self.runs: dict[str, Callable[[], object]] = {}
        self.loops: dict[str, int] = {}
        self.variants: list[str] = []

    def drop(self, _: None) -> Answer:
        """Free its tensors."""
        self.runs, self.loops = {}, {}
        gc.collect()        # a run may refer to itself
        return {}

    def prepare(self, case: dict[str, Any]) -> Answer:
        self.runs = self.make(Case(**case))
        return {"variants": list(self.runs)}

    def step(self, variant: str) -> Answer:
        run = self.runs[variant]
        if variant not in self.loops:
            self.loops[variant] = loops_of(run)
        run()               # warms caches and threads after the others
        return {"seconds": seconds_per_call(run, self.loops[variant])}


def serve(worker: Epochs | Steps, say: Callable[..., None], lines: Iterable[str]) -> None:
    for line in lines:
        try:
            (what, given), = json.loads(line).items()
            say(**getattr(worker, what)(given))
        except Exception as error:
            say(error=reason(error))


def main() -> None:
    # Libraries may print; answers have a stream of their own.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**content: Any) -> None:
        print(json.dumps(content), file=out, flush=True)

    kind, system, *setting = sys.argv[1:]
    try:
        module = import_module(f"bench.workers.on_{system}")
        worker = {"epoch": Epochs, "step": Steps}[kind](module, *setting)
    except Exception as error:      # whatever it is, the others go on
        return say(missing=reason(error))
    say(variants=worker.variants, versions=module.VERSIONS, note=module.NOTE)
    serve(worker, say, sys.stdin)


if __name__ == "__main__":
    main()
