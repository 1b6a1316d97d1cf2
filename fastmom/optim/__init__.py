"""Optimizers: `base` validates, binds and steps; one short file per family holds the rules."""

from fastmom.optim.base import Optimizer
from fastmom.optim.sgd import SGD

__all__ = ["SGD", "Optimizer"]
