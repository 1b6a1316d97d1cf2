"""Optimizers: `base` validates, binds and steps; one short file per family holds the rules."""

from fastmom.optim.adam import Adam, AdamW, NAdam
from fastmom.optim.base import Optimizer
from fastmom.optim.rmsprop import Adagrad, RMSprop
from fastmom.optim.sgd import QHM, SGD, AggMo
from fastmom.optim.sign import Lion, Signum

OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in (
    SGD, QHM, AggMo, Signum, Lion, RMSprop, Adagrad, Adam, AdamW, NAdam)}

__all__ = ["OPTIMIZERS", "QHM", "SGD", "Adagrad", "Adam", "AdamW", "AggMo", "Lion", "NAdam",
           "Optimizer", "RMSprop", "Signum"]
