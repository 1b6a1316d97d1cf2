"""End a training whose loss has blown up."""

from __future__ import annotations

import math

from fastmom.checks import number
from fastmom.nn.callbacks.base import Callback, Logs


class TerminateOnNaN(Callback):
    """End training at the first step whose loss is NaN, infinite or has exploded.

    As in Keras, which looks for NaN and infinity alone. A loss has exploded when it is more than
    `limit` times as high as the first one above 0 of this training. The epoch is not whole then:
    it has no metrics, and `on_epoch_end` is not called, so that nothing is saved of it.

    Parameters
    ----------
    limit : float, default 1e6
        Above 1; ``float("inf")`` leaves only NaN and infinity.
    verbose : {0, 1}
        1 prints the epoch and the step, counted from 1, once training has ended.

    Attributes
    ----------
    diverged : tuple of int, or None
        Epoch and step, from 0, at which this training, or the last, has diverged.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> model = fm.nn.Sequential([fm.nn.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", lr=30.0)
    >>> x = np.ones((320, 1), np.float32)
    >>> history = model.fit(x, x, epochs=9, callbacks=[fm.nn.TerminateOnNaN()], verbose=0)
    diverged at epoch 1, step 3: lower momentum or lr
    """

    adds = ()
    reads_batch_logs = False

    def __init__(self, limit: float = 1e6, verbose: int = 1) -> None:
        if isinstance(verbose, bool) or verbose not in (0, 1):
            raise ValueError(f"verbose must be 0 (silent) or 1 (one line), not {verbose!r}")
        self.verbose = verbose
        self.limit = (math.inf if isinstance(limit, float) and limit == math.inf else
                      number("limit", limit, 1.0, open_low=True))
        self._reset()

    def _reset(self) -> None:
        self.diverged: tuple[int, int] | None = None
        self._epoch, self._most = 0, math.inf

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = self.model.batch_losses[-1]
        if loss > 0 and self._most == math.inf:
            self._most = self.limit * loss
        if not loss <= self._most or loss == math.inf:      # NaN compares false
            self.diverged = self._epoch, batch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.diverged is not None and self.verbose:
            # only now is no progress bar in the way
            epoch, step = self.diverged
            print(f"diverged at epoch {epoch + 1}, step {step + 1}: lower momentum or lr",
                  flush=True)
