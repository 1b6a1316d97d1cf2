"""Steps of every optimizer against the same rule in NumPy, which is timed as a control."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bench.conftest import assert_finite, rows, teams
from bench.peers.on_numpy import OUT as RULES_WITH_OUT
from bench.peers.on_numpy import out_step, reference_step
from bench.workloads import HYPER, LISTS, Shapes
from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.optim.reference import Reference

OUT, REFERENCE = "NumPy out=", "NumPy reference"
MAIN = ("sgd", "adamw")         # these are measured in all sizes; the others where it matters most
STILL = 1e-9                    # lr that keeps parameters where they are, however many steps
CHECKED = 2_000_000             # up to so many elements the first steps are compared
SUBNORMAL = {"normal": {"float32": 1e-3, "float64": 1e-3},
             "subnormal": {"float32": 1e-39, "float64": 1e-310}}


class Case(NamedTuple):
    optimizer: str
    parameters: str     # of bench.workloads, or the size of a single array
    dtype: str = "float32"
    options: str = ""   # as in a call

    def __str__(self) -> str:
        name = OPTIMIZERS[self.optimizer].__name__
        options = f", {self.options}" if self.options else ""
        return f"{name} step, {self.parameters} {self.dtype}{options}"

    @property
    def shapes(self) -> Shapes:
        if self.parameters in LISTS:
            return LISTS[self.parameters]
        elements = int(self.parameters.replace(",", ""))
        if OPTIMIZERS[self.optimizer].treats_matrices:
            first = 10 ** (len(str(elements)) // 2)
            return [(first, elements // first)]
        return [(elements,)]

    @property
    def elements(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def limit(self) -> str:
        return "memory" if self.elements > 300_000 else "cache"

    @property
    def hyper(self) -> dict[str, Any]:
        name, _, value = self.options.partition("=")
        hyper = HYPER.get(OPTIMIZERS[self.optimizer].__name__, {})
        return hyper | ({name: float(value)} if name else {})

    def arrays(self, seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [rng.standard_normal(shape, np.dtype(self.dtype).type) for shape in self.shapes]

    def bound(self) -> Optimizer:
        make: Any = OPTIMIZERS[self.optimizer]      # each has arguments of its own
        optimizer: Optimizer = make(self.arrays(0), **self.hyper)
        return optimizer


def candidates(case: Case) -> list[str]:
    plain = OPTIMIZERS[case.optimizer].__name__ in RULES_WITH_OUT and not case.options
    return [*teams(case.elements), *([OUT] if plain else []), REFERENCE]


def cases(optimizer: str) -> list[tuple[Case, list[str], bool]]:
    """Return the tables of one optimizer, and whether they are for --full."""
    main, matrices = optimizer in MAIN, OPTIMIZERS[optimizer].treats_matrices
    found: dict[Case, bool] = {}
    for power in range(1, 9):
        full = not (power == 3 or (power == 6 and not matrices) or (main and power < 8))
        if main or power < (7 if matrices else 8):
            found[Case(optimizer, f"{10 ** power:,}")] = full
    for power in range(1, 7 if matrices else 8):
        found[Case(optimizer, f"{10 ** power:,}", "float64")] = not main or power not in (3, 6)
    for name in ("MNIST MLP", "200 x 1,000", "ResNet-50", "GPT-2"):
        if main or name != "GPT-2":
            quick = name == "MNIST MLP" or (main and name != "GPT-2")
            found[Case(optimizer, name)] = not quick
    for option in ("clip_norm=1", "clip_norm_per_tensor=1", "clip_value=0.1"):
        for name in ("1,000,000", "MNIST MLP", "ResNet-50"):
            quick = main and option == "clip_norm=1" and name == "MNIST MLP"
            if main or (option, name) == ("clip_norm=1", "MNIST MLP"):
                found[Case(optimizer, name, options=option)] = not quick
    return [(case, candidates(case), full) for case, full in found.items()]


@rows(*(table for name in OPTIMIZERS for table in cases(name)))
def test_step(case: Case, who: str, measure: Callable[..., None]) -> None:
    optimizer, grads = case.bound(), case.arrays(1)
    check_first_steps(case, who, optimizer, grads)
    optimizer.lr = STILL
    params, state, step = stepper(case, who, optimizer, grads)
    measure(step, case.limit)
    assert_finite([*params, *state])
    assert any(array.any() for array in state)


@rows(*((Case(name, "1,000,000", dtype), [f"{who}, {kind}" for who in (*teams(10**6), last)
                                          for kind in SUBNORMAL], dtype == "float64")
        for name, last in (("sgd", OUT), ("adamw", REFERENCE)) for dtype in SUBNORMAL["subnormal"]))
def test_step_from_state(case: Case, who: str, measure: Callable[..., None],
                         benchmark: Any) -> None:
    """One step at zero gradients from a state all normal, or all subnormal."""
    benchmark.group = f"{case}, state normal or subnormal"
    who, _, kind = who.rpartition(", ")
    value = SUBNORMAL[kind][case.dtype]
    optimizer, grads = case.bound(), [np.zeros(shape, case.dtype) for shape in case.shapes]
    optimizer.lr = STILL
    params, state, step = stepper(case, who, optimizer, grads)

    def prepare() -> None:
        for array in state:
            array[:] = value

    prepare()
    step()
    assert (state[0] < value).all()     # it has decayed
    measure(step, case.limit, prepare)
    assert_finite([*params, *state])


def stepper(case: Case, who: str, optimizer: Optimizer, grads: list[Any]
            ) -> tuple[list[Any], list[Any], Callable[[], object]]:
    """Return parameters, their state, and the function that steps them."""
    if who.startswith("fastmom"):
        return optimizer.param_groups[0]["params"], flat(optimizer.state), partial(optimizer.step,
                                                                                   grads)
    reference = Reference(optimizer, case.dtype)
    step = (out_step(reference) if who == OUT
            else reference_step(reference, bool(case.options)))
    return reference.params, flat(reference.state), partial(step, grads)


def flat(state: list[dict[str, Any]]) -> list[Any]:
    return [array for of_param in state for array in of_param.values()]


def check_first_steps(case: Case, who: str, optimizer: Optimizer, grads: list[Any]) -> None:
    """Check that steps change the parameters, and small ones as the rule in float64 does."""
    compared = who != REFERENCE and case.elements <= CHECKED
    oracle = Reference(optimizer) if compared else None
    params, _, step = stepper(case, who, optimizer, grads)
    before = [p.copy() for p in params]
    for _ in range(2 if oracle else 1):
        step()
        if oracle:
            oracle.step(grads)
    assert_finite(params)
    assert not any(np.array_equal(p, b) for p, b in zip(params, before, strict=True))
    for p, b, expected in zip(params, before, oracle.params if oracle else [], strict=False):
        allowed = 1e-3 * norm(expected - b) + 4 * np.finfo(p.dtype).eps * norm(b)
        assert norm(p - expected) <= allowed


def norm(x: Any) -> float:
    return float(np.linalg.norm(x))
