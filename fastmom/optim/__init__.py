"""Optimizers: `base` validates, binds and steps; one short file per family holds the rules."""

from fastmom.optim.base import Optimizer
from fastmom.optim.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in (SGD,)}

__all__ = ["OPTIMIZERS", "SGD", "Optimizer"]
