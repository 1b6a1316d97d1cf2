"""fastmom's `Sequential.fit` and its optimizers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import fastmom as fm
from bench.timing import Step
from bench.workloads import Case, Run, Setting, Task, blas_threads, plural, thread_counts
from fastmom.optim import OPTIMIZERS

if TYPE_CHECKING:
    from bench.peers.together import Memory

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
    def __init__(self, task: Task, threads: int) -> None:
        self.task, self.threads = task, threads
        self.model = model(task)
        self.x = task.images("train")

    def epoch(self) -> dict[str, Any]:
        with fm.num_threads(self.threads), blas_threads(self.threads):
            history = self.model.fit(self.x, self.task.y, batch_size=self.task.setting.batch,
                                     verbose=0)
        return {"loss": float(history.history["loss"][-1])}

    def accuracy(self) -> float:
        figures = self.model.evaluate(self.task.images("test"), self.task.y_test, verbose=0,
                                      return_dict=True)
        return float(figures["accuracy"])


def variants(task: Task) -> dict[str, Run]:
    return {plural(threads): Fit(task, threads) for threads in thread_counts()}


def steps_of(memory: Memory) -> dict[str, Step]:
    step, lists = memory.optimizer.step, memory.lists
    forms = {"": Step(step, lists)}
    if not memory.large:
        forms[", same gradients"] = Step(step, lists[:1])
    if fm.get_num_threads() > 1:
        forms[", 1 thread"] = Step(step, lists, within=partial(fm.num_threads, 1))
    return forms


def steps(case: Case) -> dict[str, Callable[[], object]]:
    make: Any = {cls.__name__: cls for cls in OPTIMIZERS.values()}[case.optimizer]
    params, grads = case.tensors()
    clip: dict[str, Any] = {} if case.clip is None else {"clip_norm": case.clip}
    optimizer = make(params, **case.hyper, **clip)
    return {"": lambda: optimizer.step(grads)}


def predictions(setting: Setting) -> dict[str, Callable[[], object]]:
    """Return predictions of samples with as many zeros as handwriting has, and with none."""
    made = model(Task(setting))
    pixels = np.random.default_rng(0).integers(-1000, 256, (256, 28, 28))
    sparse, dense = pixels.clip(0).astype(np.uint8), (pixels % 255 + 1).astype(np.uint8)
    return {"1 sample": partial(made.predict, sparse[:1]),
            "256 samples": partial(made.predict, sparse),
            "256 samples without zeros": partial(made.predict, dense)}
