"""Coefficients have the same names in the loop and in the class."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastmom
from fastmom.kernels import coefficients
from fastmom.kernels.loops_baseline import rules
from fastmom.optim.sgd import aggmo, sgd


def renamed(*, lr: float, weight_decay: float, keep: float) -> None: ...
def reordered(*, wd: float, lr: float, keep: float) -> None: ...
def shortened(*, lr: float, wd: float) -> None: ...
def positional(lr: float, wd: float, keep: float) -> None: ...


@pytest.mark.parametrize("declaration", [renamed, reordered, shortened, positional])
def test_other_names_than_the_loops(declaration: object) -> None:
    with pytest.raises(ImportError, match=r"the loop 'sgd' has lr, wd, keep"):
        coefficients("sgd")(declaration)        # type: ignore[arg-type]


def test_no_such_rule() -> None:
    with pytest.raises(ImportError, match="no rule 'lookahead'; they have sgd, momentum,"):
        coefficients("lookahead")


def test_a_row_is_the_rules_number_and_coefficients_in_the_loops_order() -> None:
    assert sgd(keep=3.0, wd=2.0, lr=1.0) == ([*rules].index("sgd"), 1.0, 2.0, 3.0)
    assert aggmo(step=1.0, wd=2.0, count=1, m0=3.0)[1:] == (1.0, 2.0, 1, 3.0, 0.0, 0.0, 0.0)
    with pytest.raises(TypeError, match="learning_rate"):
        sgd(learning_rate=1.0, wd=2.0, keep=3.0)        # type: ignore[call-arg]


def test_a_class_that_disagrees_with_its_loop_cannot_be_imported(tmp_path: Path) -> None:
    """Found when the optimizers are imported, not when one steps."""
    source = Path(fastmom.__file__).parent / "optim" / "sign.py"
    text, count = re.subn(r"k1: float, b2: float", "b2: float, k1: float", source.read_text())
    assert count == 1
    (tmp_path / "changed.py").write_text(text)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import changed"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert ("ImportError: changed.sign names the coefficients b1, b2, k1, k2, lr, keep; the loop "
            "'sign' has b1, k1, b2, k2, lr, keep") in done.stderr
