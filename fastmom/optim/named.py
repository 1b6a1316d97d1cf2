"""Optimizers by name, as `compile` and the command line take them."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from fastmom.optim import OPTIMIZERS, Optimizer
from fastmom.optim.sgd import SGD

# Names that stand for `SGD` with other defaults: 0.9 is the momentum to take when unsure.
PRESETS: dict[str, Mapping[str, Any]] = {"momentum": {"momentum": 0.9}}
NAMES: Mapping[str, Any] = ChainMap[str, Any](OPTIMIZERS, PRESETS)


def kind_of(name: str) -> type[Optimizer]:
    """Return the class that one of `NAMES` stands for."""
    return SGD if name in PRESETS else OPTIMIZERS[name]


def make(name: str, hyper: Mapping[str, Any]) -> Optimizer:
    """Make an optimizer without parameters; `hyper` goes before the name's own defaults.

    >>> make("momentum", {"lr": 0.1})
    SGD(lr=0.1, momentum=0.9)
    """
    return kind_of(name)(**{**PRESETS.get(name, {}), **hyper})
