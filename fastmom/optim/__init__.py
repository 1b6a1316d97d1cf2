"""Optimizers: `base` validates, binds and steps; one short file per family holds the rules.

Each family lists its optimizers in ``__all__``; everything else finds them by that or by subclass.
"""

from collections.abc import Iterator

from fastmom.optim import adafactor, adam, adam_variants, muon, rmsprop, sgd, sign, trust
from fastmom.optim.adafactor import *
from fastmom.optim.adam import *
from fastmom.optim.adam_variants import *
from fastmom.optim.base import Optimizer
from fastmom.optim.muon import *
from fastmom.optim.rmsprop import *
from fastmom.optim.sgd import *
from fastmom.optim.sign import *
from fastmom.optim.trust import *

__all__ = ["Optimizer", *adafactor.__all__, *adam.__all__, *adam_variants.__all__, *muon.__all__,
           *rmsprop.__all__, *sgd.__all__, *sign.__all__, *trust.__all__]


def subclasses(cls: type[Optimizer]) -> Iterator[type[Optimizer]]:
    """Yield the classes below this one, in the order of their definition."""
    for own in cls.__subclasses__():
        yield own
        yield from subclasses(own)


OPTIMIZERS: dict[str, type[Optimizer]] = dict(sorted(
    (cls.__name__.lower(), cls) for cls in subclasses(Optimizer)))
