"""Results in a file, and what they say: ratios with their spread, targets, the machine."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmom.config import config

FILE = Path(__file__).with_name("results") / "results.json"     # of the README
MIDDLE = 0.1, 0.9       # of all ratios of two times: the range that is stated
DIGITS = 6      # of every number that is kept
PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\":,;=]+[/\\])+([^\s/\\'\":,;=]*)")
Results = dict[str, Any]
Seconds = dict[str, list[float]]    # of each candidate in each round


class Ratio(NamedTuple):
    """How many times our seconds a peer takes."""

    value: float        # of the medians
    low: float          # the middle 80 % of the ratios of each time to each of ours
    high: float

    def __str__(self) -> str:
        return f"{number(self.value)} ({number(self.low)} to {number(self.high)})"

    @property
    def range(self) -> tuple[float, float]:
        return min(self.low, self.value), max(self.high, self.value)


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Compare two candidates that took turns."""
    low, high = np.quantile(np.divide.outer(peer, ours), MIDDLE)
    return Ratio(typical(peer) / typical(ours), float(low), float(high))


def typical(seconds: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(seconds)


class Target(NamedTuple):
    """A bound on the ratio peer / ours from below; without a peer, on our seconds from above."""

    what: str
    ours: Sequence[float]
    peer: Sequence[float]
    bound: float

    @property
    def measured(self) -> float:
        return ratio(self.peer, self.ours).value if self.peer else typical(self.ours)

    @property
    def met(self) -> bool:
        return self.measured >= self.bound if self.peer else self.measured <= self.bound

    def cells(self) -> list[str]:
        """Return what, bound, measured, and the verdict."""
        met = "yes" if self.met else "**no**"
        if self.peer:
            return [self.what, f">= {self.bound:g}", str(ratio(self.peer, self.ours)), met]
        return [self.what, f"<= {duration(self.bound)}", duration(self.measured), met]


def targets_table(targets: Iterable[Target]) -> str:
    rows = [target.cells() for target in targets]
    return table(["target: peer / fastmom", "bound", "measured", "met"], rows) if rows else ""


# Text ---------------------------------------------------------------------------------------------

def number(value: float, digits: int = 2) -> str:
    """Write so many significant digits, and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds * 1e6)} us"


def plural(count: int, what: str = "thread") -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def memory_size(count: float) -> str:
    """Write bytes in powers of 1,024."""
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:g} {unit}"
        count /= 1024
    return f"{count:g} GB"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table in Markdown."""
    head = list(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


# The file -----------------------------------------------------------------------------------------

def load(path: Path = FILE) -> Results:
    content: Results = json.loads(path.read_text(encoding="utf-8"))
    return content


def save(path: Path, content: Results) -> None:
    """Write a line for each row, so that versions can be told apart."""
    lines = []
    for name, part in content.items():
        text = json.dumps(storable(part), ensure_ascii=False)
        lines.append(f"{json.dumps(name)}: {text.replace('}, {', '},' + chr(10) + ' {')}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def storable(part: Any) -> Any:
    """Round the numbers, and leave only the last part of the paths of this machine."""
    if isinstance(part, float):
        return float(f"{part:.{DIGITS}g}") if math.isfinite(part) else None
    if isinstance(part, str):
        return PATH.sub(r"\1", part)
    if isinstance(part, dict):
        return {key: storable(value) for key, value in part.items()}
    return [storable(value) for value in part] if isinstance(part, (list, tuple)) else part


# The machine --------------------------------------------------------------------------------------

def machine() -> dict[str, Any]:
    from cpuinfo import get_cpu_info  # pytest-benchmark brings it

    return {"cpu": get_cpu_info().get("brand_raw", platform.processor()), "cores": os.cpu_count(),
            "caches": caches(), "memory_gb": memory() / 1e9, "platform": platform.platform(),
            "compiler": compiler(), **config()}


def caches() -> list[str]:
    """Return those for data that the first core uses; none where there is no /sys.

    py-cpuinfo adds up those of all cores, and takes the second level for the third.
    """
    found = []
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((cache / name).read_text().strip()
                             for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return found


def memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return 0


def compiler() -> str:
    try:
        asked = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return asked.stdout.splitlines()[0]


def load_average() -> list[float]:
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else []
