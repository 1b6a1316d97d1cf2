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


def test_groups_that_differ() -> None:
    a, b = np.zeros(3), np.zeros(2)
    groups: Any = [{"params": [a], "lr": 0.5}, {"params": [b], "maximize": True}]
    assert repr(fm.SGD(groups, lr=0.1, momentum=0.9, clip_norm=1.0)) == (
        "SGD(lr=[0.5, 0.1], momentum=0.9, clip_norm=1.0, maximize=[False, True])")
    assert repr(fm.Adam([{"params": [a]}, {"params": [b]}])) == "Adam(lr=0.001)"


@pytest.mark.parametrize(("name", "hint"), [
    ("zero_grad", ": gradients are yours"), ("learning_rate", ": it is lr here"),
    ("apply_gradients", ": call step(grads)"), ("xyzzy", "'xyzzy'")])
def test_names_of_other_libraries(name: str, hint: str) -> None:
    with pytest.raises(AttributeError) as raised:
        getattr(fm.SGD(), name)
    assert str(raised.value).startswith(f"'SGD' object has no attribute '{name}'")
    assert hint in str(raised.value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lr_and_momentum_always_stand(name: str) -> None:
    optimizer: Any = OPTIMIZERS[name]()
    start = f"{type(optimizer).__name__}(lr={optimizer.lr!r}"
    if hasattr(optimizer, "momentum"):
        start += f", momentum={optimizer.momentum!r}"
    assert repr(optimizer).startswith(start)
