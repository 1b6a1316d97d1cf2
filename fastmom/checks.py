"""Checks of arguments: each returns the value as it will be used, or raises.

Every error names the argument, what is allowed and what was given.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

import numpy as np

# Names that other libraries use for ours, for the hint in the error.
SYNONYMS = {
    "learning_rate": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps", "mu": "momentum",
    "clipnorm": "clip_norm_per_tensor", "global_clipnorm": "clip_norm", "clipvalue": "clip_value",
    "use_nesterov": "nesterov", "l2": "weight_decay", "parameters": "params",
}


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *,
           open_low: bool = False, open_high: bool = False, optional: bool = False) -> float:
    """Return a finite real number from `low` to `high` as a float.

    An open bound is itself not allowed; `optional` only completes the message.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        allowed = _allowed(low, high, open_low, open_high) + " or None" * optional
        raise wrong(name, value, allowed, TypeError)
    try:
        result = float(value)
    except OverflowError:           # an integer or fraction beyond the largest float
        result = math.inf
    above = low < result if open_low else low <= result
    below = result < high if open_high else result <= high
    if not (above and below and math.isfinite(result)):
        raise wrong(name, value, _allowed(low, high, open_low, open_high))
    return result


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return an integer from `low` to `high` as an int."""
    allowed = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise wrong(name, value, allowed, TypeError)
    result = int(value)
    if result < low or (high is not None and result > high):
        raise wrong(name, value, allowed)
    return result


def flag(name: str, value: Any) -> bool:
    """Return True or False as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise wrong(name, value, "True or False", TypeError)
    return bool(value)


def choice(name: str, value: Any, words: Collection[str]) -> str:
    """Return one of these words."""
    if not isinstance(value, str) or value not in words:
        raise wrong(name, value, f"one of {', '.join(map(repr, words))}",
                    ValueError if isinstance(value, str) else TypeError)
    return value


def reject_unknown(where: str, given: Collection[str], allowed: Collection[str]) -> None:
    """Raise TypeError for the first name in `given` that is not allowed, with the likely one."""
    for name in given:
        if name in allowed:
            continue
        guess = SYNONYMS.get(name)
        if guess not in allowed:
            import difflib  # only now: it would slow down every import of fastmom
            guess = next(iter(difflib.get_close_matches(name, allowed, 1)), None)
        hint = f"did you mean {guess!r}?" if guess else f"allowed: {', '.join(sorted(allowed))}"
        raise TypeError(f"{where} has no argument {name!r}; {hint}")


def wrong(name: str, value: Any, allowed: str, error: type[Exception] = ValueError) -> Exception:
    """Make the error for an argument that is not `allowed`."""
    return error(f"{name} must be {allowed}, not {value!r}")


def interval(low: float, high: float, open_low: bool, open_high: bool) -> str:
    """Return the interval in words; nothing for that of all numbers."""
    if low > -math.inf and high < math.inf:
        return f"{'above' if open_low else 'from'} {low:g} to {'below ' * open_high}{high:g}"
    if high < math.inf:
        return f"{'<' if open_high else '<='} {high:g}"
    return f"{'>' if open_low else '>='} {low:g}" if low > -math.inf else ""


def _allowed(low: float, high: float, open_low: bool, open_high: bool) -> str:
    finite = "finite " * (low == -math.inf or high == math.inf)
    return f"a {finite}number {interval(low, high, open_low, open_high)}".rstrip()
