"""The regressor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastmom.integrations.sklearn.base import MLP


class MLPRegressor(RegressorMixin, MLP):
    """Multi-layer perceptron for numbers, as scikit-learn's of this name, several times as fast.

    It minimizes the mean squared error. Parameters and attributes are those of `MLPClassifier`,
    without `class_weight` and `classes_`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = MLPRegressor((32,), activation="tanh", solver="sgd", learning_rate_init=0.1,
    ...                      max_iter=1000, tol=1e-6, random_state=0)
    >>> bool(model.fit(X, X[:, 0] ** 2).score(X, X[:, 0] ** 2) > 0.9)
    True
    """

    _as_data: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}
    _loss: ClassVar[dict[str, str]] = {"identity": "mean_squared_error"}
    out_activation_ = "identity"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any, goes_on: bool) -> Any:
        y = np.asarray(y, np.float64)
        y = y.reshape(len(y), -1)
        if goes_on and y.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {y.shape[1]} outputs, and this estimator {self.n_outputs_}")
        self.n_outputs_ = y.shape[1]
        self._scale, self._shown = self.n_outputs_ / 2, 1 / self.n_outputs_
        return y

    def _strata(self, targets: Any) -> Any:
        return None

    def _score(self, X: Any, targets: Any, weights: Any) -> float:
        return float(r2_score(targets, self.model_.predict(X, verbose=0), sample_weight=weights))

    def predict(self, X: Any) -> Any:
        """Return the numbers: (samples,), or (samples, outputs) if `y` had a column or several."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs
