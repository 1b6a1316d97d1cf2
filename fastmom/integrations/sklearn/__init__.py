"""scikit-learn's multi-layer perceptrons, trained by fastmom.

>>> from fastmom.integrations.sklearn import MLPClassifier
"""

from fastmom.extras import need

need("sklearn", "sklearn", "these estimators", "scikit-learn")

from fastmom.integrations.sklearn.classifier import MLPClassifier  # noqa: E402
from fastmom.integrations.sklearn.regressor import MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor"]
