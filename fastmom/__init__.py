"""fastmom: momentum optimizers for NumPy arrays at the speed of memory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastmom.config import get_flush_subnormals, set_flush_subnormals, show_config
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
from fastmom.threads import get_num_threads, num_threads, set_num_threads

if TYPE_CHECKING:
    from fastmom import checkpoint as checkpoint
    from fastmom import data as data
    from fastmom import landscape as landscape
    from fastmom import nn as nn
    from fastmom import plot as plot
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


# Imported when first used: `import fastmom` stays quick.
LAZY = {
    "checkpoint": "fastmom.checkpoint",
    "EMA": "fastmom.optim.ema",
    "GradientAccumulation": "fastmom.optim.accumulation",
    "data": "fastmom.data",
    "landscape": "fastmom.landscape",
    "nn": "fastmom.nn",
    "plot": "fastmom.plot",
    "schedules": "fastmom.optim.schedules",
    "ExponentialSmoothing": "fastmom.smoothing",
    "smooth": "fastmom.smoothing",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module 'fastmom' has no attribute {name!r}")
    module = import_module(LAZY[name])
    return getattr(module, name) if hasattr(module, name) else module
