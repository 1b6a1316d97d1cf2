"""Lower the learning rate when training no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmom.checks import integer, number
from fastmom.nn.callbacks.base import Callback, Logs, check_state
from fastmom.nn.callbacks.monitor import Monitor, number_or_none


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` when a metric has stopped improving.

    As in Keras, except that NaN and infinite values never improve. The learning rate of the epoch
    joins its metrics as ``lr``. `fastmom.optim.schedules.ReduceOnPlateau` does the same for any
    hyper-parameter, as a schedule.

    Parameters
    ----------
    monitor : str, default "val_loss"
    factor : float, default 0.1
        >= 0 and below 1.
    patience : int, default 10
        Reduce after so many epochs in a row without improvement; 0 reduces, like 1, after the
        first.
    verbose : {0, 1}
        1 prints a line for each reduction.
    mode : {"auto", "min", "max"}
        Whether a lower or a higher value is better. ``"auto"`` tells by the name.
    min_delta : float, default 1e-4
        To improve, the metric must beat the best by more than this, >= 0.
    cooldown : int, default 0
        So many epochs after a reduction do not count as without improvement.
    min_lr : float, default 0
        Lowest learning rate.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when training begins, if it will have no metric of that name or
        the optimizer's lr is a schedule.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> model = fm.nn.Sequential([fm.nn.Dense(2, activation="softmax", input_shape=(2,))])
    >>> model.compile("sgd", lr=1e-9)
    >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> reduce = fm.nn.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=2)
    >>> model.fit(x, y, epochs=5, callbacks=[reduce], verbose=0).history["lr"]
    [1e-09, 1e-09, 1e-09, 5e-10, 5e-10]
    """

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10,
                 verbose: int = 0, mode: str = "auto", min_delta: float = 1e-4, cooldown: int = 0,
                 min_lr: float = 0.0) -> None:
        self._watched = Monitor(monitor, mode)
        self.monitor, self.mode, self.needs = monitor, mode, (monitor,)
        self.factor = number("factor", factor, 0.0, 1.0, open_high=True)
        self.patience = integer("patience", patience, 0)
        if isinstance(verbose, bool) or verbose not in (0, 1):
            raise ValueError(f"verbose must be 0 (silent) or 1 (one line), not {verbose!r}")
        self.verbose = verbose
        self.min_delta = number("min_delta", min_delta, 0.0)
        self.cooldown = integer("cooldown", cooldown, 0)
        self.min_lr = number("min_lr", min_lr, 0.0)
        self._loaded = False
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.wait = self.cooling = 0

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.adds = ("lr",) if len(model.optimizer.param_groups) == 1 else None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        for group in self.model.optimizer.param_groups:
            if callable(group["lr"]):
                raise ValueError(f"lr has a schedule of its own already: {group['lr']!r}")
        if not self._loaded:
            self._reset()
        self._loaded = False

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        groups = self.model.optimizer.param_groups
        for i, group in enumerate(groups):
            logs["lr" if len(groups) == 1 else f"lr_{i}"] = group["lr"]
        value = self._watched(logs)
        if self.cooling:
            self.cooling, self.wait = self.cooling - 1, 0
        if self._watched.improves(value, self.best, self.min_delta):
            self.best, self.wait = value, 0
        elif not self.cooling:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch, groups)

    def _reduce(self, epoch: int, groups: Any) -> None:
        for group in groups:
            if group["lr"] > self.min_lr:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)
        self.cooling, self.wait = self.cooldown, 0
        if self.verbose:
            shown = ", ".join(f"{group['lr']:.6g}" for group in groups)
            print(f"epoch {epoch + 1}: lr reduced to {shown}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the counters, as data for JSON; lr is the optimizer's."""
        return {"best": self.best, "wait": self.wait, "cooling": self.cooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, list(self.state_dict()))
        best = number_or_none("state['best']", state["best"])
        wait, cooling = (integer(f"state[{name!r}]", state[name], 0)
                         for name in ("wait", "cooling"))
        self.best, self.wait, self.cooling, self._loaded = best, wait, cooling, True
