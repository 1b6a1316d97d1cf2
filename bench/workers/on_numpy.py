"""What a NumPy user writes: at first, and with care."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.workers.task import BETA1, BETA2, DECAY, EPSILON, LR, MOMENTUM, Case

VERSIONS = f"numpy {np.__version__}"
NOTE = ""
F = np.float32
LR32, M, B1, B2, EPS, KEEP = (F(x) for x in (LR, MOMENTUM, BETA1, BETA2, EPSILON, 1 - LR * DECAY))
ONE = F(1)


class Naive:
    """Expressions as in the textbook; each makes arrays of its own."""

    def __init__(self, case: Case, params: list[Any], grads: list[Any]) -> None:
        self.clip, self.params, self.grads = case.clip, params, grads
        self.state = [[np.zeros_like(p) for _ in range(2 if case.rule == "adamw" else 1)]
                      for p in self.params]
        self.rule = getattr(self, case.rule)
        self.t = 1

    def step(self) -> None:
        self.t += 1
        grads = self.grads
        if self.clip is not None:
            norm = np.sqrt(sum(np.sum(g * g) for g in grads))
            grads = [g * min(1, self.clip / norm) for g in grads]
        for i, g in enumerate(grads):
            self.params[i], self.state[i] = self.rule(self.params[i], g, *self.state[i])

    def sgd(self, p: Any, g: Any, v: Any) -> Any:
        v = MOMENTUM * v + g
        return p - LR * v, [v]

    def adamw(self, p: Any, g: Any, m: Any, v: Any) -> Any:
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g * g
        p = p - LR * DECAY * p
        unbiased = m / (1 - BETA1**self.t)
        return p - LR * unbiased / (np.sqrt(v / (1 - BETA2**self.t)) + EPSILON), [m, v]


class Out(Naive):
    """In place, with scratch arrays and constants made beforehand."""

    def __init__(self, case: Case, params: list[Any], grads: list[Any]) -> None:
        super().__init__(case, params, grads)
        largest = max(p.size for p in self.params)
        scratch = np.empty((1 if case.clip is None else 2, largest), np.float32)
        self.tensors = [(p, g, *state, *(row[:p.size].reshape(p.shape) for row in scratch))
                        for p, g, state in zip(self.params, self.grads, self.state, strict=True)]
        self.rule = getattr(self, f"{case.rule}_out")

    def step(self) -> None:
        self.t += 1
        if self.clip is None:
            for tensors in self.tensors:
                self.rule(*tensors)
            return
        squares = sum(float(np.dot(g.ravel(), g.ravel())) for g in self.grads)
        scale = np.float32(min(1.0, self.clip / math.sqrt(squares)))
        for p, g, *rest, clipped in self.tensors:
            self.rule(p, np.multiply(g, scale, out=clipped), *rest)

    def sgd_out(self, p: Any, g: Any, v: Any, b: Any) -> None:
        np.multiply(v, M, out=v)
        np.add(v, g, out=v)
        np.multiply(v, LR32, out=b)
        np.subtract(p, b, out=p)

    def adamw_out(self, p: Any, g: Any, m: Any, v: Any, b: Any) -> None:
        np.multiply(m, B1, out=m)
        np.multiply(g, ONE - B1, out=b)
        np.add(m, b, out=m)
        np.multiply(v, B2, out=v)
        np.multiply(g, g, out=b)
        np.multiply(b, ONE - B2, out=b)
        np.add(v, b, out=v)
        np.multiply(p, KEEP, out=p)
        np.multiply(v, F(1 / (1 - BETA2**self.t)), out=b)
        np.sqrt(b, out=b)
        np.add(b, EPS, out=b)
        np.divide(m, b, out=b)
        np.multiply(b, F(LR / (1 - BETA1**self.t)), out=b)
        np.subtract(p, b, out=p)


def steps(case: Case) -> dict[str, Callable[[], object]]:
    """Both have the same gradients; the first soon has parameters of its own."""
    params, grads = case.tensors()
    return {"naive": Naive(case, list(params), grads).step, "out=": Out(case, params, grads).step}
