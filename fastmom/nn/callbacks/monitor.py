"""The metric that a callback follows, and when it is better than another."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from fastmom.checks import number
from fastmom.nn.callbacks.base import ALIASES

BETTER = {"min": re.compile("loss|error|mse|mae|crossentropy"),
          "max": re.compile("acc|auc|precision|recall|f1")}


class Monitor:
    """A metric by name, and when a value of it is better than another.

    Parameters
    ----------
    name : str
    mode : {"auto", "min", "max"}
        Whether a lower or a higher value is better. ``"auto"`` tells by the name.

    Raises
    ------
    TypeError, ValueError
        If the name does not tell.
    """

    def __init__(self, name: str, mode: str = "auto") -> None:
        if not isinstance(name, str):
            raise TypeError(f"monitor must be the name of a metric, not {name!r}")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', not {mode!r}")
        modes = [mode] if mode != "auto" else modes_of(name)
        if len(modes) != 1:
            raise ValueError(f"mode='auto' cannot tell from monitor={name!r} whether lower or "
                             f"higher is better; give mode='min' or 'max'")
        self.name, self.mode = name, modes[0]

    def __call__(self, logs: Mapping[str, Any] | None) -> float:
        """Return the metric of this epoch."""
        return monitored(self.name, logs)

    def improves(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Return whether `value` beats `best` by more than `min_delta`; NaN and infinity do not."""
        if best is None or not math.isfinite(value):
            return math.isfinite(value)
        return (best - value if self.mode == "min" else value - best) > min_delta


def modes_of(name: str) -> list[str]:
    """Return the modes that fit a metric of this name."""
    return [mode for mode, pattern in BETTER.items() if pattern.search(name)]


def monitored(name: str, logs: Mapping[str, Any] | None) -> float:
    """Return the metric of this name, or raise ValueError naming those there are."""
    logs = logs or {}
    for known in (name, ALIASES.get(name, name)):
        if known in logs:
            return float(logs[known])
    raise ValueError(f"monitor={name!r} is not among the epoch's metrics: {', '.join(logs)}")


def number_or_none(name: str, value: Any) -> float | None:
    """Return a finite float, or None for None."""
    return None if value is None else number(name, value)
