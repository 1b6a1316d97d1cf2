"""The schedule that follows a metric."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from fastmom.checks import choice, integer, number
from fastmom.optim.schedule_base import Schedule


class ReduceOnPlateau(Schedule):
    """`start`, multiplied by `factor` whenever a metric has stopped improving.

    The only schedule with state: `observe` the metric, say once per epoch; the step is ignored. As
    PyTorch's ReduceLROnPlateau with a relative threshold, except that there is no smallest change
    (its ``eps``), an infinite metric never improves, and the threshold is relative to the absolute
    value of the best (with its formula a negative metric improves by repeating itself).

    Parameters
    ----------
    start : float
        First value, >= 0.
    factor : float, default 0.1
        >= 0 and < 1.
    patience : int, default 10
        So many observations in a row may bring no improvement; one more reduces the value.
    threshold : float, default 1e-4
        To improve, a metric must beat the best by more than this part of it. NaN does not.
    mode : {"min", "max"}
        Whether a lower or a higher metric is better.
    cooldown : int, default 0
        After a reduction so many observations do not count as without improvement.
    minimum : float, default 0
        Lowest value, from 0 to `start`.
    state : dict, optional
        From `state_dict`, to continue there.

    Examples
    --------
    >>> lr = ReduceOnPlateau(0.5, factor=0.5, patience=1)
    >>> [lr.observe(loss) for loss in (1.0, 0.8, 0.8, 0.8)]
    [False, False, False, True]
    >>> lr(step=0)
    0.25
    """

    start: float
    factor: float
    patience: int
    threshold: float
    mode: str
    cooldown: int
    minimum: float
    state: dict[str, Any]

    def __init__(self, start: float, factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, mode: str = "min", cooldown: int = 0,
                 minimum: float = 0.0, state: Mapping[str, Any] | None = None) -> None:
        start = number("start", start, 0.0)
        super().__init__(
            start=start, factor=number("factor", factor, 0.0, 1.0, open_high=True),
            patience=integer("patience", patience, 0),
            threshold=number("threshold", threshold, 0.0),
            mode=choice("mode", mode, ("min", "max")),
            cooldown=integer("cooldown", cooldown, 0),
            minimum=number("minimum", minimum, 0.0, start), state={})
        fresh = {"value": start, "best": None, "without_improvement": 0, "cooling": 0}
        self.load_state_dict(fresh if state is None else state)

    __hash__ = None     # type: ignore[assignment]  # its state, and so what it equals, changes

    def _value(self, step: int) -> float:
        value: float = self.state["value"]
        return value

    def observe(self, metric: float) -> bool:
        """Take the next metric; return whether that reduced the value.

        Raises
        ------
        TypeError
            If `metric` is not a number.
        """
        if isinstance(metric, bool) or not isinstance(metric, numbers.Real):
            raise TypeError(f"metric must be a number, not {metric!r}")
        metric = float(metric)
        best, bad, cooling = (self.state[k] for k in ("best", "without_improvement", "cooling"))
        if self._improves(metric, best):
            best, bad = metric, 0
        else:
            bad += 1
        if cooling:
            cooling, bad = cooling - 1, 0
        before = value = self.state["value"]
        if bad > self.patience:
            value = max(value * self.factor, self.minimum)
            cooling, bad = self.cooldown, 0
        self.state.update(value=value, best=best, without_improvement=bad, cooling=cooling)
        return bool(value < before)

    def _improves(self, metric: float, best: float | None) -> bool:
        if best is None or not math.isfinite(metric):
            return math.isfinite(metric)        # the first one improves on nothing
        gain = best - metric if self.mode == "min" else metric - best
        return gain > self.threshold * abs(best)

    def __copy__(self) -> ReduceOnPlateau:
        return type(self)(**vars(self))

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state, for JSON: the value, the best metric and two counters."""
        return dict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned; a wrong one raises and changes nothing."""
        names = {"value", "best", "without_improvement", "cooling"}
        if not isinstance(state, Mapping) or set(state) != names:
            raise ValueError(f"state must have {', '.join(sorted(names))}, not {state!r}")
        best = state["best"]
        self.state.update(
            value=number("state['value']", state["value"], 0.0),
            best=None if best is None else number("state['best']", best),
            without_improvement=integer("state['without_improvement']",
                                        state["without_improvement"], 0),
            cooling=integer("state['cooling']", state["cooling"], 0))
