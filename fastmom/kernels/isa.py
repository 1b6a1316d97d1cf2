"""The choice of an instruction set: the best this CPU can run, or the one FASTMOM_ISA names."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES

from fastmom.kernels.loops import in_use
from fastmom.kernels.loops import use as use_table
from fastmom.kernels.system import usable_isas

__all__ = ["BUILDS", "available", "built", "choose", "in_use", "use"]

BUILDS = ("baseline", "avx2", "avx512")      # as in setup.py


def built() -> tuple[str, ...]:
    """Return the builds that are installed."""
    here = os.listdir(os.path.dirname(__file__))
    return tuple(name for name in BUILDS
                 if any(f"loops_{name}{suffix}" in here for suffix in EXTENSION_SUFFIXES))


def available() -> tuple[str, ...]:
    """Return the builds that are installed and that this machine can run, best last."""
    return tuple(name for name in built() if name in usable_isas())


def use(name: str) -> None:
    """Run this build from the next call on, in every optimizer and network."""
    if name not in available():
        raise ValueError(f"instruction set {name!r} cannot be used on this machine or was not "
                         f"built; allowed: {', '.join(available())}")
    use_table(import_module(f"fastmom.kernels.loops_{name}").table)


def choose() -> None:
    """Take FASTMOM_ISA if it is set, else the best build available."""
    wanted = os.environ.get("FASTMOM_ISA")
    try:
        use(wanted or available()[-1])
    except ValueError as error:
        raise ValueError(f"FASTMOM_ISA: {error}") from None


choose()
