"""fastmom: momentum optimizers for NumPy arrays at the speed of memory."""

from fastmom.optim import SGD, Optimizer

__all__ = ["SGD", "Optimizer"]
