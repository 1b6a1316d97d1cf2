"""Loops written by hand and compiled by Numba, one call per tensor."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import sqrt
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba import njit, prange

from bench.timing import Step
from bench.workloads import HYPER, LR, Case

if TYPE_CHECKING:
    from bench.peers.together import Memory

VERSIONS = f"numba {numba.__version__}, numpy {np.__version__}"
NOTE = "a prange loop per tensor"
F = np.float32
MOMENTUM = HYPER["SGD"]["momentum"]
BETA1, BETA2, EPSILON, DECAY = 0.9, 0.999, 1e-8, 0.01       # the defaults of AdamW
LR32, M, B1, B2, EPS, KEEP = (F(x) for x in (LR, MOMENTUM, BETA1, BETA2, EPSILON, 1 - LR * DECAY))
ONE = F(1)
Tensors = tuple[Any, ...]       # parameter and state, flat


def sgd(p: Any, g: Any, v: Any, scale: Any) -> None:
    for i in prange(p.size):
        v[i] = M * v[i] + scale * g[i]
        p[i] -= LR32 * v[i]


def adamw(p: Any, g: Any, m: Any, v: Any, scale: Any, lr: Any, correction: Any) -> None:
    for i in prange(p.size):
        x = scale * g[i]
        m[i] = B1 * m[i] + (ONE - B1) * x
        v[i] = B2 * v[i] + (ONE - B2) * x * x
        p[i] = KEEP * p[i] - lr * m[i] / (sqrt(v[i] * correction) + EPS)


# Loop, and its state
RULES: dict[str, tuple[Callable[..., None], list[str]]] = {
    "SGD": (sgd, ["velocity"]), "AdamW": (adamw, ["mean", "square"])}


def squares(g: Any) -> Any:
    total = F(0)
    for i in prange(g.size):
        total += g[i] * g[i]
    return total


@functools.cache
def compiled(loop: Callable[..., Any], parallel: bool) -> Callable[..., Any]:
    # Numba's files are found by name alone, whatever the options
    own = FunctionType(loop.__code__, loop.__globals__)
    own.__qualname__ = f"{loop.__name__}_{'parallel' if parallel else 'serial'}"
    return njit(parallel=parallel, fastmath=True, cache=True)(own)      # type: ignore[no-any-return]


class Loops:
    """Compiled for several threads or for one."""

    def __init__(self, case: Case, tensors: list[Tensors], parallel: bool) -> None:
        self.squares = compiled(squares, parallel)
        self.rule = compiled(RULES[case.optimizer][0], parallel)
        self.tensors, self.clip, self.t = tensors, case.clip, 1
        self.adaptive = case.optimizer == "AdamW"

    def step(self, grads: list[Any]) -> None:
        self.t += 1
        scale = ONE
        if self.clip is not None:
            norm = sqrt(sum(map(self.squares, grads)))
            scale = F(min(1.0, self.clip / norm))
        correction = (F(LR / (1 - BETA1**self.t)), F(1 / (1 - BETA2**self.t)))
        extra = correction if self.adaptive else ()
        for g, (p, *state) in zip(grads, self.tensors, strict=True):
            self.rule(p, g, *state, scale, *extra)


def steps_of(memory: Memory) -> dict[str, Step]:
    """Return the step in its forms, over flat views."""
    case = memory.case
    if case.optimizer not in RULES:
        return {}
    names = RULES[case.optimizer][1]
    tensors = [(p.reshape(-1), *(s[name].reshape(-1) for name in names))
               for p, s in zip(memory.params, memory.state, strict=True)]
    lists = [[g.reshape(-1) for g in grads] for grads in memory.lists]
    steps = {" prange": Step(Loops(case, tensors, True).step, lists)}
    if not memory.large:
        steps[" serial"] = Step(Loops(case, tensors, False).step, lists)
    return steps
