"""A worker: ``python -m bench.epoch_workers SYSTEM SETTING``, spoken to in lines of JSON.

It first says what it can do: ``{"variants": […], "versions": …, "note": …}``, or ``{"missing":
reason}`` and ends. To ``{"epoch": variant}`` it answers with the seconds and the figures of an
epoch, to ``{"accuracy": variant}`` with the test accuracy, and to what fails with ``{"error": …}``.
In between it waits for input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from bench.epoch_workers.task import Run, Setting, Task


def reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def answer(runs: Mapping[str, Run], request: Mapping[str, str]) -> dict[str, Any]:
    (what, variant), = request.items()
    run = runs[variant]
    if what == "accuracy":
        return {"accuracy": run.accuracy()}
    start = time.perf_counter()
    figures = run.epoch()
    return {"seconds": time.perf_counter() - start, **figures}


def main() -> None:
    # Libraries may print; answers have a stream of their own.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**content: Any) -> None:
        print(json.dumps(content), file=out, flush=True)

    system, setting = sys.argv[1], Setting(**json.loads(sys.argv[2]))
    try:
        module = import_module(f"bench.epoch_workers.on_{system}")
        runs = module.variants(Task(setting))
    except Exception as error:      # whatever it is, the others go on
        return say(missing=reason(error))
    say(variants=list(runs), versions=module.VERSIONS, note=module.NOTE)
    for line in sys.stdin:
        try:
            say(**answer(runs, json.loads(line)))
        except Exception as error:
            say(error=reason(error))


if __name__ == "__main__":
    main()
