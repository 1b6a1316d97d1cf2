"""Hyper-parameters that change from epoch to epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from fastmom.checks import number, reject_unknown
from fastmom.nn.callbacks.base import Callback, Logs, check_state
from fastmom.nn.callbacks.monitor import modes_of, monitored
from fastmom.optim import Optimizer
from fastmom.optim.hyper import Number
from fastmom.optim.schedule_base import Schedule
from fastmom.optim.schedules import ReduceOnPlateau


class Scheduler(Callback):
    """Set a hyper-parameter of the optimizer, in all its groups, at the begin of each epoch.

    The value joins the metrics of the epoch under the same name, so that the history and the
    callbacks after this one have it. A schedule by steps, not epochs, belongs to the optimizer
    itself: ``SGD(lr=Cosine(...))``.

    Parameters
    ----------
    name : str
        Of a numeric hyper-parameter: ``"lr"``, ``"momentum"``, ``"weight_decay"``, ...
    schedule : Schedule or callable
        Of those in `fastmom.optim.schedules`, or any function of the epoch (from 0), or of the
        epoch and the current value if it requires two arguments.
    verbose : {0, 1}
        1 prints the value at the begin of each epoch.
    monitor : str, optional
        The metric that a `ReduceOnPlateau`, and no other schedule, observes at the end of each
        epoch, by default ``"val_loss"``. Its observations are kept from training to training.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when training begins, if the optimizer has no such hyper-parameter
        or one with a schedule of its own, or the training will not have the metric to monitor; at
        an epoch, if a value is not allowed.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> model = fm.nn.Sequential([fm.nn.Dense(2, activation="softmax", input_shape=(2,))])
    >>> model.compile("sgd", lr=0.1, momentum=0.9)
    >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> halve = fm.nn.Scheduler("lr", lambda epoch, current: current / 2)
    >>> model.fit(x, y, epochs=2, callbacks=[halve], verbose=0).history["lr"]
    [0.05, 0.025]
    """

    def __init__(self, name: str, schedule: Callable[..., float], verbose: int = 0,
                 monitor: str | None = None) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be that of a hyper-parameter, not {name!r}")
        if not callable(schedule):
            raise TypeError(f"schedule must be a Schedule or callable, not {schedule!r}")
        if isinstance(verbose, bool) or verbose not in (0, 1):
            raise ValueError(f"verbose must be 0 (silent) or 1 (one line), not {verbose!r}")
        self.name, self.schedule, self.verbose = name, schedule, verbose
        self.monitor = self._check_monitor(monitor)
        self.needs = () if self.monitor is None else (self.monitor,)
        self._takes_current = _required(schedule) == 2
        self._values: list[float] = []

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.adds = (self.name,) if len(self._places()) == 1 else None

    def _check_monitor(self, monitor: Any) -> str | None:
        if not isinstance(self.schedule, ReduceOnPlateau):
            if monitor is not None:
                raise ValueError(f"monitor={monitor!r} needs a ReduceOnPlateau, not "
                                 f"{self.schedule!r}")
            return None
        if monitor is None:
            monitor = "val_loss"
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a metric or None, not {monitor!r}")
        if self.schedule.mode not in (modes_of(monitor) or [self.schedule.mode]):
            raise ValueError(f"monitor={monitor!r} contradicts mode={self.schedule.mode!r} of the "
                             f"ReduceOnPlateau")
        return monitor

    def on_train_begin(self, logs: Logs | None = None) -> None:
        for values in self._places():
            if callable(values[self.name]):
                raise ValueError(f"{self.name} has a schedule of its own already: "
                                 f"{values[self.name]!r}")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        places = self._places()
        self._values = [self._value(epoch, values[self.name]) for values in places]
        for values, value in zip(places, self._values, strict=True):
            values[self.name] = value
        if self.verbose:
            shown = ", ".join(f"{value:.6g}" for value in dict.fromkeys(self._values))
            print(f"epoch {epoch + 1}: {self.name} {shown}", flush=True)

    def _places(self) -> Sequence[MutableMapping[str, Any]]:
        """Return the mappings of the optimizer that hold this hyper-parameter."""
        optimizer: Optimizer = self.model.optimizer
        hypers = {**optimizer._group_hypers, **optimizer._shared_hypers}
        numeric = [name for name, hyper in hypers.items()
                   if isinstance(hyper, Number) and not hyper.at_binding]
        reject_unknown(f"{type(self).__name__}: {type(optimizer).__name__}", [self.name], numeric)
        return [optimizer._options] if hypers[self.name].shared else optimizer.param_groups

    def _value(self, epoch: int, current: Any) -> float:
        value = self.schedule(epoch, current) if self._takes_current else self.schedule(epoch)
        return number(f"{self.name} at epoch {epoch}", value)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        if len(set(self._values)) == 1:
            logs[self.name] = self._values[0]
        else:
            logs.update({f"{self.name}_{i}": value for i, value in enumerate(self._values)})
        if isinstance(self.schedule, ReduceOnPlateau) and self.monitor is not None:
            self.schedule.observe(monitored(self.monitor, logs))

    def state_dict(self) -> dict[str, Any]:
        """Return what a `ReduceOnPlateau` has observed; other schedules have no state."""
        if isinstance(self.schedule, ReduceOnPlateau):
            return {"plateau": self.schedule.state_dict()}
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, list(self.state_dict()))
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.load_state_dict(state["plateau"])


class LearningRateScheduler(Scheduler):
    """`Scheduler` of the learning rate, ``lr``."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0,
                 monitor: str | None = None) -> None:
        super().__init__("lr", schedule, verbose, monitor)


class MomentumScheduler(Scheduler):
    """`Scheduler` of the momentum, ``momentum``."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0,
                 monitor: str | None = None) -> None:
        super().__init__("momentum", schedule, verbose, monitor)


def _required(schedule: Callable[..., float]) -> int:
    """Return how many arguments the schedule requires by position: 1 or 2."""
    if isinstance(schedule, Schedule):
        return 1
    try:
        signature = inspect.signature(schedule)
    except ValueError:      # some functions in C have none
        return 1
    count = max(1, sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in signature.parameters.values()))
    try:
        signature.bind(*range(count))
    except TypeError:       # it takes none, or needs a keyword
        count = 3
    if count > 2:
        raise TypeError(f"schedule must take (epoch) or (epoch, current), not {signature}")
    return count
