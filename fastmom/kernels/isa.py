"""Which build of the loops runs: the best this CPU can, or the one FASTMOM_ISA names."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES

from fastmom.kernels import loops, system

BUILDS = ("baseline", "avx2", "avx512")      # as in setup.py

_in_use = ""


def built() -> tuple[str, ...]:
    """Builds that are installed."""
    here = os.listdir(os.path.dirname(__file__))
    return tuple(name for name in BUILDS
                 if any(f"loops_{name}{suffix}" in here for suffix in EXTENSION_SUFFIXES))


def available() -> tuple[str, ...]:
    """Builds that are installed and that this CPU and operating system can run, best last."""
    return tuple(name for name in built() if name in system.usable_isas())


def use(name: str) -> None:
    """Run this build from the next step on, in every optimizer and network."""
    global _in_use
    if name not in available():
        raise ValueError(f"instruction set {name!r} cannot be used on this machine or was not "
                         f"built; allowed: {', '.join(available())}")
    loops.use(import_module(f"fastmom.kernels.loops_{name}").table)
    if "fastmom.kernels.layers" in sys.modules:     # else it asks when it is imported
        import_module("fastmom.kernels.layers").use(name)
    _in_use = name


def in_use() -> str:
    """The build the next step runs."""
    return _in_use


def choose() -> None:
    """Take FASTMOM_ISA if it is set, else the best build available."""
    wanted = os.environ.get("FASTMOM_ISA")
    try:
        use(wanted or available()[-1])
    except ValueError as error:
        raise ValueError(f"FASTMOM_ISA: {error}") from None


choose()
