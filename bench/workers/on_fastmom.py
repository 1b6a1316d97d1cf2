"""fastmom's `Sequential.fit` and its optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastmom as fm
from bench.workers.task import LR, MOMENTUM, Case, Run, Task, blas_limits, blas_threads

VERSIONS = f"fastmom {fm.__version__}, numpy {np.__version__}"
NOTE = ""


def model(task: Task) -> Any:
    setting = task.setting
    layers: list[Any] = [fm.nn.Rescaling(1 / 255, input_shape=(28, 28)), fm.nn.Flatten()]
    for units in setting.hidden:
        layers.append(fm.nn.Dense(units, activation="relu"))
        if setting.dropout:
            layers.append(fm.nn.Dropout(setting.dropout))
    made = fm.nn.Sequential([*layers, fm.nn.Dense(10, activation="softmax")], seed=setting.seed)
    made.compile(fm.SGD(lr=setting.lr, momentum=setting.momentum, nesterov=True,
                        decay=setting.decay), metrics=["accuracy"])
    return made


class Fit:
    def __init__(self, task: Task, threads: int | None) -> None:
        self.task, self.threads = task, threads
        self.model = model(task)
        self.x = task.images("train")

    def epoch(self) -> dict[str, Any]:
        with blas_threads(self.threads):
            history = self.model.fit(self.x, self.task.y, batch_size=self.task.setting.batch,
                                     verbose=0)
        return {"loss": float(history.history["loss"][-1])}

    def accuracy(self) -> float:
        figures = self.model.evaluate(self.task.images("test"), self.task.y_test, verbose=0,
                                      return_dict=True)
        return float(figures["accuracy"])


def variants(task: Task) -> dict[str, Run]:
    return {name: Fit(task, threads) for name, threads in blas_limits().items()}


def steps(case: Case) -> dict[str, Callable[[], object]]:
    params, grads = case.tensors()
    clip: dict[str, Any] = {} if case.clip is None else {"clip_norm": case.clip}
    optimizer: Any = (fm.SGD(params, lr=LR, momentum=MOMENTUM, **clip) if case.rule == "sgd"
                      else fm.AdamW(params, lr=LR, **clip))
    return {"": lambda: optimizer.step(grads)}
