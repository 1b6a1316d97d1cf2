"""The metrics of each epoch."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

from fastmom.nn.callbacks.aliased import Metrics
from fastmom.nn.callbacks.base import Callback, Logs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

class History(Callback):
    """The metrics of each epoch: `Sequential.fit` returns one.

    A copy, pickled or not, holds the numbers without the model.

    Attributes
    ----------
    epoch : list of int
    history : Metrics
        A dict that maps each name to the list of its values, one per epoch.
    seconds : list of float
        Training time of each epoch, without the evaluation.
    optimizer : str
        The model's optimizer, as its repr has it when the training begins.
    dropout : bool
        Whether the model drops units in training.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> model = fm.nn.Sequential([fm.nn.Dense(2, activation="softmax", input_shape=(2,))])
    >>> model.compile(fm.SGD(lr=0.5), metrics=["accuracy"])
    >>> model.fit(np.eye(2), [0, 1], epochs=40, verbose=0)      # doctest: +ELLIPSIS
    <History of 40 epochs: loss 0.05..., accuracy 1>
    """

    adds = ()
    optimizer = ""
    dropout = False

    def __init__(self) -> None:
        self.on_train_begin()

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.optimizer = repr(model.optimizer)
        self.dropout = any(getattr(layer, "rate", 0) for layer in model.layers)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch: list[int] = []
        self.seconds: list[float] = []
        self.history: Metrics[list[Any]] = Metrics()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            if name == "seconds":       # not a metric of the model
                self.seconds.append(value)
            else:
                self.history.setdefault(name, []).append(value)

    def plot(self, **options: Any) -> Figure:
        """Draw the curves: ``fastmom.plot.plot_history(self, **options)``."""
        from fastmom.plot import plot_history
        return plot_history(self, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "model": None, "params": dict(self.params)}

    def __repr__(self) -> str:
        n = len(self.epoch)
        last = ", ".join(f"{name} {values[-1]:.4g}" if isinstance(values[-1], Real)
                         else f"{name} {values[-1]}" for name, values in self.history.items())
        return f"<History of {n} epoch{'s' * (n != 1)}{': ' * bool(last)}{last}>"
