"""A user's script, with types: run, and given to type checkers, by test_typing.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import fastmom as fm
from fastmom import nn


def minimize(w: NDArray[np.float64], optimizer: fm.Optimizer, steps: int) -> float:
    """Step down to the origin and return how far from it the way ends."""
    for _ in range(steps):
        optimizer.step([w.copy()])
    return float(np.linalg.norm(w))


w = np.ones((3, 2))
sgd = fm.SGD([w], lr=0.1, momentum=0.9, nesterov=True)
moved: bool = sgd.step([np.ones_like(w)])
sgd.lr = 0.01
sgd.lr = fm.schedules.Cosine(0.01, 0.0, steps=50)
distance: float = minimize(w, sgd, 50)
minimize(w, fm.AdamW([{"params": [w], "lr": 0.01}], weight_decay=fm.schedules.Constant(0.1)), 3)

x = np.random.default_rng(0).random((64, 8, 8), np.float32)
y = np.arange(64) % 10
model = nn.Sequential([
    nn.Flatten(input_shape=(8, 8)), nn.Dense(32, activation="relu"), nn.Dropout(0.2),
    nn.Dense(10, activation="softmax")])
model.compile(optimizer=fm.SGD(lr=fm.schedules.Cosine(0.1, 0.01, steps=6), momentum=0.9),
              loss="sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, epochs=2, verbose=0, validation_split=0.25)
losses: list[float] = history.history["val_loss"]
best: float = min(losses)
classes: NDArray[np.intp] = model.predict(x[:3]).argmax(axis=1)
