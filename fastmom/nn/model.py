"""A stack of layers that trains with the library's optimizers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from fastmom.checks import integer
from fastmom.nn.batches import EVALUATION_BATCH, Samples
from fastmom.nn.callbacks import Callback, CallbackList, History, Progress, metrics_line, validate
from fastmom.nn.compiled import Compiled
from fastmom.types import Numbers


class Sequential(Compiled):
    """Layers one after the other, trained by gradient descent.

    As Keras's class of this name. Arrays are never changed but for the model's own weights, and
    every buffer is made once: a training step allocates nothing.

    Parameters
    ----------
    layers : list of Layer, optional
        More can be appended with `add`. The first one says the samples' shape by ``input_shape``,
        or else the first data does.
    seed : int, default 0
        Of the weights, the dropout and the order of the samples.
    dtype : {"float32", "float64"}

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

    epoch = 0               # epochs trained
    stop_training = False   # set by a callback: end after this step or epoch
    batch_losses: Sequence[float] = ()      # the mean loss of each step of `fit`'s latest epoch

    # Training -------------------------------------------------------------------------------------

    def fit(self, x: Numbers, y: Any, *, batch_size: int = 32, epochs: int = 1,
            verbose: int | str = "auto", callbacks: Sequence[Callback] | None = None,
            validation_split: float = 0.0,
            validation_data: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
            shuffle: bool = True, class_weight: dict[int, float] | None = None,
            sample_weight: Any = None, initial_epoch: int = 0) -> History:
        """Train until the model has seen the samples so many times.

        Parameters
        ----------
        x : ndarray of shape (samples, *input_shape)
            Of real numbers, all finite; converted to the model's dtype batch by batch.
        y : array-like
            Targets as the loss takes them: an integer per sample, or numbers as the output's shape.
        batch_size : int
            The last batch of an epoch holds what is left.
        epochs, initial_epoch : int
            Numbers of the epoch to end before and to start with: ``epochs - initial_epoch`` are
            trained.
        verbose : {"auto", 0, 1, 2}
            0 prints nothing, 2 a line per epoch, 1 also a progress bar where the output is a
            terminal; "auto" is 1 if tqdm is installed, else 2.
        callbacks : list of Callback, optional
        validation_split : float
            Share of the samples, the last ones, that are held out and evaluated after each epoch.
        validation_data : (x, y) or (x, y, sample_weight), or dict of str to such, optional
            Samples of their own, evaluated after each epoch: their metrics are ``val_loss`` and so
            on; those of ``{"test": (x, y)}`` are ``test_loss`` and so on.
        shuffle : bool, default True
            Take the samples in a new random order each epoch.
        class_weight : dict of int to float, optional
            Weights of samples by their class, 1 for classes it does not name.
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
        KeyboardInterrupt
            After Ctrl-C, once the callbacks were told; the model is as after the last whole step.

        Notes
        -----
        Small products gain little from BLAS's threads, which can take many times as long where
        another process wants the cores: ``threadpoolctl.threadpool_limits(1, user_api="blas")``.
        """
        batch_size, epochs = integer("batch_size", batch_size, 1), integer("epochs", epochs, 1)
        initial_epoch = integer("initial_epoch", initial_epoch, 0)
        if initial_epoch >= epochs:
            raise ValueError(f"initial_epoch must be below epochs={epochs}, not {initial_epoch}")
        if not isinstance(shuffle, bool):
            raise TypeError(f"shuffle must be True or False, not {shuffle!r}")
        progress = Progress(verbose=verbose)
        chosen = [*validate([] if callbacks is None else callbacks), progress]
        data, held_out = self._split(self._check_data(x, y, sample_weight, class_weight),
                                     validation_split)
        evaluated = {} if held_out is None else {"val": held_out}
        if validation_data is not None:
            if held_out is not None:
                raise ValueError("validation_split and validation_data: give one of them")
            evaluated = self._check_held_out(validation_data)
        batches = self._samples(data[0], batch_size, *data[1:])
        history = History()
        names = ["loss", *self._metrics]
        run = CallbackList([*chosen, history], self, {
            "epochs": epochs, "steps": len(batches), "verbose": verbose, "metrics": [
                *names, *(f"{which}_{name}" for which in evaluated for name in names),
                "seconds"]})
        self.stop_training = False
        with run:
            for epoch in range(initial_epoch, epochs):
                run.on_epoch_begin(epoch)
                logs = self._train_epoch(batches, shuffle, run)
                if logs is None:        # stopped before its last step: the epoch is not whole
                    break
                self.epoch = epoch + 1
                for which, samples in evaluated.items():
                    logs |= {f"{which}_{k}": v for k, v in self._evaluate(samples).items()}
                run.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
        return history

    def _train_epoch(self, batches: Samples, shuffle: bool, run: CallbackList
                     ) -> dict[str, float] | None:
        start, sums, seen = time.perf_counter(), [0.0] * (1 + len(self._metrics)), 0
        losses = self.batch_losses = list[float]()
        for step, (_, x, y, w) in enumerate(batches.shuffled(self._order) if shuffle else batches):
            run.on_train_batch_begin(step)
            values = self._train(x, y, w)
            for i, value in enumerate(values):
                sums[i] += value
            losses.append(values[0] / len(x))
            seen += len(x)
            if run.wants_batches:
                run.on_train_batch_end(step, self._figures(sums, seen))
            if self.stop_training and step + 1 < len(batches):
                return None
        return self._figures(sums, seen) | {"seconds": time.perf_counter() - start}

    def train_on_batch(self, x: Numbers, y: Any, sample_weight: Any = None,
                       class_weight: dict[int, float] | None = None, *,
                       return_dict: bool = False) -> Any:
        """One step on one batch; returns its loss and metrics before the step, as `evaluate`."""
        _check_return_dict(return_dict)
        data = self._check_data(x, y, sample_weight, class_weight)
        for _, *batch in self._samples(data[0], len(data[0]), *data[1:]):
            figures = self._figures(self._train(*batch), len(data[0]))
        return figures if return_dict else _as_keras(figures)

    # Evaluation -----------------------------------------------------------------------------------

    def evaluate(self, x: Numbers, y: Any, *, sample_weight: Any = None,
                 verbose: int | str = "auto", return_dict: bool = False) -> Any:
        """Mean loss and metrics, without dropout.

        Parameters
        ----------
        x, y, sample_weight
            As for `fit`.
        verbose : {"auto", 0, 1, 2}
            0 prints nothing, all others one line.
        return_dict : bool, default False

        Returns
        -------
        float, list of float or dict
            The loss, or a list of loss and metrics if there are any; or all by name.
        """
        Progress(verbose=verbose)       # checks it
        _check_return_dict(return_dict)
        figures = self._evaluate(self._check_data(x, y, sample_weight))
        if verbose:
            print(metrics_line(figures))
        return figures if return_dict else _as_keras(figures)

    def _evaluate(self, data: Sequence[Any]) -> dict[str, float]:
        sums = [0.0] * (1 + len(self._metrics))
        for _, *batch in self._samples(data[0], EVALUATION_BATCH, *data[1:]):
            for i, value in enumerate(self._measure(*batch)):
                sums[i] += value
        return self._figures(sums, len(data[0]))

    # Files ----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], extra: Any = None) -> None:
        """Write layers, weights, optimizer and random state: see `fastmom.nn.saving.save`."""
        from fastmom.nn.saving import save
        save(self, path, extra)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Make a model from a file that `save` wrote: see `fastmom.nn.saving.load`."""
        from fastmom.nn.saving import load
        return load(cls, path)


def _check_return_dict(given: Any) -> None:
    if not isinstance(given, bool):
        raise TypeError(f"return_dict must be True or False, not {given!r}")


def _as_keras(figures: Mapping[str, float]) -> Any:
    values = list(figures.values())
    return values if len(values) > 1 else values[0]
