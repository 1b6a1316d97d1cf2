"""fastmom: momentum optimizers for NumPy arrays at the speed of memory."""

from importlib import import_module
from typing import TYPE_CHECKING

from fastmom.config import get_flush_subnormals, set_flush_subnormals, show_config
from fastmom.threads import get_num_threads, num_threads, set_num_threads

if TYPE_CHECKING:
    from fastmom import checkpoint as checkpoint
    from fastmom import data as data
    from fastmom import landscape as landscape
    from fastmom import nn as nn
    from fastmom import optim as optim
    from fastmom import plot as plot
    from fastmom.optim import (
        LAMB,
        LARS,
        QHM,
        SGD,
        Adagrad,
        Adam,
        AdamW,
        AggMo,
        Lion,
        Muon,
        NAdam,
        Optimizer,
        RMSprop,
        Signum,
    )
    from fastmom.optim import schedules as schedules
    from fastmom.optim.accumulation import GradientAccumulation as GradientAccumulation
    from fastmom.optim.ema import EMA as EMA
    from fastmom.smoothing import ExponentialSmoothing as ExponentialSmoothing
    from fastmom.smoothing import smooth as smooth

__version__ = "0.1.0"

__all__ = [
    "EMA",
    "LAMB",
    "LARS",
    "QHM",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AggMo",
    "ExponentialSmoothing",
    "GradientAccumulation",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "Signum",
    "checkpoint",
    "data",
    "get_flush_subnormals",
    "get_num_threads",
    "landscape",
    "nn",
    "num_threads",
    "plot",
    "schedules",
    "set_flush_subnormals",
    "set_num_threads",
    "show_config",
    "smooth",
]

# Where the rest is imported from when it is first used: `import fastmom` stays quick.
LAZY = {
    "EMA": "fastmom.optim.ema",
    "ExponentialSmoothing": "fastmom.smoothing",
    "GradientAccumulation": "fastmom.optim.accumulation",
    "checkpoint": "fastmom.checkpoint",
    "data": "fastmom.data",
    "landscape": "fastmom.landscape",
    "nn": "fastmom.nn",
    "optim": "fastmom.optim",
    "plot": "fastmom.plot",
    "schedules": "fastmom.optim.schedules",
    "smooth": "fastmom.smoothing",
}


if not TYPE_CHECKING:       # where every name would seem to exist
    def __getattr__(name: str) -> object:
        if name not in __all__ and name not in LAZY:
            raise AttributeError(f"module 'fastmom' has no attribute {name!r}")
        module = import_module(LAZY.get(name, "fastmom.optim"))
        value = globals()[name] = getattr(module, name, module)
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
