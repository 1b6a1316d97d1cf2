"""The classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from fastmom import nn
from fastmom.integrations.sklearn.base import MLP


class MLPClassifier(ClassifierMixin, MLP):
    """Multi-layer perceptron for classes, as scikit-learn's of this name, several times as fast.

    Also for several labels a sample (`y` an indicator matrix). What has scikit-learn's name means
    the same there, but that ``solver="lbfgs"`` and sparse matrices are not taken and Adam's
    `epsilon` is PyTorch's; initial weights are Glorot's and biases 0.

    Parameters
    ----------
    hidden_layer_sizes, alpha, batch_size, learning_rate, power_t, max_iter, shuffle, \
    random_state, tol, warm_start, early_stopping, validation_fraction, n_iter_no_change, \
    nesterovs_momentum, epsilon
        As in scikit-learn.
    activation : {"relu", "identity", "logistic", "tanh", "leaky_relu", "gelu"}
    solver : str, default "adam"
        The name of any of fastmom's optimizers, such as "sgd", "adamw" or "lion".
    learning_rate_init, momentum, beta_1, beta_2 : float or callable
        A number, or a schedule of the step, such as ``fastmom.schedules.Linear(0.5, 0.9, 1000)``.
    verbose : bool
        Print a line per epoch.
    dropout : float, default 0
        Share of each hidden layer's outputs that is set to 0 in training.
    class_weight : dict or "balanced", optional
        Weights of the classes, as in scikit-learn's other classifiers.
    callbacks : list of fastmom.nn.Callback, optional

    Attributes
    ----------
    classes_, coefs_, intercepts_, loss_, loss_curve_, best_loss_, validation_scores_, \
    best_validation_score_, n_iter_, n_layers_, n_outputs_, out_activation_, t_, n_features_in_
        As in scikit-learn.
    history_ : dict of str to list
        The metrics of each epoch of the last fit.
    model_ : fastmom.nn.Sequential

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((16,), solver="sgd", learning_rate_init=0.02, momentum=0.9,
    ...                       random_state=0, max_iter=1000)
    >>> bool(model.fit(X, y).score(X, y) > 0.95)
    True
    """

    _as_data: ClassVar[dict[str, Any]] = {"multi_output": True}
    _loss: ClassVar[dict[str, str]] = {
        "softmax": "sparse_categorical_crossentropy", "logistic": "binary_crossentropy"}
    classes_: Any
    _first: Any = None      # classes that partial_fit was told of

    def __init__(self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *,
                 solver: str = "adam", alpha: float = 0.0001, batch_size: int | str = "auto",
                 learning_rate: str = "constant", learning_rate_init: Any = 0.001,
                 power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
                 random_state: Any = None, tol: float = 1e-4, verbose: bool = False,
                 warm_start: bool = False, momentum: Any = 0.9, nesterovs_momentum: bool = True,
                 early_stopping: bool = False, validation_fraction: float = 0.1,
                 beta_1: Any = 0.9, beta_2: Any = 0.999, epsilon: float = 1e-8,
                 n_iter_no_change: int = 10, dropout: float = 0.0, class_weight: Any = None,
                 callbacks: Sequence[nn.Callback] | None = None) -> None:
        super().__init__(
            hidden_layer_sizes, activation, solver=solver, alpha=alpha, batch_size=batch_size,
            learning_rate=learning_rate, learning_rate_init=learning_rate_init, power_t=power_t,
            max_iter=max_iter, shuffle=shuffle, random_state=random_state, tol=tol,
            verbose=verbose, warm_start=warm_start, momentum=momentum,
            nesterovs_momentum=nesterovs_momentum, early_stopping=early_stopping,
            validation_fraction=validation_fraction, beta_1=beta_1, beta_2=beta_2,
            epsilon=epsilon, n_iter_no_change=n_iter_no_change, dropout=dropout,
            callbacks=callbacks)
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one more epoch.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like, optional
            All classes that there will be, at the first call.
        """
        if classes is not None:
            self._first = np.unique(classes)
        return super().partial_fit(X, y, sample_weight)

    def _targets(self, y: Any, goes_on: bool) -> Any:
        """Take up the classes; return each sample's as a number, or the matrix of its labels."""
        check_classification_targets(y)
        self._multilabel = type_of_target(y) == "multilabel-indicator"
        given = unique_labels(y)
        classes = self.classes_ if goes_on else given if self._first is None else self._first
        if not np.isin(given, classes).all():
            raise ValueError(f"y has classes {given}, and this estimator has {classes}")
        self.classes_ = classes
        self.n_outputs_ = 1 if len(classes) == 2 and not self._multilabel else len(classes)
        softmax = self.n_outputs_ == len(classes) and not self._multilabel
        self.out_activation_ = "softmax" if softmax else "logistic"
        self._scale, self._shown = (self.n_outputs_ if self._multilabel else 1), 1
        if self._multilabel:
            return np.asarray(y, np.float64)
        if np.ndim(y) == 2:
            y = column_or_1d(y, warn=True)
        return np.searchsorted(classes, y)

    def _weights(self, X: Any, y: Any, sample_weight: Any) -> Any:
        weights = super()._weights(X, y, sample_weight)
        if self.class_weight is None:
            return weights
        return weights * compute_sample_weight(self.class_weight, y).astype(X.dtype)

    def _strata(self, targets: Any) -> Any:
        return None if self._multilabel else targets

    def _labels(self, outputs: Any) -> Any:
        """Return the numbers of the classes that these outputs mean, or the matrix of labels."""
        if self.out_activation_ == "softmax":
            return outputs.argmax(axis=1)
        labels = (outputs > 0.5).astype(int)
        return labels if self._multilabel else labels[:, 0]

    def _score(self, X: Any, targets: Any, weights: Any) -> float:
        labels = self._labels(self.model_.predict(X, verbose=0))
        return float(accuracy_score(targets, labels, sample_weight=weights))

    def predict(self, X: Any) -> Any:
        """Return the class of each sample, or the matrix of its labels."""
        labels = self._labels(self._outputs(X))
        return labels if self._multilabel else self.classes_[labels]

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities (samples, classes)."""
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax" or self._multilabel:
            return outputs
        return np.hstack([1 - outputs, outputs])

    def predict_log_proba(self, X: Any) -> Any:
        """Return their logarithms."""
        return np.log(self.predict_proba(X))
