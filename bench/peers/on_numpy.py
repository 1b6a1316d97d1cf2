"""NumPy alone: its steps, each written once for all benchmarks, and its training.

"reference" is the rule as its paper writes it, from `fastmom.optim.reference`; "out=" is what a
careful user makes of SGD with momentum and of AdamW: in place, with scratch arrays and constants
made beforehand.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import timing
from bench.peers.numpy_network import Network, Training
from bench.workloads import Run, Task, blas_limits, blas_threads
from fastmom.optim.reference import RULES, Reference

if TYPE_CHECKING:
    from bench.peers.together import Memory

VERSIONS = f"numpy {np.__version__}"
NOTE = ""
Step = Callable[[Sequence[Any]], object]
Update = Callable[..., None]


def sgd_out(h: Mapping[str, Any], number: type) -> Update:
    lr, m = number(h["lr"]), number(h["momentum"])

    def update(t: int, p: Any, g: Any, v: Any, b: Any) -> None:
        np.multiply(v, m, out=v)
        np.add(v, g, out=v)
        np.multiply(v, lr, out=b)
        np.subtract(p, b, out=p)
    return update


def adamw_out(h: Mapping[str, Any], number: type) -> Update:
    lr, beta1, beta2 = h["lr"], h["beta1"], h["beta2"]
    b1, b2, rest1, rest2, eps, keep = map(
        number, (beta1, beta2, 1 - beta1, 1 - beta2, h["eps"], 1 - lr * h["weight_decay"]))

    def update(t: int, p: Any, g: Any, m: Any, v: Any, b: Any) -> None:
        np.multiply(m, b1, out=m)
        np.multiply(g, rest1, out=b)
        np.add(m, b, out=m)
        np.multiply(v, b2, out=v)
        np.multiply(g, g, out=b)
        np.multiply(b, rest2, out=b)
        np.add(v, b, out=v)
        np.multiply(p, keep, out=p)
        np.multiply(v, number(1 / (1 - beta2**t)), out=b)
        np.sqrt(b, out=b)
        np.add(b, eps, out=b)
        np.divide(m, b, out=b)
        np.multiply(b, number(lr / (1 - beta1**t)), out=b)
        np.subtract(p, b, out=p)
    return update


# The rules that are written with out=, and the state they use
OUT = {"SGD": (sgd_out, ["velocity"]), "AdamW": (adamw_out, ["mean", "square"])}


class InPlace(Reference):
    """Steps an optimizer's own parameters, in its own state."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.rule = optimizer, RULES[type(optimizer).__name__]
        self.hyper = [group for group in optimizer.param_groups for _ in group["params"]]
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.machine_eps = [float(np.finfo(p.dtype).eps) for p in self.params]
        self.state, self.ages, self.iterations = optimizer.state, [0] * len(self.params), 0
        self.formats: list[dict[str, Any]] = [{} for _ in self.params]      # all is as it is


def reference_step(reference: Reference, clipped: bool = False) -> Step:
    """Return the reference's step, without its passes for clipping unless they are asked for."""
    if clipped:
        return reference.step
    hyper = [group.at(0) for group in reference.hyper]

    def run(grads: Sequence[Any]) -> None:
        for p, g, s, h in zip(reference.params, grads, reference.state, hyper, strict=True):
            reference.rule(p, g, s, h, 1, 1)    # always the second step: NAdam's cost grows
    return run


def out_step(reference: Reference, clip: float | None = None) -> Step:
    """Return the step with out= on the reference's arrays."""
    params, dtype = reference.params, reference.params[0].dtype
    rule, names = OUT[type(reference.optimizer).__name__]
    update, number = rule(reference.hyper[0].at(0), dtype.type), dtype.type
    scratch, scaled = np.empty((2, max(p.size for p in params)), dtype)
    tensors = [(p, *(s[name] for name in names), scratch[:p.size].reshape(p.shape))
               for p, s in zip(params, reference.state, strict=True)]
    ages = itertools.count(1)

    def plain(grads: Sequence[Any]) -> None:
        t = next(ages)
        for g, (p, *rest) in zip(grads, tensors, strict=True):
            update(t, p, g, *rest)

    def clipping(grads: Sequence[Any]) -> None:
        t, squares = next(ages), sum(float(np.dot(g.ravel(), g.ravel())) for g in grads)
        scale = number(min(1.0, (clip or 0.0) / math.sqrt(squares)))
        for g, (p, *rest) in zip(grads, tensors, strict=True):
            update(t, p, np.multiply(g, scale, out=scaled[:g.size].reshape(g.shape)), *rest)
    return plain if clip is None else clipping


def steps_of(memory: Memory) -> dict[str, timing.Step]:
    """Return the step in both forms."""
    case, reference, runs = memory.case, InPlace(memory.optimizer), {}
    if not memory.large:
        runs[" reference"] = reference_step(reference, case.clip is not None)
    if case.optimizer in OUT:
        runs[" out="] = out_step(reference, case.clip)
    return {form: timing.Step(run, memory.lists) for form, run in runs.items()}


class Epochs:
    """`Network`, with so many threads of BLAS."""

    def __init__(self, task: Task, threads: int | None) -> None:
        s = task.setting
        training = Training(s.batch, s.lr, s.momentum, s.decay, s.dropout)
        self.task, self.threads = task, threads
        self.network = Network(task.widths, training, s.seed)

    def epoch(self) -> dict[str, Any]:
        with blas_threads(self.threads):
            loss, accuracy = self.network.train(self.task.x, self.task.y)
        return {"loss": loss, "train_accuracy": accuracy}

    def accuracy(self) -> float:
        return float(self.network.evaluate(self.task.x_test, self.task.y_test)[1])


def variants(task: Task) -> dict[str, Run]:
    return {name: Epochs(task, threads) for name, threads in blas_limits().items()}
