"""Results in a file, and what they say: ratios with their spread."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmom.config import config

OURS = "fastmom"
DIGITS = 6      # of every number that is kept
Results = dict[str, Any]


class Ratio(NamedTuple):
    """How many times our seconds a peer takes."""

    value: float        # of the minima
    low: float          # the least and the largest ratio of a round
    high: float

    def __str__(self) -> str:
        return f"{figure(self.value)} ({figure(self.low)} to {figure(self.high)})"

    @property
    def range(self) -> tuple[float, float]:
        """All of these."""
        return min(self.low, self.value), max(self.high, self.value)


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Of two candidates that took turns."""
    rounds = min(len(peer), len(ours))
    each = np.divide(peer[:rounds], ours[:rounds])
    low, high = each.min(), each.max()
    return Ratio(min(peer) / min(ours), float(low), float(high))


def figure(value: float, digits: int = 2) -> str:
    """So many significant digits, and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{figure(seconds / size)} {unit}"
    return f"{figure(seconds * 1e6)} us"


# The file -----------------------------------------------------------------------------------------

def load(path: Path) -> Results:
    content: Results = json.loads(path.read_text(encoding="utf-8"))
    return content


def save(path: Path, content: Results) -> None:
    """A line for each row, so that versions can be told apart."""
    lines = []
    for name, part in content.items():
        text = json.dumps(rounded(part), ensure_ascii=False)
        lines.append(f"{json.dumps(name)}: {text.replace('}, {', '},' + chr(10) + ' {')}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def rounded(part: Any) -> Any:
    if isinstance(part, float):
        return float(f"{part:.{DIGITS}g}") if math.isfinite(part) else None
    if isinstance(part, dict):
        return {key: rounded(value) for key, value in part.items()}
    return [rounded(value) for value in part] if isinstance(part, (list, tuple)) else part


# The machine --------------------------------------------------------------------------------------

def machine() -> dict[str, Any]:
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "caches": caches(),
            "memory_gb": memory() / 1e9, "platform": platform.platform(), "compiler": compiler(),
            **config()}


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def caches() -> list[str]:
    """Those for data that the first core uses; none where there is no /sys."""
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
