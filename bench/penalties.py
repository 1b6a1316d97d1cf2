"""Measure what should cost nothing: subnormal velocities, and ``import fastmom``."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastmom as fm
from bench.peers.on_numpy import out_step
from bench.results import Results, Target, duration, ratio, table, targets_table, typical
from bench.timing import Call, interleaved
from bench.workloads import Case
from fastmom.optim.reference import Reference

ELEMENTS = 10**6
SUBNORMAL, NORMAL = 1e-39, 1e-3
# Seconds without the penalty over those with it, at least
SUBNORMALS_TARGET, IMPORT_TARGET = 1 / 1.05, 1 / 1.15
FIRST_STEP = ("import numpy as np, fastmom as fm; w, g = np.ones((2, 10), np.float32); "
              "fm.SGD([w], lr=0.1, momentum=0.9).step([g])")
Step = Callable[[], object]


def measure(args: Namespace) -> Results:
    """Time each with its penalty and without."""
    return {"rows": [*subnormals(args.rounds), *importing(args.rounds)]}


def subnormals(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield rows of steps at zero gradients, from velocities that are set before each."""
    case = Case("SGD", [[ELEMENTS]])
    for who in ("fastmom", "NumPy out="):
        params, zeros = case.tensors()[0], [np.zeros(ELEMENTS, np.float32)]
        optimizer = fm.SGD(params, **case.hyper)
        velocity = optimizer.state[0]["velocity"]
        step: Step = functools.partial(optimizer.step, zeros)
        if who != "fastmom":
            reference = Reference(optimizer, np.float32)
            velocity = reference.state[0]["velocity"]
            step = functools.partial(out_step(reference), zeros)

        times = interleaved({str(value): Call(step, functools.partial(velocity.fill, value))
                             for value in (SUBNORMAL, NORMAL)}, rounds)
        yield {"what": f"{who}: a step of {ELEMENTS:,} velocities, subnormal over normal",
               "with": times[str(SUBNORMAL)], "without": times[str(NORMAL)],
               "target": SUBNORMALS_TARGET if who == "fastmom" else None}


def importing(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield rows of processes that import fastmom, and that take a step, over NumPy's import."""
    def run(program: str) -> Step:
        return lambda: subprocess.run([sys.executable, "-c", program], check=True, env=environment)

    environment = {name: value for name, value in os.environ.items()
                   if name != "PYTHONDONTWRITEBYTECODE"}        # compiled once, as installed
    names = {"import fastmom": "import fastmom", "import and a first step": FIRST_STEP}
    times = interleaved({name: run(program) for name, program in
                         {**names, "numpy": "import numpy"}.items()}, 3 * rounds)
    for name in names:
        yield {"what": f"{name} over import numpy", "with": times[name], "without": times["numpy"],
               "target": IMPORT_TARGET}


def targets(part: Results) -> Iterator[Target]:
    for row in part["rows"]:
        if row["target"] is not None:
            yield Target(f"{row['what']}, inverse", row["with"], row["without"], row["target"])


def chapter(part: Results) -> str:
    rows = ([row["what"], duration(typical(row["with"])), duration(typical(row["without"])),
             str(ratio(row["with"], row["without"]))] for row in part["rows"])
    return "\n\n".join([table(["", "with", "without", "ratio"], rows),
                        targets_table(targets(part))])
