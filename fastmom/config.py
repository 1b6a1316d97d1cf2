"""Facts of this installation and machine, and the switch for subnormal numbers."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from fastmom import threads
from fastmom.kernels import isa, system


def get_flush_subnormals() -> bool:
    """Return whether the kernels take subnormal numbers for zero."""
    return system.get_flush()


def set_flush_subnormals(on: bool) -> None:
    """Let the kernels take subnormal numbers for zero, or not, from the next step on.

    On, the default, keeps a step from slowing down tenfold once velocities decay below 1e-38. It
    holds inside the kernels alone; the mode of the calling thread is never changed.

    Raises
    ------
    TypeError
        If `on` is not True or False.

    Examples
    --------
    >>> import fastmom as fm
    >>> fm.set_flush_subnormals(False)
    >>> fm.get_flush_subnormals()
    False
    >>> fm.set_flush_subnormals(True)
    """
    if not isinstance(on, (bool, np.bool_)):
        raise TypeError(f"on must be True or False, not {on!r}")
    system.set_flush(bool(on))


def show_config() -> None:
    """Print version, builds, threads and why so many, OpenMP, BLAS and subnormal handling."""
    for name, value in config().items():
        print(f"{name:12} {value}")


def config() -> dict[str, str]:
    """Return the entries that `show_config` prints, by name."""
    import platform  # slow to import, and used here alone
    from importlib.metadata import version

    return {
        "fastmom": version("fastmom"),
        "python": f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}",
        "numpy": np.__version__,
        "isa builds": ", ".join(_isa_build(name) for name in isa.BUILDS),
        "openmp": _openmp(),
        "threads": _threads(),
        "blas": _blas(),
        "subnormals": _subnormals(),
    }


def _isa_build(name: str) -> str:
    if name not in isa.built():
        return f"{name} (not built)"
    if name not in isa.available():
        return f"{name} (not supported by this CPU)"
    return f"{name} (in use)" if name == isa.in_use() else name


def _openmp() -> str:
    if not system.openmp:
        return "none: built without OpenMP, every step is serial"
    return f"{os.path.basename(system.openmp_library) or 'runtime'}, specification {system.openmp}"


def _threads() -> str:
    limits = system.limits()
    count = threads.get_num_threads()
    why = [reason for reason, limit in limits.items() if limit <= count]
    rest = [f"{reason}: {limit}" for reason, limit in limits.items() if reason not in why]
    return f"{count}, limited by {' and '.join(why)}" + (f" ({'; '.join(rest)})" if rest else "")


def _blas() -> str:
    dependencies: Any = np.show_config(mode="dicts")
    blas = dependencies.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _subnormals() -> str:
    if not system.flush_register:
        return "computed with: this processor has no switch that fastmom knows"
    if not get_flush_subnormals():
        return "computed with, by set_flush_subnormals(False)"
    return f"flushed to zero inside the kernels ({system.flush_register})"
