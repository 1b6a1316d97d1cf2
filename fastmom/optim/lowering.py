"""The rule by which steps are made shorter: momentum first, then the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmom.optim.base import Optimizer

SHORTER = 10.0      # times, each time
NAMES = "momentum", "beta1", "momenta"


def check_lowerable(optimizer: Optimizer) -> None:
    """Raise ValueError unless there are numbers to lower."""
    name = type(optimizer).__name__
    if "lr" not in optimizer._group_hypers:
        raise ValueError(f"optimizer must have an lr, which {name} has not")
    for group in optimizer.param_groups:
        for hyper in ("lr", *NAMES):
            if callable(group.get(hyper)):
                raise ValueError(f"{hyper} of {name} must be a number, which can be lowered, not "
                                 f"{group[hyper]!r}")


def lower(optimizer: Optimizer) -> str:
    """Make the steps of all groups shorter; return in words what has changed.

    Momentum m becomes ``1 - 10 (1 - m)``, at least 0; m = 1 counts as 0.99. Then `lr` is divided
    by what is left of the ten.

    >>> import fastmom as fm
    >>> optimizer = fm.SGD(lr=1.0, momentum=0.96)
    >>> lower(optimizer), lower(optimizer), lower(optimizer)
    ('momentum 0.96 → 0.6', 'momentum 0.6 → 0, lr 1 → 0.25', 'lr 0.25 → 0.025')
    """
    told: dict[str, None] = {}
    for group in optimizer.param_groups:
        for name, new in lowered(group).items():
            told[f"{name} {_shown(group[name])} → {_shown(new)}"] = None
            group[name] = new
    return ", ".join(told)


def lowered(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters of a group that become others."""
    changed: dict[str, Any] = {}
    left = SHORTER
    for name in NAMES if not group.get("dampening") else ():
        if name not in group:
            continue
        old = group[name]
        if isinstance(old, tuple):
            new: Any = tuple(map(_less, old))
            slowest, still = max(old), max(new)
        else:
            slowest, still = old, (new := _less(old))
        if new != old:
            changed[name] = new
            left = min(left, SHORTER * _rest(slowest) / (1 - still))
    if left > 1 + 1e-9:
        changed["lr"] = group["lr"] / left
    return changed


def _rest(momentum: float) -> float:
    return max(1 - momentum, 1 / SHORTER ** 2)


def _less(momentum: float) -> float:
    return max(0.0, round(1 - SHORTER * _rest(momentum), 12))


def _shown(value: Any) -> str:
    return ", ".join(f"{v:.6g}" for v in value) if isinstance(value, tuple) else f"{value:.6g}"
