"""See from the losses that a training diverges, and bring it back to where it was good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any
from weakref import WeakKeyDictionary

from fastmom.checks import integer, number
from fastmom.optim import Optimizer
from fastmom.optim.accumulation import GradientAccumulation
from fastmom.optim.lowering import check_lowerable, lower
from fastmom.optim.snapshot import Mark, Snapshot, check_arrays, finite
from fastmom.progress import say
from fastmom.types import Array

WINDOW = 10     # losses whose mean is compared
WORSE = 3       # snapshots that are due in a row
ERRORS = 6      # standard errors of a mean by which it is worse beyond doubt
ADVICE = ("start with a low momentum and raise it; take 0.9 if unsure; lower it when training "
          "diverges, raise it when it is slow")

_guards: WeakKeyDictionary[Optimizer, object] = WeakKeyDictionary()     # the latest of each


class Diverged(RuntimeError):
    """A training has diverged more often than was allowed."""


class Watch:
    """What `DivergenceGuard` does after each step of a loop, whoever runs it."""

    def __init__(self, optimizer: Optimizer | GradientAccumulation | None = None, *,
                 every: int = 100, retries: int = 5, rise: float = 0.1, reach: float = 1.0,
                 also: Sequence[Array] = (), verbose: int = 1) -> None:
        self.every, self.retries = integer("every", every, 1), integer("retries", retries, 0)
        self.rise = number("rise", rise, 0.0, open_low=True)
        self.reach = number("reach", reach, 0.0)
        if isinstance(verbose, bool) or verbose not in (0, 1):
            raise ValueError(f"verbose must be 0 (silent) or 1 (a line per retreat), not "
                             f"{verbose!r}")
        self.verbose, self.also = verbose, check_arrays(also)
        self._optimizer: Optimizer | None = None
        self._batches: GradientAccumulation | None = None
        self._loaded: tuple[float, float, int] | None = None
        self._first, self._best, self._worse = -math.inf, math.inf, 0
        self._reset()
        if optimizer is not None:
            if isinstance(optimizer, GradientAccumulation):
                self._batches, optimizer = optimizer, optimizer.optimizer
            if not isinstance(optimizer, Optimizer):
                raise TypeError(f"optimizer must be an Optimizer or GradientAccumulation, not "
                                f"{optimizer!r}")
            self._begin(optimizer, self.also)

    def _reset(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.diverged: tuple[int | None, int] | None = None
        self._place: tuple[int | None, int] = (None, -1)    # epoch and step, from 0

    def _begin(self, optimizer: Optimizer, also: Sequence[Array]) -> None:
        if self.retries:
            check_lowerable(optimizer)
        self._optimizer, self._copied = optimizer, list(also)
        self._token = _guards[optimizer] = object()
        kind = Snapshot if self.retries else Mark
        self._start, self._good, self._next = (kind(optimizer, also) for _ in range(3))
        self.restart()

    def restart(self) -> None:
        """Take the weights for good as they are now, say after others were loaded.

        Raises
        ------
        Diverged
            If they are not finite and cannot be brought back.
        RuntimeError
            If there is no optimizer.
        """
        if self._hold():
            self._start.copy(self._good)
            self._first, self._best, self._worse = -math.inf, math.inf, 0

    def _hold(self) -> bool:
        """Take the weights for good, but keep the start; return whether they are finite."""
        if not finite(self._checked()) and self._good.place is not None:
            self._retreat("parameters became NaN or infinite", math.nan)
            return False
        self._good.take(-math.inf, self._place)
        self._start_counting()
        return True

    def _start_counting(self) -> None:
        """Count from the good weights, which no step has changed."""
        self._since, self._recent = 0, list[float]()
        self._losses: list[float] = []          # since the last snapshot was due
        self._has_next = False

    @property
    def nbytes(self) -> int:
        """Memory of the copies in bytes; 0 before there is an optimizer."""
        return 0 if self._optimizer is None else 3 * self._good.nbytes

    # The watch ------------------------------------------------------------------------------------

    def watch(self, loss: float) -> bool:
        """Take the loss from which the step that was just done began.

        Returns
        -------
        bool
            False if training has diverged and was brought back.

        Raises
        ------
        Diverged
            If it cannot be brought back any more. The last good weights are restored, but with
            `retries` 0 all stays as it is.
        RuntimeError
            If there is no optimizer, or another guard has taken it over.
        """
        optimizer = self._checked()
        if not self._good.fits():       # its parameters are others, or an EMA was added
            self._begin(optimizer, self._copied)
        if self._place[0] is None:
            self._place = None, self._place[1] + 1
        loss = float(loss)
        if not math.isfinite(loss) and optimizer._options["nonfinite"] == "skip":
            return True         # so is the step
        if (reason := self._alarm(loss)) is None:
            return True
        self._retreat(reason, loss)
        return False

    def _checked(self) -> Optimizer:
        if self._optimizer is None:
            raise RuntimeError("this DivergenceGuard has no optimizer: pass one, or use it as a "
                               "callback")
        if _guards.get(self._optimizer) is not self._token:
            raise RuntimeError("another DivergenceGuard watches this optimizer now: use one")
        return self._optimizer

    def _alarm(self, loss: float) -> str | None:
        """Return what is wrong, in words."""
        if not math.isfinite(loss):
            return f"loss became {loss}"
        if self._since == 0:        # measured at the good weights themselves
            self._good.level = max(loss, self._good.level)
            self._first = max(loss, self._first)
        self._since += 1
        self._recent.append(loss)
        if len(self._recent) < WINDOW and self._since % self.every:
            return None
        mean, level = fmean(self._recent), self._good.level
        self._losses += self._recent
        self._recent.clear()
        if mean - level > self.rise * abs(level) and not self._good.reach() <= self.reach:
            return f"loss rose from {level:.3g} to {mean:.3g}"
        return None if self._since % self.every else self._keep()

    def _keep(self) -> str | None:
        """Take a snapshot; the one before it has stood the test."""
        if not finite(self._checked()):
            return "parameters became NaN or infinite"
        mean = fmean(self._losses)
        error = math.sqrt(fmean((x - mean) ** 2 for x in self._losses) / len(self._losses))
        self._losses.clear()
        self._best = min(mean, self._best)
        if mean > max((self._best + self._first) / 2, self._best + ERRORS * error):
            self._worse += 1        # such weights are not kept
            if self._worse < WORSE:
                return None
            self._good.copy(self._start)        # the harm was done before
            return f"loss crept from {self._best:.3g} to {mean:.3g}"
        if self._has_next:
            self._good, self._next = self._next, self._good
        self._has_next = False      # while it is written
        self._next.take(mean, self._place)
        self._worse, self._has_next = 0, True
        return None

    # The retreat ----------------------------------------------------------------------------------

    def _retreat(self, reason: str, loss: float) -> None:
        """Go back to the good weights, lower the hyper-parameters and say so; or raise."""
        optimizer = self._checked()
        untouched = self._since == 0
        self._good.put_back()
        self._start_counting()
        self._best, self._worse = math.inf, 0
        if self._batches is not None:
            self._batches.drop()
        if untouched or len(self.events) >= self.retries:
            self.diverged = self._place
            raise Diverged(self._failure(reason, untouched))
        lowered = lower(optimizer)
        epoch, step = self._place
        text = f"{self._words(self._place)}: {reason}; back to {self._back()}, {lowered}"
        level = self._good.level
        self.events.append({
            "epoch": None if epoch is None else epoch + 1, "step": step + 1,
            "before": level if math.isfinite(level) else None,
            "loss": loss if math.isfinite(loss) else None, "text": text})
        if self.verbose:
            say(text)

    def _failure(self, reason: str, untouched: bool) -> str:
        if untouched:
            return (f"{self._words(self._place)}: {reason} at weights that were good and that no "
                    f"step has changed since: look at the data and the loss, not at momentum or lr")
        tried = f" after {len(self.events)} retries" if self.events else ""
        return f"{self._words(self._place)}: diverged{tried}: {reason}. Momentum: {ADVICE}"

    def _words(self, place: tuple[int | None, int]) -> str:
        epoch, step = place
        return f"step {step + 1}" if epoch is None else f"epoch {epoch + 1}, step {step + 1}"

    def _back(self) -> str:
        epoch, step = self._good.place
        if step < 0:
            return "the start" if not epoch else f"the start of epoch {epoch + 1}"
        return f"step {step + 1}" if epoch == self._place[0] else self._words((epoch, step))
