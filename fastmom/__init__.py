"""fastmom: momentum optimizers for NumPy arrays at the speed of memory."""

from importlib import import_module
from types import ModuleType

from fastmom.config import get_flush_subnormals, set_flush_subnormals, show_config
from fastmom.optim import (
    QHM,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    AggMo,
    Lion,
    NAdam,
    Optimizer,
    RMSprop,
    Signum,
)
from fastmom.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "QHM",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AggMo",
    "Lion",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "Signum",
    "data",
    "get_flush_subnormals",
    "get_num_threads",
    "nn",
    "num_threads",
    "set_flush_subnormals",
    "set_num_threads",
    "show_config",
]


def __getattr__(name: str) -> ModuleType:
    if name in ("data", "nn"):      # imported when first used: `import fastmom` stays quick
        return import_module(f"fastmom.{name}")
    raise AttributeError(f"module 'fastmom' has no attribute {name!r}")
