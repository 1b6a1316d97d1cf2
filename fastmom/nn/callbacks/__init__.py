"""Callbacks: they watch and steer a training run, under the names and with the hooks of Keras."""

from fastmom.nn.callbacks.aliased import Metrics
from fastmom.nn.callbacks.base import Callback, CallbackList, LambdaCallback, overrides, validate
from fastmom.nn.callbacks.checkpoints import ModelCheckpoint
from fastmom.nn.callbacks.divergence import TerminateOnNaN
from fastmom.nn.callbacks.guard import Diverged, DivergenceGuard
from fastmom.nn.callbacks.history import History
from fastmom.nn.callbacks.logs import CSVLogger, JSONLogger
from fastmom.nn.callbacks.plateau import ReduceLROnPlateau
from fastmom.nn.callbacks.progress import Progress, metrics_line
from fastmom.nn.callbacks.schedule import LearningRateScheduler, MomentumScheduler, Scheduler
from fastmom.nn.callbacks.stopping import EarlyStopping

__all__ = ["CSVLogger", "Callback", "CallbackList", "Diverged", "DivergenceGuard",
           "EarlyStopping", "History", "JSONLogger", "LambdaCallback", "LearningRateScheduler",
           "Metrics", "ModelCheckpoint", "MomentumScheduler", "Progress", "ReduceLROnPlateau",
           "Scheduler", "TerminateOnNaN", "metrics_line", "overrides", "validate"]
