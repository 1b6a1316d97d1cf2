"""The types that a user's script sees, and the stubs of the compiled modules."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

import fastmom

SCRIPT = Path(__file__).with_name("user_script.py")

# Cython's own; and the name of a caught exception, which is gone when its clause ends
IGNORED = r"""
.*\.__(pyx_capi|test)__
.*\.__(reduce|setstate)_cython__
fastmom\.kernels\.error
"""


def run(directory: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-m", *arguments], cwd=directory,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_users_script() -> None:
    results = runpy.run_path(str(SCRIPT))
    assert results["moved"]
    assert results["distance"] < 1


def test_type_checkers_find_the_package() -> None:
    """They look for a folder, or a path in a .pth file, and run no import hook."""
    spec = PathFinder.find_spec("fastmom")
    assert spec is not None
    assert spec.origin == fastmom.__file__
    assert Path(fastmom.__file__).with_name("py.typed").is_file()


@pytest.mark.slow
def test_stubs_of_compiled_modules(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "ignored").write_text(IGNORED)
    run(tmp_path, "mypy.stubtest", "--allowlist", "ignored", "--ignore-unused-allowlist",
        "fastmom.kernels")
