"""The end of a training that diverges, or, with ``--guard``, its way back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastmom import nn
from fastmom.cli.options import option_of
from fastmom.nn.callbacks.base import Logs
from fastmom.optim.lowering import check_lowerable


class Guard(nn.DivergenceGuard):
    """Each epoch begins with a snapshot of its own, as a training that is resumed there does."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self.restart()


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
