"""The model that users train: `Sequential`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

from fastmom.checks import flag, integer
from fastmom.nn import saving
from fastmom.nn.callbacks import Callback, CallbackList, History, Progress, metrics_line, validate
from fastmom.nn.checked import check_data, check_validation, weighted
from fastmom.nn.compiling import make_task, restored, stored
from fastmom.nn.layer_base import Layer
from fastmom.nn.loop import Task, Team, Training
from fastmom.nn.losses import Loss
from fastmom.nn.network import EVALUATION_BATCH, Network, check_verbose
from fastmom.nn.passes import Pass, Passes
from fastmom.nn.stack import Input
from fastmom.optim import Optimizer


class Sequential(Network):
    """Layers one after the other, trained by gradient descent.

    As Keras's class of this name. Arrays are never changed but for the model's own weights, and
    every buffer is made once: a training step allocates nothing.

    Any number of threads may predict and evaluate at a time. What changes the model (`fit`,
    `train_on_batch`, `compile`, `add`, `set_weights`, `load_weights`) needs it for itself, and
    raises RuntimeError while another thread uses it; callbacks may predict and evaluate.
    `copy.deepcopy` and pickle make a model that goes on training with the same bits.

    Parameters
    ----------
    layers : list of Layer, optional
        More can be appended with `add`. An `Input` before the first layer, or its ``input_shape``,
        says the samples' shape, or else the first data does.
    seed : int, default 0
        Of the weights, the dropout and the order of the samples.
    dtype : {"float32", "float64"}

    Attributes
    ----------
    epoch : int
        Whole epochs trained.
    stop_training : bool
        Set by a callback: end after this step or epoch.
    batch_losses : list of float
        The mean loss of each step of `fit`'s latest epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong or a layer does not fit the one before.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> model = fm.nn.Sequential([
    ...     fm.nn.Flatten(input_shape=(28, 28)), fm.nn.Dense(128, activation="relu"),
    ...     fm.nn.Dropout(0.2), fm.nn.Dense(10, activation="softmax")])
    >>> model.compile(fm.SGD(lr=0.01, decay=1e-6, momentum=0.9, nesterov=True),
    ...               loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> x, y = np.zeros((64, 28, 28)), np.zeros(64, np.int64)
    >>> history = model.fit(x, y, epochs=2, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    """

    settable: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "epoch": partial(integer, low=0), "stop_training": flag,
        "batch_losses": lambda name, value: value}
    epoch = 0
    stop_training = False
    batch_losses: Sequence[float] = ()
    _task: Task | None = None
    _team = Team()

    def __init__(self, layers: Iterable[Layer | Input] = (), *, seed: int = 0,
                 dtype: str = "float32") -> None:
        super().__init__(layers, seed, dtype)

    def add(self, layer: Layer | Input) -> None:
        """Append a layer; the model has to be compiled again.

        Raises
        ------
        TypeError, ValueError
            If it is no layer, is in use already or does not fit the layer before. The model is as
            before then.
        """
        with self._guard.change("add"):
            self._stack.add(layer)
            self._set_task(None)

    def _set_task(self, task: Task | None) -> None:
        self._task, loss = task, None if task is None else task.loss
        self._passes = Passes(self._stack, loss)
        self._own_pass = Pass(self._stack, loss, training=True)
        unbound = task is not None and self._stack.input_shape is None
        self._stack.bind = task.optimizer.bind if task is not None and unbound else None

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer, or None before `compile`."""
        return None if self._task is None else self._task.optimizer

    @property
    def loss(self) -> Loss:
        """The loss, after `compile`."""
        return self._compiled().loss

    @property
    def metrics(self) -> list[Any]:
        """The metrics as they were given to `compile`."""
        return [] if self._task is None else list(self._task.metrics)

    def _compiled(self) -> Task:
        if self._task is None:
            raise RuntimeError("compile the model first")
        return self._task

    # Training -------------------------------------------------------------------------------------

    def compile(self, optimizer: Optimizer | str = "sgd", loss: Loss | str | None = None,
                metrics: Sequence[Any] | str | None = None, **hyper: Any) -> None:
        """Choose optimizer and loss; a model that is compiled again keeps its weights.

        Parameters
        ----------
        optimizer : Optimizer or str
            An optimizer without params, which is bound to this model's, or its name in lower case;
            ``"momentum"`` is `SGD` with a momentum of 0.9, the one to take when unsure. One that
            has `params` of this model already, all and in their order, may have them in groups.
        loss : str or Loss, optional
            "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy",
            "mean_squared_error" ("mse"), "mean_absolute_error" ("mae") or "huber". By default what
            fits the last activation: the first for softmax, binary cross-entropy for sigmoid, and
            else the mean squared error.
        metrics : list or str, optional
            Names such as "accuracy", or functions: see `fastmom.nn.metrics.get_metric`.
        **hyper
            Hyper-parameters for an optimizer given by name, e.g. ``momentum=0.9``.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or loss, metrics and the last layer do not fit together.
        RuntimeError
            If the optimizer is bound to other arrays, or another thread uses the model.
        """
        with self._guard.change("compile"):
            self._set_task(make_task(self._stack, optimizer, loss, metrics, hyper))

    def fit(self, x: Any, y: Any, batch_size: int | None = None, epochs: int = 1,
            verbose: bool | int | str = "auto", callbacks: Sequence[Callback] | None = None,
            validation_split: float = 0.0,
            validation_data: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
            shuffle: bool = True, class_weight: dict[int, float] | None = None,
            sample_weight: Any = None, initial_epoch: int = 0) -> History:
        """Train until the model has seen the samples so many times.

        Parameters
        ----------
        x : array-like of shape (samples, *input_shape)
            An array, nested lists or a DataFrame of real numbers, all finite; converted to the
            model's dtype batch by batch.
        y : array-like
            Targets as the loss takes them: an integer per sample, or numbers as the output's shape.
        batch_size : int, default 32
            The last batch of an epoch holds what is left.
        epochs, initial_epoch : int
            Numbers of the epoch to end before and to start with: ``epochs - initial_epoch`` are
            trained.
        verbose : {"auto", 0, 1, 2}
            0 prints nothing, 2 a line per epoch, 1 also a progress bar where the output is a
            terminal; "auto" is 1 if tqdm is installed, else 2. True is 1.
        callbacks : list of Callback, optional
        validation_split : float
            Share of the samples, the last ones, that are held out and evaluated after each epoch.
        validation_data : (x, y) or (x, y, sample_weight), or dict of str to such, optional
            Samples of their own, evaluated after each epoch: their metrics are ``val_loss`` and so
            on; those of ``{"test": (x, y)}`` are ``test_loss`` and so on.
        shuffle : bool, default True
            Take the samples in a new random order each epoch.
        class_weight : dict of int to float, optional
            Weights of samples by their class, 1 for classes it does not name; for training alone.
        sample_weight : array-like of shape (samples,), optional
            Weights >= 0 of the samples in the loss, not in the metrics, as in Keras.

        Returns
        -------
        History
            ``history.history`` has, for each epoch, the mean loss and metrics over its batches, and
            those of the validation.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong. Nothing has changed then, but that a model that had no weights
            may have them.
        RuntimeError
            If another thread uses the model.
        KeyboardInterrupt
            After Ctrl-C, once the callbacks were told; the model is as after the last whole step.

        Notes
        -----
        Products are fastmom's own, on its threads. NumPy's BLAS is left with those of your own
        layers, of `Muon`, and of all layers on a processor without fused multiply-adds or where
        fastmom was built by a compiler other than GCC and Clang. Small ones gain little from
        BLAS's threads, which can take many times as long where another process wants the cores:
        ``threadpoolctl.threadpool_limits(1, user_api="blas")``.
        """
        size = 32 if batch_size is None else integer("batch_size", batch_size, 1)
        epochs, first = integer("epochs", epochs, 1), integer("initial_epoch", initial_epoch, 0)
        if first >= epochs:
            raise ValueError(f"initial_epoch must be below epochs={epochs}, not {initial_epoch}")
        shuffle, verbose = flag("shuffle", shuffle), check_verbose(verbose)
        chosen = [*validate([] if callbacks is None else callbacks), Progress(verbose=verbose)]
        with self._guard.change("fit"):
            stack, task, history = self._stack, self._compiled(), History()
            data, evaluated = check_validation(
                stack, task, check_data(stack, task, x, y, sample_weight), validation_split,
                validation_data)
            training = Training(task, self._own_pass, weighted(stack, task, data, class_weight),
                                size, self._team)
            run = CallbackList([*chosen, history], self, {
                "epochs": epochs, "steps": len(training.batches), "verbose": verbose,
                "metrics": [*task.names, *(f"{which}_{name}" for which in evaluated
                                           for name in task.names), "seconds"]})
            training.run(self, range(first, epochs), self._order if shuffle else None, lambda: {
                f"{which}_{name}": value for which, samples in evaluated.items() for name, value
                in task.evaluate(self._passes, samples, EVALUATION_BATCH).items()}, run)
        return history

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None,
                       class_weight: dict[int, float] | None = None,
                       return_dict: bool = False) -> Any:
        """Do one step on one batch; return its loss and metrics before the step, as `evaluate`."""
        return_dict = flag("return_dict", return_dict)
        with self._guard.change("train_on_batch"):
            stack, task = self._stack, self._compiled()
            data = weighted(stack, task, check_data(stack, task, x, y, sample_weight), class_weight)
            training = Training(task, self._own_pass, data, len(data[0]), Team())
            training.begin()
            (_, *batch), = training.batches.in_order()
            logs = task.logs(training.step(*batch), len(data[0]))
        return logs if return_dict else _as_keras(logs)

    # Evaluation -----------------------------------------------------------------------------------

    def evaluate(self, x: Any, y: Any, batch_size: int | None = None,
                 verbose: bool | int | str = "auto", sample_weight: Any = None, *,
                 return_dict: bool = False) -> Any:
        """Return mean loss and metrics, without dropout.

        Parameters
        ----------
        x, y, sample_weight
            As for `fit`.
        batch_size : int, optional
            Samples at a time: by default 1000.
        verbose : {"auto", 0, 1, 2}
            0 prints nothing, all others one line.
        return_dict : bool, default False

        Returns
        -------
        float, list of float or dict
            The loss, or a list of loss and metrics if there are any; or all by name.
        """
        verbose, return_dict = check_verbose(verbose), flag("return_dict", return_dict)
        size = EVALUATION_BATCH if batch_size is None else integer("batch_size", batch_size, 1)
        with self._guard.use:
            task = self._compiled()
            data = check_data(self._stack, task, x, y, sample_weight)
            logs = task.evaluate(self._passes, data, size)
        if verbose:
            print(metrics_line(logs))
        return logs if return_dict else _as_keras(logs)

    # Files and copies -----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], extra: Any = None) -> None:
        """Write layers, weights, optimizer and random state: see `fastmom.nn.saving.save`."""
        with self._guard.use:
            saving.save(path, self._stack, self._task, self._order, seed=self.seed,
                        epoch=self.epoch, extra=extra)

    @saving.on_class
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Make a model from a file that `save` wrote: see `fastmom.nn.saving.load`."""
        return saving.load(cls, path)

    def __getstate__(self) -> dict[str, Any]:
        with self._guard.use:
            kept = {name: value for name, value in vars(self).items()
                    if name not in ("_passes", "_own_pass", "_guard", "_task", "_team",
                                         "batch_losses")}
            return {**kept, "_compiled": None if self._task is None else stored(self._task)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        compiled = state.pop("_compiled")
        vars(self).update(state)
        self._set_stack(self._stack)
        self._set_task(None if compiled is None else restored(compiled, self._stack))

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.layers))
        about = "not built" if self.input_shape is None else \
            f"{sum(w.size for w in self.weights):,} weights"
        about += ", not compiled" if self._task is None else \
            f", {self._task.loss!r}, {self._task.optimizer!r}"
        return f"<{type(self).__name__}([{layers}]): {about}>"


def _as_keras(logs: Mapping[str, float]) -> Any:
    values = list(logs.values())
    return values if len(values) > 1 else values[0]
