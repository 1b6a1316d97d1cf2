"""Optimizers: `base` validates, binds and steps; one short file per family holds the rules."""

from collections.abc import Iterator

from fastmom.optim.adam import Adam, AdamW, NAdam
from fastmom.optim.base import Optimizer
from fastmom.optim.muon import Muon
from fastmom.optim.rmsprop import Adagrad, RMSprop
from fastmom.optim.sgd import QHM, SGD, AggMo
from fastmom.optim.sign import Lion, Signum
from fastmom.optim.trust import LAMB, LARS


def subclasses(cls: type[Optimizer]) -> Iterator[type[Optimizer]]:
    """Yield the classes below this one, in the order of their definition."""
    for own in cls.__subclasses__():
        yield own
        yield from subclasses(own)


OPTIMIZERS: dict[str, type[Optimizer]] = dict(sorted(
    (cls.__name__.lower(), cls) for cls in subclasses(Optimizer)))

__all__ = ["LAMB", "LARS", "OPTIMIZERS", "QHM", "SGD", "Adagrad", "Adam", "AdamW", "AggMo", "Lion",
           "Muon", "NAdam", "Optimizer", "RMSprop", "Signum"]
