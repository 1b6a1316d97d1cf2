"""Instruction-set builds, their choice at import, subnormals, and what show_config says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.config import config
from fastmom.kernels import isa, system

TINY = np.float32(1e-39)        # subnormal


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", isa.available())
def test_environment_chooses(name: str) -> None:
    done = python("from fastmom.kernels import isa; print(isa.in_use())", FASTMOM_ISA=name)
    assert done.stdout.strip() == name


def test_best_is_the_default() -> None:
    done = python("from fastmom.kernels import isa; print(isa.in_use())", FASTMOM_ISA="")
    assert done.stdout.strip() == isa.available()[-1]


def test_unusable_choice_raises() -> None:
    done = python("import fastmom; fastmom.SGD", FASTMOM_ISA="mmx")
    assert done.returncode == 1
    assert "FASTMOM_ISA: instruction set 'mmx' cannot be used" in done.stderr
    with pytest.raises(ValueError, match="allowed: baseline"):
        isa.use("mmx")


def test_sources_that_are_not_built_say_so(tmp_path: Path) -> None:
    here = Path(fm.__file__).parent
    shutil.copytree(here, tmp_path / "fastmom", ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    done = subprocess.run([sys.executable, "-c", "import fastmom; fastmom.SGD"], cwd=tmp_path,
                          text=True, capture_output=True,
                          env={**os.environ, "PYTHONSAFEPATH": ""})
    assert done.returncode == 1
    assert f"the sources in {tmp_path / 'fastmom' / 'kernels'} are not built" in done.stderr
    assert "pip install -e ." in done.stderr


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    fm.show_config()
    printed = capsys.readouterr().out
    for name, value in config().items():
        assert name in printed
        assert value in printed
    assert f"{isa.in_use()} (in use)" in printed
    assert printed.count("\n") == len(config())


def step_with_velocity(value: Any, parts: int) -> Any:
    n = 10_000
    p, g = np.zeros(n, np.float32), np.zeros(n, np.float32)
    optimizer = fm.SGD([p], lr=1.0, momentum=0.5)
    assert optimizer._engine is not None
    optimizer._engine.parts = parts
    optimizer.state[0]["velocity"][:] = value
    optimizer.step([g])
    return optimizer.state[0]["velocity"]


@pytest.mark.skipif(not system.flush_register, reason="this processor has no known switch")
@pytest.mark.parametrize("name", isa.available())
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_subnormals_are_flushed_on_every_thread(name: str, parts: int) -> None:
    before = isa.in_use()
    isa.use(name)
    try:
        assert not step_with_velocity(TINY, parts).any()
        fm.set_flush_subnormals(False)
        np.testing.assert_array_equal(step_with_velocity(TINY, parts), TINY / 2)
        fm.set_flush_subnormals(True)
        # what only becomes subnormal is flushed as well
        smallest = np.finfo(np.float32).smallest_normal
        assert not step_with_velocity(smallest, parts).any()
    finally:
        fm.set_flush_subnormals(True)
        isa.use(before)


def test_floating_point_mode_of_the_caller_stays() -> None:
    for parts in (1, 2, 3):
        step_with_velocity(TINY, parts)
        half = np.full(100, TINY) * np.float32(0.5)
        assert (half > 0).all()         # this thread still computes with subnormals
    with np.errstate(all="raise"):      # and no flag of the kernel's is left behind
        step_with_velocity(np.float32(3e38), 1)
        np.float32(1) / np.float32(3)


@pytest.mark.parametrize("on", [0, 1, None, "yes"])
def test_flush_switch_takes_a_bool(on: Any) -> None:
    with pytest.raises(TypeError, match="on must be True or False"):
        fm.set_flush_subnormals(on)
    assert fm.get_flush_subnormals()
