"""What watches and steers a training run, under the names and with the hooks of Keras."""

from fastmom.nn.callbacks.base import Callback, CallbackList, LambdaCallback, overrides, validate
from fastmom.nn.callbacks.checkpoints import ModelCheckpoint
from fastmom.nn.callbacks.history import Figures, History
from fastmom.nn.callbacks.logs import CSVLogger, JSONLogger
from fastmom.nn.callbacks.progress import Progress, figures_line
from fastmom.nn.callbacks.schedule import LearningRateScheduler, MomentumScheduler, Scheduler
from fastmom.nn.callbacks.stopping import EarlyStopping

__all__ = ["CSVLogger", "Callback", "CallbackList", "EarlyStopping", "Figures", "History",
           "JSONLogger", "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint",
           "MomentumScheduler", "Progress", "Scheduler", "figures_line", "overrides", "validate"]
