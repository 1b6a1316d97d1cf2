"""The hooks of a training run, and the list that calls them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any, Self, TypeAlias

Logs: TypeAlias = dict[str, Any]

# "acc" is what Keras once called it; programs for either version find it.
ALIASES = {"acc": "accuracy", "accuracy": "acc",
           "val_acc": "val_accuracy", "val_accuracy": "val_acc"}

HOOKS = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end",
         "on_train_batch_begin", "on_train_batch_end")


class Callback:
    """Base: override the hooks you need. They do nothing here.

    `epoch` and `batch` count from 0. `logs` maps names to metrics: at the end of a batch the
    running means of the epoch so far, at the end of an epoch its means, then ``val_...`` and
    ``seconds``. All callbacks of a run get the same dict, in the order of their list, so that one
    can add metrics for those after it.

    A hook of a batch costs time at every batch if it is overridden, and none if it is not.

    Attributes
    ----------
    model : Sequential
        The model in training. ``model.stop_training = True`` ends it after this epoch.
    params : dict
        ``"epochs"`` and ``"steps"`` (batches of an epoch), ``"verbose"``, and ``"metrics"``: the
        names that `logs` has at the end of an epoch.
    needs : sequence of str
        Metrics that it cannot work without: a training that will not have them raises before its
        first epoch.
    adds : sequence of str or None
        Metrics that `on_epoch_end` adds to `logs`. None, the default of a class that overrides
        this hook, stands for any: then those after it may need what nobody knows yet.
    reads_batch_logs : bool, default True
        Whether `on_train_batch_end` reads its `logs`. They are not made if no callback does.

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
    needs: Sequence[str] = ()
    adds: Sequence[str] | None = None
    reads_batch_logs = True

    def __init_subclass__(cls) -> None:
        for name in vars(cls):
            if name.startswith("on_"):
                check_hook(cls.__name__, name)

    def __repr__(self) -> str:
        """Return the call that makes such a callback, without arguments at their defaults."""
        import inspect  # slow to import
        shown = [f"{name}={_plain(value)!r}"
                 for name, parameter in inspect.signature(type(self)).parameters.items()
                 if (value := vars(self).get(name, parameter.default)) is not parameter.default
                 and value != parameter.default]
        return f"{type(self).__name__}({', '.join(shown)})"

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called once, with the metrics of the last epoch, also if training is interrupted."""

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
        """Let the next training go on from such data; wrong data raises and changes nothing."""
        check_state(state, ())

    def _overrides(self, hook: str) -> bool:
        own = getattr(self, hook)       # of the class or, as in LambdaCallback, of the object
        return getattr(own, "__func__", own) is not getattr(Callback, hook)


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def check_hook(owner: str, name: str) -> None:
    """Raise TypeError unless there is such a hook."""
    if name not in HOOKS:
        raise TypeError(f"{owner}: {name} is no hook; there are {', '.join(HOOKS)}")


def check_state(state: Any, names: Sequence[str]) -> None:
    """Raise ValueError unless the state is a mapping with just these names."""
    if not isinstance(state, Mapping) or set(state) != set(names):
        raise ValueError(f"state must have {', '.join(names) or 'no names'}, not {state!r}")


def overrides(callback: Callback, hook: str) -> bool:
    """Return whether the callback overrides this hook.

    Ask after `Callback.set_params`: only then does a progress bar know whether it is shown, and so
    whether it needs the batches.
    """
    return callback._overrides(hook)


def validate(callbacks: Any) -> list[Callback]:
    """Return the callbacks as a list.

    Raises
    ------
    TypeError
        Naming the entry that is no callback.
    """
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a list of Callback objects, not {callbacks!r}")
    for i, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks[{i}] must be a Callback object, not {callback!r}")
    return list(callbacks)


class CallbackList:
    """Call the callbacks of one training run as one.

    A context: entering it begins the training, leaving it ends it, also by an exception. Every
    callback that has begun is told of the end, even where another one raises.

    Attributes
    ----------
    wants_batches : bool
        Whether any callback overrides `on_train_batch_end`.
    wants_batch_logs : bool
        Whether any of those reads the logs.

    Raises
    ------
    TypeError
        If an entry is no callback.
    ValueError
        If one needs a metric that this training will not have.
    """

    def __init__(self, callbacks: Sequence[Callback], model: Any,
                 params: Mapping[str, Any]) -> None:
        self._callbacks = validate(callbacks)
        self._begun: list[Callback] = []
        self._logs: Logs | None = None
        for callback in self._callbacks:
            callback.set_model(model)
            callback.set_params(params)
        self._check_needs(params.get("metrics"))
        self._batch_begin = self._hooks("on_train_batch_begin")
        self._batch_end = self._hooks("on_train_batch_end")
        self.wants_batches = bool(self._batch_end)
        self.wants_batch_logs = any(callback.reads_batch_logs for callback in self._callbacks
                                    if overrides(callback, "on_train_batch_end"))

    def _check_needs(self, metrics: Sequence[str] | None) -> None:
        """Raise for a callback whose metrics neither `fit` nor those before it will provide."""
        known = None if metrics is None else list(metrics)
        for callback in self._callbacks:
            if known is None:       # anything may be there
                return
            for name in callback.needs:
                if name not in known and ALIASES.get(name) not in known:
                    hint = ("; val_ metrics need validation_data or validation_split"
                            if name.startswith("val_") and "val_loss" not in known else "")
                    raise ValueError(f"{callback!r} needs the metric {name!r}, and this training "
                                     f"has {', '.join(known)}{hint}")
            if overrides(callback, "on_epoch_end"):
                known = None if callback.adds is None else [*known, *callback.adds]

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
        self._given = hooks
        vars(self).update(hooks)

    def __repr__(self) -> str:
        given = (f"{name}={getattr(hook, '__name__', repr(hook))}"
                 for name, hook in self._given.items())
        return f"LambdaCallback({', '.join(given)})"
