"""The update rules in plain NumPy: the specification, the tests' oracle and the baseline.

Each rule is written as its source writes it, one array at a time, without the kernels' folded
coefficients. It updates `p` and the arrays in `s` in place; `h` holds the hyper-parameters,
and the "machine_eps" of the parameter's dtype if `p` is wider, `age` the updates this parameter has
had and `now` the optimizer's steps so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastmom.optim.base import Optimizer
from fastmom.optim.formats import as_kept, computed
from fastmom.optim.groups import arrays_of
from fastmom.optim.reference_adaptive import (
    adabelief,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adan,
    decayed,
    moments,
    nadam,
    radam,
    rmsprop,
    yogi,
)
from fastmom.optim.reference_tuned import tune
from fastmom.types import Array

Rule = Callable[[Array, Array, dict[str, Array], Mapping[str, Any], int, int], None]


def sgd(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    lr = h["lr"] / (1 + h["decay"] * now)
    m, v = h["momentum"], s["velocity"]
    d = decayed(p, g, h, lr)
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


def qhm(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    d, m, v = g + h["weight_decay"] * p, h["momentum"], s["velocity"]
    v[...] = m * v + (1 - m) * d
    p -= h["lr"] * ((1 - h["nu"]) * d + h["nu"] * v)


def aggmo(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
          now: int) -> None:
    d = g + h["weight_decay"] * p
    for m, v in zip(h["momenta"], s.values(), strict=False):
        v[...] = m * v + d
        p -= h["lr"] / len(h["momenta"]) * v


def signum(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
           now: int) -> None:
    m, v = h["momentum"], s["velocity"]
    v[...] = m * v + (1 - m) * g
    p -= h["lr"] * (np.sign(v) + h["weight_decay"] * p)


def lion(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    b1, b2, v = h["beta1"], h["beta2"], s["velocity"]
    p -= h["lr"] * (np.sign(b1 * v + (1 - b1) * g) + h["weight_decay"] * p)
    v[...] = b2 * v + (1 - b2) * g


def rprop(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
          now: int) -> None:
    turn = np.sign(g) * np.sign(s["gradient"])
    s["ratio"] *= np.where(turn > 0, h["eta_plus"], np.where(turn < 0, h["eta_minus"], 1.0))
    np.clip(s["ratio"], h["step_min"] / h["lr"], h["step_max"] / h["lr"], out=s["ratio"])
    s["gradient"][...] = np.where(turn < 0, 0.0, g)
    p -= h["lr"] * s["ratio"] * np.sign(s["gradient"])


def lars(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    d = trusted(p, g + h["weight_decay"] * p, h["trust_coefficient"], h["eps"])
    m, v = h["momentum"], s["velocity"]
    v[...] = m * v + h["lr"] * d
    p -= h["lr"] * d + m * v if h["nesterov"] else v


def lamb(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    t, square = age + 1, moments(s, g, h)
    r = s["mean"] / (1 - h["beta1"] ** t) / (np.sqrt(square / (1 - h["beta2"] ** t)) + h["eps"])
    p -= h["lr"] * trusted(p, r + h["weight_decay"] * p, 1.0, 0.0)


def novograd(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
             now: int) -> None:
    n, b2, square = s["norm"], h["beta2"], np.sum(g * g)
    n[...] = np.sqrt(b2 * n ** 2 + (1 - b2) * square if age else square)
    s["mean"][...] = h["beta1"] * s["mean"] + g / (n + h["eps"]) + h["weight_decay"] * p
    p -= h["lr"] * s["mean"]


def muon(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    if p.ndim != 2:
        adam(p, g, s, {**h, "lr": h["adamw_lr"], "eps": h["adamw_eps"],
                       "decoupled_weight_decay": True, "amsgrad": False}, age, now)
        return
    if not p.size:
        return
    m, v, u = h["momentum"], s["velocity"], s["update"]
    v[...] = m * v + (1 - m) * g
    u[...] = (1 - m) * g + m * v if h["nesterov"] else v
    (inputs, outputs), (a, b, c) = p.shape, h["ns_coefficients"]
    if h["layout"] == "out_in":
        inputs, outputs = outputs, inputs
    x = u / max(np.sqrt(np.sum(u ** 2)), h["eps"])
    for _ in range(h["ns_steps"]):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    longer = (max(1, outputs / inputs) ** 0.5 if h["scaling"] == "original"
              else 0.2 * max(outputs, inputs) ** 0.5)
    p *= 1 - h["lr"] * h["weight_decay"]
    p -= h["lr"] * longer * x


def yellowfin(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
              now: int) -> None:
    v = s["velocity"]
    v[...] = h["tuned_momentum"] * v + h["share"] * g + h["weight_decay"] * p
    p -= h["tuned_lr"] * v


def trusted(p: Array, r: Array, coefficient: float, eps: float) -> Array:
    """Return a direction with the norm of the parameter times a coefficient."""
    of_p, of_r = np.sqrt(np.sum(p * p)), np.sqrt(np.sum(r * r))
    ratio = coefficient * of_p / (of_r + eps) if of_p and of_r else 1.0
    scaled: Array = ratio * r
    return scaled


def restart(grads: Sequence[Array | None], state: Sequence[dict[str, Array]],
            h: Mapping[str, Any]) -> None:
    """Set the velocities of a group to 0 after a step along which its gradient rises."""
    product = sum(np.sum(g * s["velocity"]) for g, s in zip(grads, state, strict=True)
                  if g is not None)
    if h["restart"] and (-product if h["convention"] == "keras" else product) < 0:
        for s in state:
            s["velocity"][...] = 0


RULES: dict[str, Rule] = {
    "SGD": sgd, "QHM": qhm, "AggMo": aggmo, "Signum": signum, "Lion": lion, "RMSprop": rmsprop,
    "Adagrad": adagrad, "Adam": adam, "AdamW": adam, "NAdam": nadam,
    "Adadelta": adadelta, "Adamax": adamax, "RAdam": radam, "Yogi": yogi,
    "AdaBelief": adabelief, "Adan": adan, "Rprop": rprop, "LARS": lars, "LAMB": lamb,
    "NovoGrad": novograd, "Adafactor": adafactor, "Muon": muon,
    "YellowFin": yellowfin,
}
# What a step needs of all gradients together, as more hyper-parameters of each parameter
TOGETHER = {"YellowFin": tune}
# What it does after it with the gradients and state of each group
AFTER = {"SGD": restart}


def clip(grads: Sequence[Array | None], h: Mapping[str, Any]) -> list[Array | None]:
    """Return the gradients after unscaling and clipping by norm and by value."""
    scaled = [None if g is None else g / h["grad_scale"] for g in grads]
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
        To compute in; state of fewer bytes is rounded to its format after each step, means of
        squares with other noise.

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
        self.params = [p.astype(dtype) for p in arrays_of(optimizer.param_groups)]
        self.machine_eps = [float(np.finfo(computed(p.dtype)).eps) for p in optimizer._shaped()]
        self.state = [{k: v.astype(dtype) for k, v in s.items()} for s in optimizer.state]
        self.formats = [{k: v.dtype for k, v in s.items() if v.dtype.itemsize not in (4, 8)}
                        for s in optimizer._buffers()]
        self.ages = [0] * len(self.params)
        self.iterations = 0

    def step(self, grads: Sequence[Array | None]) -> None:
        """Take a step; None skips a parameter."""
        wide = [None if g is None else g.astype(p.dtype) * (-1.0 if h["maximize"] else 1.0)
                for g, p, h in zip(grads, self.params, self.hyper, strict=True)]
        options = self.optimizer._options.at(self.iterations)
        clipped = clip(wide, options)
        hyper = [{**group.at(self.iterations), "machine_eps": eps}
                 for group, eps in zip(self.hyper, self.machine_eps, strict=True)]
        together = TOGETHER.get(type(self.optimizer).__name__)
        if together and any(g is not None for g in clipped):
            together(clipped, self.state, hyper, options)
        for i, (g, h) in enumerate(zip(clipped, hyper, strict=True)):
            if g is not None:
                self.rule(self.params[i], g, self.state[i], h, self.ages[i], self.iterations)
                for name, dtype in self.formats[i].items():
                    self.state[i][name][...] = as_kept(self.state[i][name], dtype)
                self.ages[i] += 1
        if after := AFTER.get(type(self.optimizer).__name__):
            for group in self.optimizer.param_groups:
                own = [i for i, other in enumerate(self.hyper) if other is group]
                after([clipped[i] for i in own], [self.state[i] for i in own],
                      group.at(self.iterations))
        self.iterations += any(g is not None for g in grads)
