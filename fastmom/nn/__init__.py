"""Networks on NumPy that train with fastmom's optimizers."""

from fastmom.nn.callbacks import Callback, History, Progress
from fastmom.nn.layers import Dense, Dropout, Flatten, Layer
from fastmom.nn.model import Sequential

__all__ = ["Callback", "Dense", "Dropout", "Flatten", "History", "Layer", "Progress", "Sequential"]
