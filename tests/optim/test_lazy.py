"""A program loads the families of optimizers that it uses."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import pytest

import fastmom as fm
from fastmom.optim import FAMILIES, OPTIMIZERS

PROGRAM = """
import json, sys, numpy as np, fastmom as fm
w, g = np.ones((2, 10), np.float32)
fm.{name}([w], lr=0.1).step([g])
print(json.dumps([m.removeprefix("fastmom.optim.") for m in sys.modules]))
"""


@pytest.mark.parametrize(("name", "loaded"), [("SGD", {"sgd"}), ("AdamW", {"sgd", "adam"})])
def test_few_are_loaded(name: str, loaded: set[str]) -> None:
    out = subprocess.run([sys.executable, "-c", PROGRAM.format(name=name)], check=True,
                         capture_output=True, text=True).stdout
    modules = set(json.loads(out))
    assert modules & set(FAMILIES) == loaded
    assert not modules & {"fastmom.nn", "fastmom.data", "state", "torch_state", "reference",
                          "fastmom.checkpoint"}


def test_all_are_found() -> None:
    families = [import_module(f"fastmom.optim.{family}") for family in FAMILIES]
    names = [name for family in families for name in family.__all__]
    assert sorted(names) == sorted(cls.__name__ for cls in OPTIMIZERS.values())
    assert set(names) < set(fm.optim.__all__) < set(dir(fm.optim))
    assert set(names) < set(fm.__all__)
    for family, module in zip(FAMILIES, families, strict=True):
        assert getattr(fm.optim, family) is module


@pytest.mark.parametrize("name", ["Adamw", "sgd", "Iterator", "FAMILIES", "subclasses", "_find"])
def test_no_other_names(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'fastmom' has no attribute '{name}'"):
        getattr(fm, name)
    with pytest.raises(AttributeError, match=r"'fastmom.optim' has no attribute 'SGDD'"):
        _ = fm.optim.SGDD  # type: ignore[attr-defined]
