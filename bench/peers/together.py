"""Libraries that step the very same parameters, gradients and state, in one process.

The state is where fastmom puts it. A library that is missing is named in `NOTE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import fastmom as fm
from bench.peers import PEERS
from bench.timing import Step
from bench.workloads import Case
from fastmom.optim import OPTIMIZERS

HUGE = 2**21                # bytes of a huge page
# Lists of gradients that take turns: nobody remembers more than those of the step before, and more
# lists than a training has at a time would push parameters out of the cache
FEW, SEVERAL = 2, 16
SEVERAL_UPTO = 10**4        # elements in all of so many lists
OWN_UPTO = 10**6            # elements: larger lists of gradients are new arrays on the same memory
TRANSPARENT = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FACTS: dict[str, Any] = {}  # of the memory of the latest case


class Memory:
    """Parameters, gradients and state of a case.

    Where it is `large`, memory is the limit, and peers leave out the forms that differ in the work
    around it.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.large = case, case.elements > OWN_UPTO
        make: Any = {cls.__name__: cls for cls in OPTIMIZERS.values()}[case.optimizer]
        clip: dict[str, Any] = {} if case.clip is None else {"clip_norm": case.clip}
        self.params, grads = case.tensors()
        self.optimizer = make(self.params, **case.hyper, **clip)
        self.state: list[dict[str, Any]] = self.optimizer.state
        count = SEVERAL if case.elements * SEVERAL <= SEVERAL_UPTO else FEW
        self.lists = [grads, *([g[...] if self.large else np.copy(g) for g in grads]
                               for _ in range(count - 1))]

    def huge(self) -> dict[str, float]:
        """Return the share of each kind of array that lies in huge pages, where one would fit."""
        state = [array for of_one in self.state for array in of_one.values()]
        kinds = {"parameters": self.params, "gradients": self.lists[0], "state": state}
        large = {kind: [a for a in arrays if a.nbytes >= 2 * HUGE]
                 for kind, arrays in kinds.items()}
        return {kind: huge_share(arrays) for kind, arrays in large.items() if arrays}


def huge_share(arrays: Iterable[Any]) -> float:
    """Return the share of the mappings that hold these arrays which huge pages back."""
    try:
        text = Path("/proc/self/smaps").read_text()
    except OSError:
        return math.nan
    mappings: list[tuple[int, int, int, int]] = []
    start = end = resident = 0
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            start, end = (int(part, 16) for part in name.split("-"))
        elif name == "Rss:":
            resident = int(rest.split()[0])
        elif name == "AnonHugePages:":
            mappings.append((start, end, resident, int(rest.split()[0])))
    held = {found for a in arrays for found in mappings
            if found[0] < a.ctypes.data + a.nbytes and a.ctypes.data < found[1]}
    return sum(found[3] for found in held) / max(1, sum(found[2] for found in held))


def loaded() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the modules of the peers that share memory, and why others are missing."""
    modules, missing = {}, {}
    for name, peer in PEERS.items():
        if peer.shares:
            try:
                modules[name] = import_module(f"bench.peers.{peer.file}")
            except ImportError as error:
                missing[name] = str(error)
    return modules, missing


MODULES, MISSING = loaded()
VERSIONS = ", ".join(dict.fromkeys(text for module in MODULES.values()
                                   for text in module.VERSIONS.split(", ")))
NOTE = str(Path(fm.__file__).parent)


def steps(case: Case) -> dict[str, Step]:
    """Return every library's steps, by candidate."""
    memory = Memory(case)
    made = {f"{name}{form}": step for name, module in MODULES.items()
            for form, step in module.steps_of(memory).items()}
    memory.optimizer.step(memory.lists[0])      # pages of the state come into being
    pages = TRANSPARENT.read_text().strip() if TRANSPARENT.exists() else "unknown"
    FACTS.update(huge=memory.huge(), huge_pages=pages, missing=MISSING)
    return made
