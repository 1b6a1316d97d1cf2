"""The part of scikit-learn's training that follows an epoch: curves, learning rate, the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastmom.nn import Callback

SMALLEST = 1e-6     # learning rate that is not divided further


class EpochEnd(Callback):
    """Do what scikit-learn's multi-layer perceptrons do after each epoch.

    Parameters
    ----------
    estimator : MLP
        Whose curves and best values are kept.
    samples : int
        Of an epoch.
    decay : float
        The coefficient of the loss's L2 term.
    validate : callable, optional
        Returns the score of the samples that are held out, if there are any.
    """

    adds = ()

    def __init__(self, estimator: Any, samples: int, decay: float,
                 validate: Callable[[], float] | None) -> None:
        self._of, self._samples, self._decay, self._validate = estimator, samples, decay, validate
        self._waited, self._best_weights = 0, None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        assert logs is not None
        of = self._of
        squares = sum(float((weights ** 2).sum()) for weights in of.coefs_)
        of.loss_curve_.append(logs["loss"] * of._shown + 0.5 * self._decay * squares)
        of.t_ += self._samples
        self._waited = 0 if self._improves() else self._waited + 1
        if of.learning_rate == "invscaling":
            self._set_lr(of.learning_rate_init / (of.t_ + 1) ** of.power_t)
        if self._waited > of.n_iter_no_change:
            lr = self.model.optimizer.param_groups[0]["lr"]
            if of.learning_rate == "adaptive" and lr > SMALLEST:
                self._set_lr(lr / 5)
                self._waited = 0
            else:
                self.model.stop_training = True

    def _improves(self) -> bool:
        of = self._of
        if self._validate is None:
            loss, best = of.loss_curve_[-1], of.best_loss_
            of.best_loss_ = min(loss, best)
            return bool(loss <= best - of.tol)
        score, best = self._validate(), of.best_validation_score_
        of.validation_scores_.append(score)
        if score > best:
            of.best_validation_score_ = score
            self._best_weights = self.model.get_weights()
        return bool(score >= best + of.tol)

    def _set_lr(self, lr: float) -> None:
        for group in self.model.optimizer.param_groups:
            group["lr"] = lr

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)
