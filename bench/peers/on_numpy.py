"""The steps in NumPy, each written once: every benchmark that needs one takes it from here.

"reference" is the rule as its paper writes it, from `fastmom.optim.reference`; "out=" is what a
careful user makes of SGD with momentum and of AdamW: in place, with scratch arrays and constants
made beforehand.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.workloads import Case
from fastmom.optim import OPTIMIZERS
from fastmom.optim.reference import Reference

VERSIONS = f"numpy {np.__version__}"
NOTE = ""
Step = Callable[[], object]
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


def reference_step(reference: Reference, grads: Sequence[Any], clipped: bool = False) -> Step:
    """Return the reference's step, without its passes for clipping unless they are asked for."""
    if clipped:
        return lambda: reference.step(grads)
    hyper = [group.at(0) for group in reference.hyper]

    def run() -> None:
        for p, g, s, h in zip(reference.params, grads, reference.state, hyper, strict=True):
            reference.rule(p, g, s, h, 1, 1)    # always the second step: NAdam's cost grows
    return run


def out_step(reference: Reference, grads: Sequence[Any], clip: float | None = None) -> Step:
    """Return the step with out= on the reference's arrays."""
    params, dtype = reference.params, reference.params[0].dtype
    rule, names = OUT[type(reference.optimizer).__name__]
    update, number = rule(reference.hyper[0].at(0), dtype.type), dtype.type
    scratch, scaled = np.empty((2, max(p.size for p in params)), dtype)
    tensors = [(p, g, *(s[name] for name in names), scratch[:p.size].reshape(p.shape))
               for p, g, s in zip(params, grads, reference.state, strict=True)]
    ages = itertools.count(1)

    def plain() -> None:
        t = next(ages)
        for arrays in tensors:
            update(t, *arrays)

    def clipping() -> None:
        t, squares = next(ages), sum(float(np.dot(g.ravel(), g.ravel())) for g in grads)
        scale = number(min(1.0, (clip or 0.0) / math.sqrt(squares)))
        for p, g, *rest in tensors:
            update(t, p, np.multiply(g, scale, out=scaled[:g.size].reshape(g.shape)), *rest)
    return plain if clip is None else clipping


def steps(case: Case) -> dict[str, Step]:
    """Return the step in both forms, which share their arrays."""
    make: Any = {cls.__name__: cls for cls in OPTIMIZERS.values()}[case.optimizer]
    params, grads = case.tensors()
    reference = Reference(make(params, **case.hyper, clip_norm=case.clip), np.float32)
    runs = {"reference": reference_step(reference, grads, case.clip is not None)}
    if case.optimizer in OUT:
        runs["out="] = out_step(reference, grads, case.clip)
    return runs
