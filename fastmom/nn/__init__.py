"""Networks on NumPy that train with fastmom's optimizers."""

from fastmom.nn.activations import LeakyReLU
from fastmom.nn.callbacks import (
    Callback,
    CSVLogger,
    Diverged,
    DivergenceGuard,
    EarlyStopping,
    History,
    JSONLogger,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    MomentumScheduler,
    Progress,
    ReduceLROnPlateau,
    Scheduler,
    TerminateOnNaN,
)
from fastmom.nn.dense import Dense
from fastmom.nn.initializers import Constant
from fastmom.nn.inputs import to_categorical
from fastmom.nn.layer_base import Layer, Weight
from fastmom.nn.layers import Activation, Dropout, Flatten, Rescaling
from fastmom.nn.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from fastmom.nn.model import Sequential
from fastmom.nn.normalization import BatchNorm
from fastmom.nn.normalization import BatchNorm as BatchNormalization
from fastmom.nn.stack import Input

__all__ = ["Activation", "BatchNorm", "BatchNormalization", "BinaryCrossentropy", "CSVLogger",
           "Callback", "CategoricalCrossentropy", "Constant", "Dense", "Diverged",
           "DivergenceGuard", "Dropout", "EarlyStopping", "Flatten", "History", "Huber", "Input",
           "JSONLogger", "LambdaCallback", "Layer", "LeakyReLU", "LearningRateScheduler", "Loss",
           "MeanAbsoluteError", "MeanSquaredError", "ModelCheckpoint", "MomentumScheduler",
           "Progress", "ReduceLROnPlateau", "Rescaling", "Scheduler", "Sequential",
           "SparseCategoricalCrossentropy", "TerminateOnNaN", "Weight", "to_categorical"]


def __getattr__(name: str) -> object:
    """Say what is here under another name, or nowhere."""
    from fastmom.nn.elsewhere import hint
    raise AttributeError(f"module 'fastmom.nn' has no attribute {name!r}{hint(name, __all__)}")
