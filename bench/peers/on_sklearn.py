"""scikit-learn's `MLPClassifier`, an epoch at a time."""

from __future__ import annotations

from typing import Any

import sklearn
from sklearn.neural_network import MLPClassifier

from bench.workloads import Run, Task, blas_limits, blas_threads

VERSIONS = f"scikit-learn {sklearn.__version__}"
NOTE = "no dropout, decay or accuracy there"


class PartialFit:
    def __init__(self, task: Task, threads: int | None) -> None:
        self.task, self.threads, setting = task, threads, task.setting
        self.model = MLPClassifier(
            tuple(setting.hidden), solver="sgd", batch_size=setting.batch, alpha=0,
            learning_rate_init=setting.lr, momentum=setting.momentum, nesterovs_momentum=True,
            shuffle=True, random_state=setting.seed)

    def epoch(self) -> dict[str, Any]:
        with blas_threads(self.threads):
            self.model.partial_fit(self.task.x, self.task.y, classes=range(10))
        return {"loss": float(self.model.loss_)}

    def accuracy(self) -> float:
        return float(self.model.score(self.task.x_test, self.task.y_test))


def variants(task: Task) -> dict[str, Run]:
    return {name: PartialFit(task, threads) for name, threads in blas_limits().items()}
