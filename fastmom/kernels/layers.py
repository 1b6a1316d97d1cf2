"""What a network's layers call: the functions of `layers.pxi`, in the build that is in use."""

from __future__ import annotations

from importlib import import_module

from fastmom.kernels import isa


def use(build: str) -> None:
    """Take the functions of this instruction-set build, from the next call on."""
    module = import_module(f"fastmom.kernels.layers_{build}")
    globals().update((name, value) for name, value in vars(module).items() if name in NAMES)


NAMES = ("Nonzeros", "activation_gradient", "bias_activation", "count_hits", "dropout",
         "dropout_gradient", "gather", "gelu", "is_sparse", "random_words", "softmax_cross_entropy")
use(isa.in_use())
