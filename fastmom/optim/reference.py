"""The update rules in plain NumPy: the specification, the tests' oracle and the baseline.

Each rule is written as its source writes it, one array at a time, without the kernels' folded
coefficients. It updates `p` and the arrays in `s` in place; `h` holds the hyper-parameters,
`age` the updates this parameter has had and `now` the optimizer's steps so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastmom.optim.base import Optimizer
from fastmom.types import Array

Rule = Callable[[Array, Array, dict[str, Array], Mapping[str, Any], int, int], None]


def sgd(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    lr = h["lr"] / (1 + h["decay"] * now)
    m, v = h["momentum"], s["velocity"]
    d = g + h["weight_decay"] * p
    if m == 0:
        p -= lr * d
    elif h["convention"] == "torch":
        v[...] = m * v + (1 - h["dampening"]) * d if age else d
        p -= lr * (d + m * v if h["nesterov"] else v)
    elif h["convention"] == "keras":
        v[...] = m * v - lr * d
        p += m * v - lr * d if h["nesterov"] else v
    else:
        v[...] = m * v + (1 - m) * d
        p -= lr * (m * v + (1 - m) * d if h["nesterov"] else v)


RULES: dict[str, Rule] = {"SGD": sgd}


def clip(grads: Sequence[Array | None], h: Mapping[str, Any]) -> list[Array | None]:
    """Gradients after unscaling, clipping by norm and by value, and the sign of `maximize`."""
    sign = -1.0 if h["maximize"] else 1.0
    scaled = [None if g is None else sign * g / h["grad_scale"] for g in grads]
    norms = [0.0 if g is None else float(np.linalg.norm(g)) for g in scaled]
    total = float(np.linalg.norm(norms))
    limit, per_tensor = h["clip_norm"], h["clip_norm_per_tensor"]
    bound = h["clip_value"] or np.inf
    clipped: list[Array | None] = []
    for g, norm in zip(scaled, norms, strict=True):
        if g is not None:
            if limit is not None and total > limit:
                g = g * (limit / total)
            if per_tensor is not None and norm > per_tensor:
                g = g * (per_tensor / norm)
            g = np.clip(g, -bound, bound)
        clipped.append(g)
    return clipped


class Reference:
    """Steps copies of an optimizer's parameters as that optimizer should step its own.

    Parameters
    ----------
    optimizer : Optimizer
        Bound; its hyper-parameters are read anew at every step.
    dtype : dtype, default float64
        To compute in.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p, g = np.ones(4, np.float32), np.ones(4, np.float32)
    >>> opt = fm.SGD([p], momentum=0.9)
    >>> reference = Reference(opt)
    >>> for _ in range(3):
    ...     _ = opt.step([g]), reference.step([g])
    >>> bool(np.allclose(p, reference.params[0]))
    True
    """

    def __init__(self, optimizer: Optimizer, dtype: Any = np.float64) -> None:
        self.optimizer = optimizer
        self.rule = RULES[type(optimizer).__name__]
        self.hyper = [group for group in optimizer.param_groups for _ in group["params"]]
        self.params = [p.astype(dtype) for group in optimizer.param_groups for p in group["params"]]
        self.state = [{k: v.astype(dtype) for k, v in s.items()} for s in optimizer.state]
        self.ages = [0] * len(self.params)
        self.iterations = 0

    def step(self, grads: Sequence[Array | None]) -> None:
        """One step; None skips a parameter."""
        wide = [None if g is None else g.astype(p.dtype)
                for g, p in zip(grads, self.params, strict=True)]
        for i, g in enumerate(clip(wide, self.optimizer._options)):
            if g is not None:
                self.rule(self.params[i], g, self.state[i], self.hyper[i], self.ages[i],
                          self.iterations)
                self.ages[i] += 1
        self.iterations += any(g is not None for g in grads)
