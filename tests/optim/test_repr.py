"""The representation of optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim import OPTIMIZERS
from fastmom.optim.schedules import Constant

SHOWN: list[tuple[fm.Optimizer, str]] = [
    (fm.SGD(), "SGD(lr=0.01, momentum=0.0)"),
    (fm.SGD(lr=0.01, decay=1e-6, momentum=0.9, nesterov=True),
     "SGD(lr=0.01, momentum=0.9, decay=1e-06, nesterov=True)"),
    (fm.SGD(lr=Constant(0.5)), "SGD(lr=Constant(value=0.5), momentum=0.0)"),
    (fm.Adam(beta1=0.5, clip_norm=1.0), "Adam(lr=0.001, beta1=0.5, clip_norm=1.0)"),
]


@pytest.mark.parametrize(("optimizer", "shown"), SHOWN, ids=lambda row: str(row)[:40])
def test_repr(optimizer: fm.Optimizer, shown: str) -> None:
    assert repr(optimizer) == shown
    bound: Any = type(optimizer)([np.zeros(3)])
    assert repr(bound).startswith(f"{type(optimizer).__name__}(lr=")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lr_and_momentum_always_stand(name: str) -> None:
    optimizer: Any = OPTIMIZERS[name]()
    start = f"{type(optimizer).__name__}(lr={optimizer.lr!r}"
    if hasattr(optimizer, "momentum"):
        start += f", momentum={optimizer.momentum!r}"
    assert repr(optimizer).startswith(start)
