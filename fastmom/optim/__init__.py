"""Optimizers: `base` validates, binds and steps; one short file per family holds the rules.

Each family lists its optimizers in ``__all__``; everything else finds them by that or by subclass.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from fastmom.optim.base import Optimizer as Optimizer

if TYPE_CHECKING:
    from fastmom.optim.adafactor import *
    from fastmom.optim.adam import *
    from fastmom.optim.adam_variants import *
    from fastmom.optim.muon import *
    from fastmom.optim.rmsprop import *
    from fastmom.optim.sgd import *
    from fastmom.optim.sign import *
    from fastmom.optim.trust import *
    from fastmom.optim.yellowfin import *

    OPTIMIZERS: dict[str, type[Optimizer]]      # all, by name in lower case

# A name is looked for in one after the other, so that a program loads few of them.
FAMILIES = ("sgd", "adam", "rmsprop", "sign", "trust", "adam_variants", "muon", "adafactor",
            "yellowfin")


def subclasses(cls: type[Optimizer]) -> Iterator[type[Optimizer]]:
    """Yield the classes below this one, in the order of their definition."""
    for own in cls.__subclasses__():
        yield own
        yield from subclasses(own)


if not TYPE_CHECKING:       # where every name would seem to exist
    def __getattr__(name: str) -> object:
        globals()[name] = value = _find(name)
        return value

    def __dir__() -> list[str]:
        return sorted({*__getattr__("__all__"), *FAMILIES, *globals()})


def _find(name: str) -> object:
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    names = ["Optimizer"]
    for family in FAMILIES:
        module = import_module(f"{__name__}.{family}")
        if name == family:
            return module
        if name in module.__all__:
            return getattr(module, name)
        names += module.__all__
    if name == "__all__":
        return names
    if name == "OPTIMIZERS":
        return dict(sorted((cls.__name__.lower(), cls) for cls in subclasses(Optimizer)))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
