"""fastmom: momentum optimizers for NumPy arrays at the speed of memory."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmom import checkpoint as checkpoint
    from fastmom import data as data
    from fastmom import landscape as landscape
    from fastmom import nn as nn
    from fastmom import optim as optim
    from fastmom import plot as plot
    from fastmom.config import get_flush_subnormals as get_flush_subnormals
    from fastmom.config import set_flush_subnormals as set_flush_subnormals
    from fastmom.config import show_config as show_config
    from fastmom.kernels.row_grads import RowGrad as RowGrad
    from fastmom.kernels.sums import WeightedSum as WeightedSum
    from fastmom.nn.callbacks.guard import DivergenceGuard as DivergenceGuard
    from fastmom.optim import LAMB as LAMB
    from fastmom.optim import LARS as LARS
    from fastmom.optim import QHM as QHM
    from fastmom.optim import SGD as SGD
    from fastmom.optim import AdaBelief as AdaBelief
    from fastmom.optim import Adadelta as Adadelta
    from fastmom.optim import Adafactor as Adafactor
    from fastmom.optim import Adagrad as Adagrad
    from fastmom.optim import Adam as Adam
    from fastmom.optim import Adamax as Adamax
    from fastmom.optim import AdamW as AdamW
    from fastmom.optim import Adan as Adan
    from fastmom.optim import AggMo as AggMo
    from fastmom.optim import Lion as Lion
    from fastmom.optim import Muon as Muon
    from fastmom.optim import NAdam as NAdam
    from fastmom.optim import NovoGrad as NovoGrad
    from fastmom.optim import Optimizer as Optimizer
    from fastmom.optim import RAdam as RAdam
    from fastmom.optim import RMSprop as RMSprop
    from fastmom.optim import Rprop as Rprop
    from fastmom.optim import Signum as Signum
    from fastmom.optim import YellowFin as YellowFin
    from fastmom.optim import Yogi as Yogi
    from fastmom.optim import schedules as schedules
    from fastmom.optim.accumulation import GradientAccumulation as GradientAccumulation
    from fastmom.optim.ema import EMA as EMA
    from fastmom.smoothing import ExponentialSmoothing as ExponentialSmoothing
    from fastmom.smoothing import smooth as smooth
    from fastmom.threads import get_num_threads as get_num_threads
    from fastmom.threads import num_threads as num_threads
    from fastmom.threads import set_num_threads as set_num_threads
    from fastmom.tuning import tune as tune

__version__ = "0.1.0"

# The module that a name is imported from when it is first used; optimizers are in fastmom.optim. So
# `import fastmom` is quick, and the program can catch what happens while the rest loads.
LAZY = {
    "DivergenceGuard": "fastmom.nn.callbacks.guard",
    "EMA": "fastmom.optim.ema",
    "ExponentialSmoothing": "fastmom.smoothing",
    "GradientAccumulation": "fastmom.optim.accumulation",
    "RowGrad": "fastmom.kernels.row_grads",
    "WeightedSum": "fastmom.kernels.sums",
    "checkpoint": "fastmom.checkpoint",
    "data": "fastmom.data",
    "get_flush_subnormals": "fastmom.config",
    "get_num_threads": "fastmom.threads",
    "landscape": "fastmom.landscape",
    "nn": "fastmom.nn",
    "num_threads": "fastmom.threads",
    "optim": "fastmom.optim",
    "plot": "fastmom.plot",
    "schedules": "fastmom.optim.schedules",
    "set_flush_subnormals": "fastmom.config",
    "set_num_threads": "fastmom.threads",
    "show_config": "fastmom.config",
    "smooth": "fastmom.smoothing",
    "tune": "fastmom.tuning",
}


if not TYPE_CHECKING:       # where every name would seem to exist
    def __getattr__(name: str) -> object:
        if name in LAZY:
            module = import_module(LAZY[name])
            value = getattr(module, name, module)
        elif name.startswith("_") and name != "__all__":
            raise AttributeError(f"module 'fastmom' has no attribute {name!r}")
        else:
            optim = import_module("fastmom.optim")
            if name == "__all__":
                value = sorted({*LAZY, *optim.__all__})
            else:       # `optim` loads families of optimizers until one has the name
                value = getattr(optim, name, None)
                if not (isinstance(value, type) and issubclass(value, optim.Optimizer)):
                    raise AttributeError(f"module 'fastmom' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*__getattr__("__all__"), *(n for n in globals() if n.startswith("__"))})
