"""Bring a training that diverges back to where it was good, and go on with shorter steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastmom.checks import integer
from fastmom.nn.callbacks.base import Callback, Logs, check_state
from fastmom.nn.callbacks.monitor import number_or_none
from fastmom.nn.callbacks.watch import Diverged as Diverged
from fastmom.nn.callbacks.watch import Watch


class DivergenceGuard(Watch, Callback):
    """Restore the last good weights when training diverges, and go on with shorter steps.

    A callback of `Sequential.fit`, or, with an `optimizer`, an object for a loop of your own, which
    calls `watch` after each step. Training has diverged

    - at once, when a loss is NaN or infinite;
    - when the mean of ten losses is more than ``1 + rise`` times the loss at the last good weights,
      and the parameters are further from them than `reach` times their own length: a noisy loss
      alone raises no alarm, nor do long steps that lower it;
    - when the mean loss between two snapshots, three times in a row, is nearer to that at the
      start than to the lowest such mean, and above this by more than noise explains: what had
      been learned is lost, and training goes back to its start;
    - when parameters are not finite where a snapshot is due.

    Every `every` steps all that a step changes is copied: parameters, state, masters, averages of
    an `EMA` in the step, counters. Weights are good once as many steps more have passed without
    alarm; so a retreat undoes at most ``2 * every`` steps, but for one to the start. Three copies
    are held, of `nbytes` in all, and one is written every `every` steps.

    Each retreat makes the steps ten times shorter, in each group of parameters: momentum m (beta1,
    or all momenta) becomes ``1 - 10 (1 - m)``, at least 0, as in 0.99 → 0.9 → 0, since a step of
    momentum is ``1 / (1 - m)`` times as long; `lr` is divided by what is left of the ten. With
    dampening, which needs a momentum, `lr` alone is lowered. Whoever sets them anew later, such as
    a `Scheduler`, undoes that.

    Parameters
    ----------
    optimizer : Optimizer or GradientAccumulation, optional
        With parameters, for a loop of your own. As a callback it takes the model's.
    every : int, default 100
    retries : int, default 5
        So many retreats; the next alarm restores the weights and raises. 0 raises at the first and
        takes no copies: then the weights stay as they are, and the difference of their lengths
        stands for the distance, which is never shorter.
    rise : float, default 0.1
        Above 0.
    reach : float, default 1
        At least 0.
    also : list of ndarray
        C-contiguous arrays to copy and restore besides, such as moving averages. A model's own
        are known.
    verbose : {0, 1}
        1 says in words what each retreat does.

    Attributes
    ----------
    events : list of dict
        Of each retreat: ``"epoch"`` (None in a loop of your own) and ``"step"``, from 1, the losses
        ``"before"`` and ``"loss"``, None if not finite, and the ``"text"`` that is printed.
    diverged : tuple or None
        Epoch and step, from 0, at which it gave up.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, the optimizer has no `lr`, or `lr` or a momentum is a schedule,
        which cannot be lowered.
    Diverged
        A RuntimeError: after so many retries, or if a loss is not finite at good weights, which
        points to the data.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> w, curvature = np.ones(2, np.float32), np.array([1.0, 10.0], np.float32)
    >>> opt = fm.SGD([w], lr=0.5, momentum=0.99)
    >>> guard = fm.DivergenceGuard(opt)
    >>> for step in range(300):
    ...     loss, gradient = float(curvature @ w**2) / 2, curvature * w
    ...     _ = opt.step([gradient])
    ...     _ = guard.watch(loss)
    step 10: loss rose from 5.5 to 5.61e+07; back to the start, momentum 0.99 → 0.9
    step 20: loss rose from 5.5 to 1.24e+08; back to the start, momentum 0.9 → 0
    step 30: loss rose from 5.5 to 3.67e+10; back to the start, lr 0.5 → 0.05
    >>> bool(np.abs(w).max() < 1e-5)
    True
    """

    adds = ()
    reads_batch_logs = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            self._reset()
        params = {id(p) for p in self.model.params}
        moving = [w for w in self.model.weights if id(w) not in params]
        self._begin(self.model.optimizer, [*self.also, *moving])
        if loaded is not None:
            self._first, self._best, self._worse = loaded

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._place = epoch, -1

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._place = self._place[0], batch
        self.watch(self.model.batch_losses[-1])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Leave the steps whose loss was not finite out of the epoch's mean."""
        if logs is not None and not math.isfinite(logs["loss"]):
            kept = [loss for loss in self.model.batch_losses if math.isfinite(loss)]
            logs["loss"] = sum(kept) / len(kept) if kept else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Return the events and the losses to compare with, as data for JSON.

        What was lowered is the optimizer's.
        """
        first, best = (x if math.isfinite(x) else None for x in (self._first, self._best))
        return {"events": [dict(event) for event in self.events], "first": first, "best": best,
                "worse": self._worse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count the retreats of an earlier training; the next can go back to its own start."""
        check_state(state, list(self.state_dict()))
        first, best = (number_or_none(f"state[{name!r}]", state[name]) for name in
                       ("first", "best"))
        worse, events = integer("state['worse']", state["worse"], 0), state["events"]
        if not (isinstance(events, list) and all(
                isinstance(e, Mapping) and set(e) == {"epoch", "step", "before", "loss", "text"}
                for e in events)):
            raise ValueError(f"state['events'] must be a list of retreats, not {events!r}")
        self._reset()
        self.events = [dict(event) for event in events]
        self._loaded = (-math.inf if first is None else first, math.inf if best is None else best,
                        worse)
