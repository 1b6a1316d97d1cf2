"""End a training that no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmom.checks import integer, number
from fastmom.nn.callbacks.base import Callback, Logs, check_state
from fastmom.nn.callbacks.monitor import Monitor, number_or_none


class EarlyStopping(Callback):
    """End training when a metric has stopped improving, and take the best weights back.

    As in Keras, except that `restore_best_weights` is the default and that NaN and infinite values
    never improve.

    Parameters
    ----------
    monitor : str, default "val_loss"
    min_delta : float, default 0
        To improve, the metric must beat the best by more than this, >= 0.
    patience : int, default 0
        Stop after so many epochs in a row without improvement; 0 stops, like 1, after the first.
    mode : {"auto", "min", "max"}
        Whether a lower or a higher value is better. ``"auto"`` tells by the name.
    baseline : float, optional
        Only an improvement that also beats this starts the patience anew.
    restore_best_weights : bool, default True
        When training ends, for whatever reason, go back to the weights of the best epoch. The state
        of the optimizer stays as it is.
    start_from_epoch : int, default 0
        Do not watch the epochs before this one.

    Attributes
    ----------
    best : float or None
        The best value of this training, or of the last.
    best_epoch : int or None
        Its epoch, from 0.
    stopped_epoch : int
        The epoch after which it ended training; 0 if it did not.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when training begins, if it will have no metric of that name.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> model = fm.nn.Sequential([fm.nn.Dense(2, activation="softmax", input_shape=(2,))])
    >>> model.compile("sgd", lr=0.0)
    >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> stopping = fm.nn.EarlyStopping(monitor="loss", patience=3)
    >>> model.fit(x, y, epochs=10, callbacks=[stopping], verbose=0).epoch
    [0, 1, 2, 3]
    >>> stopping.best_epoch, stopping.stopped_epoch
    (0, 3)
    """

    adds = ()

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0,
                 mode: str = "auto", baseline: float | None = None,
                 restore_best_weights: bool = True, start_from_epoch: int = 0) -> None:
        if not isinstance(restore_best_weights, bool):
            raise TypeError(f"restore_best_weights must be True or False, not "
                            f"{restore_best_weights!r}")
        self._watched = Monitor(monitor, mode)
        self.monitor, self.mode, self.needs = monitor, mode, (monitor,)
        self.min_delta = number("min_delta", min_delta, 0.0)
        self.patience = integer("patience", patience, 0)
        self.baseline = number_or_none("baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = integer("start_from_epoch", start_from_epoch, 0)
        self._loaded = False
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.wait = self.stopped_epoch = 0
        self._weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if not self._loaded:
            self._reset()
        self._loaded = False

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._watched(logs)
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self._watched.improves(value, self.best, self.min_delta):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._weights = self.model.get_weights()
            if self._watched.improves(value, self.baseline, self.min_delta):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
            self._weights = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, its epoch and the counters, as data for JSON.

        Not the best weights: a training that goes on from here without improving on the best ends
        with its last weights.
        """
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait,
                "stopped_epoch": self.stopped_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, list(self.state_dict()))
        best, epoch = number_or_none("state['best']", state["best"]), state["best_epoch"]
        epoch = None if epoch is None else integer("state['best_epoch']", epoch, 0)
        wait, stopped = (integer(f"state[{name!r}]", state[name], 0)
                         for name in ("wait", "stopped_epoch"))
        self._reset()
        self.best, self.best_epoch, self.wait, self.stopped_epoch = best, epoch, wait, stopped
        self._loaded = True
