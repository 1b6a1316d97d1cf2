"""What a search has found, in words and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastmom.tuning.curvature import stability_edge
from fastmom.tuning.trials import Trial


@dataclass(frozen=True, eq=False, repr=False)
class Tuning:
    """The result of `fastmom.tune`.

    Attributes
    ----------
    trials : list of Trial
        All pairs, as far as each has come, the best first.
    lr, momentum : float
        The recommended pair.
    reason : str
        Why it is recommended.
    cost : float
        Samples trained on, as a share of what training all pairs to the end takes.
    curvature : (float, float)
        The largest curvature of the loss at the first weights, and at those the best pair has led
        to; NaN if it was not measured.
    nesterov, accuracy : bool
        Whether the momentum is Nesterov's; whether accuracies were compared, not losses.
    budget : int
        Samples that the best pairs were to be trained on.
    ended : str
        ``""``, or why the search ended early: "interrupted" or "out of time".
    """

    trials: Sequence[Trial]
    cost: float
    curvature: tuple[float, float]
    nesterov: bool
    accuracy: bool
    budget: int
    ended: str = ""

    @property
    def best(self) -> Trial:
        return self.trials[0]

    @property
    def lr(self) -> float:
        return self.best.lr

    @property
    def momentum(self) -> float:
        return self.best.momentum

    @cached_property
    def lrs(self) -> list[float]:
        """All learning rates, from the lowest."""
        return sorted({trial.lr for trial in self.trials})

    @cached_property
    def momenta(self) -> list[float]:
        """All momenta, from the lowest."""
        return sorted({trial.momentum for trial in self.trials})

    def edge(self, momentum: float, *, end: bool = False) -> float:
        """Return the learning rate at the edge of stability, at the first or the last weights."""
        return stability_edge(momentum, self.curvature[end], nesterov=self.nesterov)

    def shown(self, trial: Trial) -> str:
        """Return what is compared, as text."""
        if trial.diverged:
            return "diverged"
        return f"accuracy {trial.score:.2%}" if self.accuracy else f"loss {trial.loss:.4g}"

    @property
    def reason(self) -> str:
        best, lost = self.best, sum(trial.diverged for trial in self.trials)
        tried = [trial for trial in self.trials if trial.samples]
        parts = [f"validation {self.shown(best)} after {best.samples:,} samples is the best of "
                 f"{len(tried)} pairs" + f", of which {lost} diverged" * bool(lost)]
        if len(tried) > 1 and not tried[1].diverged:
            other = tried[1]
            parts.append(f"next best: lr {other.lr:.3g}, momentum {other.momentum:g}, "
                         f"{self.shown(other)}")
        edge = self.edge(self.momentum)
        if math.isfinite(edge):
            parts.append(f"the edge of stability at the first weights, {self.formula}, is lr "
                         f"{edge:.2g}")
        for name, value, values in (("lr", self.lr, self.lrs),
                                    ("momentum", self.momentum, self.momenta)):
            if value in (values[0], values[-1]) and 0 < value < 1 and len(values) > 1:
                way = "lower" if value == values[0] else "higher"
                parts.append(f"{name} is at the border of the grid: {way} ones may be better")
        return "; ".join(parts)

    @property
    def formula(self) -> str:
        """The edge of stability, as text."""
        return "2(1 + m)/((1 + 2m)L)" if self.nesterov else "2(1 + m)/L"

    def to_dict(self) -> dict[str, Any]:
        """Return it as data for JSON."""
        names = "lr", "momentum", "samples", "loss", "score", "diverged"
        return {"lr": self.lr, "momentum": self.momentum, "reason": self.reason, "cost": self.cost,
                "budget": self.budget, "ended": self.ended, "nesterov": self.nesterov,
                "curvature": [c if math.isfinite(c) else None for c in self.curvature],
                "trials": [{name: value if math.isfinite(value := getattr(trial, name)) else None
                            for name in names} for trial in self.trials]}

    def __repr__(self) -> str:
        ended = f" ({self.ended})" * bool(self.ended)
        return f"<Tuning: lr {self.lr:.3g}, momentum {self.momentum:g}; {self.reason}{ended}>"
