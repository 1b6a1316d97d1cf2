"""The end of a training that diverges, or, with ``--guard``, its way back."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from fastmom import nn
from fastmom.cli.options import option_of
from fastmom.nn.callbacks.base import Logs
from fastmom.optim.lowering import check_lowerable
from fastmom.optim.snapshot import Snapshot


class Guard(nn.DivergenceGuard):
    """Each epoch begins with a snapshot of its own, as a training that is resumed there does."""

    origin: Snapshot | None = None      # the start of a training that is resumed

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        if self.origin is not None:
            self._start.copy(self.origin)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._hold()

    def begin_with(self, model: nn.Sequential) -> None:
        """Go back to where this model is, which has not been trained, if all is lost."""
        assert model.optimizer is not None
        self.origin = Snapshot(model.optimizer, ())
        self.origin.take(-math.inf, (0, -1))


def check_guard(optimizer: Any, observed: Collection[str]) -> None:
    """Raise ValueError if a hyper-parameter that ``--guard`` lowers is a schedule."""
    if observed:
        raise ValueError(f"--guard lowers numbers: it does not go with "
                         f"{option_of(min(observed))}-schedule")
    try:
        check_lowerable(optimizer)
    except ValueError as error:
        raise ValueError(f"--guard: {error}") from None


def tell(place: tuple[int | None, int], error: nn.Diverged, guarded: bool) -> None:
    """Print where a training has diverged, and what to do."""
    epoch, step = place
    print(f"diverged at epoch {(epoch or 0) + 1}, step {step + 1}: lower momentum or lr\n{error}"
          f"{'' if guarded else '; --guard lowers both by itself'}")
