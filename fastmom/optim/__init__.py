"""Optimizers: `base` validates, binds and steps; one short file per family holds the rules."""

from fastmom.optim.adam import Adam, AdamW, NAdam
from fastmom.optim.base import Optimizer
from fastmom.optim.muon import Muon
from fastmom.optim.rmsprop import Adagrad, RMSprop
from fastmom.optim.sgd import QHM, SGD, AggMo
from fastmom.optim.sign import Lion, Signum
from fastmom.optim.trust import LAMB, LARS

OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in (
    SGD, QHM, AggMo, Signum, Lion, RMSprop, Adagrad, Adam, AdamW, NAdam, LARS, LAMB, Muon)}

__all__ = ["LAMB", "LARS", "OPTIMIZERS", "QHM", "SGD", "Adagrad", "Adam", "AdamW", "AggMo", "Lion",
           "Muon", "NAdam", "Optimizer", "RMSprop", "Signum"]
