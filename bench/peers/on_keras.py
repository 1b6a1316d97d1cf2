"""Keras's `Model.fit`, on the backend that KERAS_BACKEND names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras

from bench.workloads import Run, Task

BACKEND = keras.backend.backend()
VERSIONS = f"keras {keras.__version__}, {BACKEND} {import_module(BACKEND).__version__}"
NOTE = ""


class Fit:
    def __init__(self, task: Task) -> None:
        self.task, setting = task, task.setting
        keras.utils.set_random_seed(setting.seed)
        layers = [keras.layers.Flatten()]
        for units in setting.hidden:
            layers.append(keras.layers.Dense(units, activation="relu"))
            if setting.dropout:
                layers.append(keras.layers.Dropout(setting.dropout))
        self.model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
        # Keras 3 has no decay; this schedule is what it was
        lr = keras.optimizers.schedules.InverseTimeDecay(setting.lr, 1, setting.decay)
        self.model.compile(
            keras.optimizers.SGD(lr, momentum=setting.momentum, nesterov=True),
            loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    def epoch(self) -> dict[str, Any]:
        history = self.model.fit(self.task.x.reshape(-1, 28, 28), self.task.y, verbose=0,
                                 batch_size=self.task.setting.batch, epochs=1, shuffle=True).history
        return {"loss": float(history["loss"][0]), "train_accuracy": float(history["accuracy"][0])}

    def accuracy(self) -> float:
        x = self.task.x_test.reshape(-1, 28, 28)
        return float(self.model.evaluate(x, self.task.y_test, verbose=0)[1])


def variants(task: Task) -> dict[str, Run]:
    return {"fit": Fit(task)}
