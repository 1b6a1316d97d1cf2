"""Networks on NumPy that train with fastmom's optimizers."""

from fastmom.nn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    JSONLogger,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    MomentumScheduler,
    Progress,
    Scheduler,
)
from fastmom.nn.layers import Dense, Dropout, Flatten, Layer
from fastmom.nn.model import Sequential

__all__ = ["CSVLogger", "Callback", "Dense", "Dropout", "EarlyStopping", "Flatten", "History",
           "JSONLogger", "LambdaCallback", "Layer", "LearningRateScheduler", "ModelCheckpoint",
           "MomentumScheduler", "Progress", "Scheduler", "Sequential"]
