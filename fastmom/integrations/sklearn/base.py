"""The part of both estimators: arguments, network and training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmom import nn
from fastmom.checks import choice, flag, integer, number
from fastmom.integrations.sklearn.epochs import EpochEnd
from fastmom.optim import OPTIMIZERS

ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu",
               "leaky_relu": "leaky_relu", "gelu": "gelu"}
PARTS = {"beta1": "beta_1", "beta2": "beta_2", "eps": "epsilon"}    # our names and scikit-learn's


class MLP(BaseEstimator):
    """The part of both estimators."""

    _as_data: ClassVar[dict[str, Any]]      # how targets are checked
    _loss: ClassVar[dict[str, str]]         # by activation of the outputs
    out_activation_: str
    n_outputs_: int
    _scale: float           # of our loss, to have scikit-learn's gradient
    _shown: float           # and then of the loss, to have scikit-learn's
    _in_use: Any = None     # the optimizer's class and hyper-parameters

    def __init__(self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *,
                 solver: str = "adam", alpha: float = 0.0001, batch_size: int | str = "auto",
                 learning_rate: str = "constant", learning_rate_init: Any = 0.001,
                 power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
                 random_state: Any = None, tol: float = 1e-4, verbose: bool = False,
                 warm_start: bool = False, momentum: Any = 0.9, nesterovs_momentum: bool = True,
                 early_stopping: bool = False, validation_fraction: float = 0.1,
                 beta_1: Any = 0.9, beta_2: Any = 0.999, epsilon: float = 1e-8,
                 n_iter_no_change: int = 10, dropout: float = 0.0,
                 callbacks: Sequence[nn.Callback] | None = None) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.dropout = dropout
        self.callbacks = callbacks

    # Arguments: scikit-learn wants them checked in fit --------------------------------------------

    def _check(self) -> None:
        choice("activation", self.activation, ACTIVATIONS)
        choice("solver", self.solver, OPTIMIZERS)
        choice("learning_rate", self.learning_rate, ("constant", "invscaling", "adaptive"))
        if self.learning_rate != "constant":
            if self.solver != "sgd":
                raise ValueError(f"learning_rate={self.learning_rate!r} needs solver='sgd', not "
                                 f"{self.solver!r}; learning_rate_init may be a schedule")
            number("learning_rate_init", self.learning_rate_init, 0, open_low=True)
        for name in ("alpha", "power_t", "tol"):
            number(name, getattr(self, name), 0)
        number("dropout", self.dropout, 0, 1, open_high=True)
        number("validation_fraction", self.validation_fraction, 0, 1, open_low=True, open_high=True)
        for name in ("max_iter", "n_iter_no_change"):
            integer(name, getattr(self, name), 1)
        for name in ("shuffle", "verbose", "warm_start", "nesterovs_momentum", "early_stopping"):
            flag(name, getattr(self, name))
        if self.batch_size != "auto":
            integer("batch_size", self.batch_size, 1)

    def _layers(self, inputs: int) -> list[Any]:
        sizes = self.hidden_layer_sizes
        layers: list[Any] = [nn.Input((inputs,))]
        for size in sizes if np.iterable(sizes) else [sizes]:
            layers.append(nn.Dense(integer("hidden_layer_sizes", size, 1),
                                   activation=ACTIVATIONS[self.activation]))
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
        layers.append(nn.Dense(self.n_outputs_, activation=ACTIVATIONS.get(
            self.out_activation_, self.out_activation_)))
        return layers

    def _use_optimizer(self, decay: float, anew: bool) -> None:
        """Begin with a new optimizer, or go on with the one in use if it is the same."""
        kind = OPTIMIZERS[self.solver]
        hyper: dict[str, Any] = {"lr": self.learning_rate_init} | {
            ours: getattr(self, theirs) for ours, theirs in PARTS.items()}
        if self.solver == "sgd":
            hyper |= {"momentum": self.momentum, "convention": "keras",
                      "nesterov": self.nesterovs_momentum and self.momentum != 0}
        hyper = {name: value for name, value in hyper.items() if name in kind._hypers}
        if anew or (kind, hyper) != self._in_use:
            self.model_.compile(kind([{"params": [array]} for array in self.model_.params],
                                     **hyper), loss=self._loss[self.out_activation_])
            self._in_use = kind, hyper
        optimizer = self.model_.optimizer
        assert optimizer is not None
        for group in optimizer.param_groups:
            if "weight_decay" in group:     # that of biases is 0
                group["weight_decay"] = decay if group["params"][0].ndim == 2 else 0.0

    # Training -------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on samples and their targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Its dtype, float32 or else float64, is the network's.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
            Weights >= 0 of the samples.

        Raises
        ------
        TypeError, ValueError
            If an argument, also one of the constructor, is not allowed.
        """
        return self._fit(X, y, sample_weight, goes_on=self.warm_start and self._is_trained())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one more epoch: as `fit`."""
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        return self._fit(X, y, sample_weight, goes_on=self._is_trained(), epochs=1)

    def _is_trained(self) -> bool:
        return hasattr(self, "model_")

    def _fit(self, X: Any, y: Any, sample_weight: Any, goes_on: bool,
             epochs: int | None = None) -> Self:
        self._check()
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), reset=not goes_on,
                             **self._as_data)
        targets = self._targets(y, goes_on)
        weights = self._weights(X, y, sample_weight)
        if not weights.all():
            X, targets, weights = (a[weights > 0] for a in (X, targets, weights))
        rng, validate = check_random_state(self.random_state), None
        if self.early_stopping:
            X, held, targets, held_targets, weights, held_weights = train_test_split(
                X, targets, weights, random_state=rng, test_size=self.validation_fraction,
                stratify=self._strata(targets))
            if len(held) < 2:
                raise ValueError(f"validation_fraction={self.validation_fraction} leaves "
                                 f"{len(held)} samples for the validation; it needs 2")

            def validate() -> float:
                score: float = self._score(held, held_targets, held_weights)
                return score
        size = min(200 if isinstance(self.batch_size, str) else self.batch_size, len(X))
        mean = weights.mean()
        decay = float(self.alpha / (size * mean))
        if not goes_on:
            self._begin(X, rng)
        self._use_optimizer(decay, anew=epochs is None)     # as in scikit-learn
        self._train(X, targets, weights * (self._scale / mean), size, epochs or self.max_iter,
                    [EpochEnd(self, len(X), decay, validate), *(self.callbacks or ())])
        if epochs is None and self.n_iter_ == self.max_iter and not self.model_.stop_training:
            warnings.warn(f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and "
                          f"the optimization hasn't converged yet.", ConvergenceWarning,
                          stacklevel=3)
        return self

    def _weights(self, X: Any, y: Any, sample_weight: Any) -> Any:
        """Return a weight for each sample."""
        if sample_weight is None:
            return np.ones(len(X), X.dtype)
        weights = check_array(sample_weight, ensure_2d=False, dtype=X.dtype,
                              input_name="sample_weight")
        if weights.shape != (len(X),):
            raise ValueError(f"sample_weight must have the shape {(len(X),)}, not {weights.shape}")
        if weights.min() < 0 or weights.max() == 0:
            raise ValueError(f"sample_weight must be >= 0 and not zero for all samples; it is from "
                             f"{weights.min()} to {weights.max()}")
        return weights

    def _begin(self, X: Any, rng: np.random.RandomState) -> None:
        """Make a network."""
        self.model_ = nn.Sequential(self._layers(X.shape[1]), seed=int(rng.randint(2**31 - 1)),
                                    dtype=str(X.dtype))
        self.n_layers_ = len(self.model_.params) // 2 + 1
        self.t_ = 0
        self.loss_curve_: list[float] = []
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _train(self, X: Any, targets: Any, weights: Any, size: int, epochs: int,
               callbacks: list[nn.Callback]) -> None:
        uniform = (weights == 1).all()
        history = self.model_.fit(
            X, targets, batch_size=size, epochs=epochs, shuffle=self.shuffle, callbacks=callbacks,
            sample_weight=None if uniform else weights, verbose=2 if self.verbose else 0)
        self.history_ = history.history
        self.n_iter_ = len(history.epoch)

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self, "model_")
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self.model_.predict(X, verbose=0)

    @property
    def coefs_(self) -> list[Any]:
        """The weights of each layer, of shape (its inputs, its outputs)."""
        return self.model_.params[::2]

    @property
    def intercepts_(self) -> list[Any]:
        """The biases of each layer."""
        return self.model_.params[1::2]

    @property
    def loss_(self) -> float:
        """The loss of the last epoch."""
        return self.loss_curve_[-1]
