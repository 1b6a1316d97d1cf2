"""The hooks, and who calls them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any, Self, TypeAlias

Logs: TypeAlias = dict[str, Any]

HOOKS = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end",
         "on_train_batch_begin", "on_train_batch_end")


class Callback:
    """Base: override the hooks you need. They do nothing here.

    `epoch` and `batch` count from 0. `logs` maps names to figures: at the end of a batch the
    running means of the epoch so far, at the end of an epoch its means, then ``val_...`` and
    ``seconds``. All callbacks of a run get the same dict, in the order of their list, so that one
    can add figures for those after it.

    A hook of a batch costs time at every batch if it is overridden, and none if it is not.

    Attributes
    ----------
    model : Sequential
        The model in training. ``model.stop_training = True`` ends it after this epoch.
    params : dict
        ``"epochs"`` and ``"steps"`` (batches of an epoch), and ``"verbose"``.

    Raises
    ------
    TypeError
        If a subclass defines an ``on_...`` that is none of the hooks: nobody would call it.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> class Target(fm.nn.Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.model.stop_training = logs["loss"] < 0.5
    >>> model = fm.nn.Sequential([fm.nn.Dense(2, activation="softmax", input_shape=(2,))])
    >>> model.compile(fm.SGD(lr=0.5, momentum=0.9))
    >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> len(model.fit(x, y, epochs=100, callbacks=[Target()], verbose=0).epoch) < 100
    True
    """

    model: Any = None
    params: Mapping[str, Any] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        for name in vars(cls):
            if name.startswith("on_"):
                check_hook(cls.__name__, name)

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called once, with the figures of the last epoch, also if training is interrupted."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before the first batch of each epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after each whole epoch, and its evaluation if there is one."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each step."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from here, as data for JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next training go on from such data; a wrong one raises and changes nothing."""
        check_state(state, ())

    def _overrides(self, hook: str) -> bool:
        own = getattr(self, hook)       # of the class or, as in LambdaCallback, of the object
        return getattr(own, "__func__", own) is not getattr(Callback, hook)


def check_hook(owner: str, name: str) -> None:
    if name not in HOOKS:
        raise TypeError(f"{owner}: {name} is no hook; there are {', '.join(HOOKS)}")


def check_state(state: Any, names: Sequence[str]) -> None:
    """Raise unless this is a mapping with just these names."""
    if not isinstance(state, Mapping) or set(state) != set(names):
        raise ValueError(f"state must have {', '.join(names) or 'no names'}, not {state!r}")


def overrides(callback: Callback, hook: str) -> bool:
    """Whether it does anything to call this hook.

    To be asked after `Callback.set_params`: that a progress bar needs no batches where it is not
    shown is only known then.
    """
    return callback._overrides(hook)


def validate(callbacks: Any) -> list[Callback]:
    """Return the callbacks as a list, or raise TypeError naming the entry that is none."""
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a list of Callback objects, not {callbacks!r}")
    for i, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks[{i}] must be a Callback object, not {callback!r}")
    return list(callbacks)


class CallbackList:
    """The callbacks of one training run, to be called as one.

    A context: entering it is the begin of training, leaving it the end, in whatever way. Whoever
    has begun is told of the end, even where another fails to.

    Attributes
    ----------
    wants_batches : bool
        Whether `on_train_batch_end` does anything, so that it needs logs.
    """

    def __init__(self, callbacks: Sequence[Callback], model: Any,
                 params: Mapping[str, Any]) -> None:
        self._callbacks = validate(callbacks)
        self._begun: list[Callback] = []
        self._logs: Logs | None = None
        for callback in self._callbacks:
            callback.set_model(model)
            callback.set_params(params)
        self._batch_begin = self._hooks("on_train_batch_begin")
        self._batch_end = self._hooks("on_train_batch_end")
        self.wants_batches = bool(self._batch_end)

    def _hooks(self, name: str) -> list[Callable[..., None]]:
        return [getattr(callback, name) for callback in self._callbacks
                if overrides(callback, name)]

    def __enter__(self) -> Self:
        try:
            for callback in self._callbacks:
                callback.on_train_begin()
                self._begun.append(callback)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        stack = ExitStack()     # goes on after an error, and chains it to the one there is
        for callback in reversed(self._begun):      # last in, first out
            stack.callback(callback.on_train_end, self._logs)
        stack.__exit__(*error)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._logs = logs
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        for hook in self._batch_begin:
            hook(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        for hook in self._batch_end:
            hook(batch, logs)


class LambdaCallback(Callback):
    """Functions as hooks: ``LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch))``.

    Parameters
    ----------
    **hooks : callable
        By the name of the hook, called with its arguments (epoch or batch, then logs) by position.

    Raises
    ------
    TypeError
        If there is no such hook, or what is given cannot be called.
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, hook in hooks.items():
            check_hook("LambdaCallback", name)
            if not callable(hook):
                raise TypeError(f"{name} must be callable, not {hook!r}")
        vars(self).update(hooks)
