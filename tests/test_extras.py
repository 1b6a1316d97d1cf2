"""Optional libraries: the hint works for every way of installing fastmom."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fastmom.extras import need


def test_returns_the_module() -> None:
    assert need("json.decoder", "plot", "figures") is json.decoder


@pytest.mark.parametrize("module", ["pooch", "pooch.utils"])
def test_a_missing_library(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError) as raised:
        need(module, "data", "downloads")
    for hint in ("downloads need pooch", "pip install pooch ", 'pip install "fastmom[data]"',
                 'pip install -e ".[data]"'):
        assert hint in str(raised.value)


def test_the_name_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn.base", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="estimators need scikit-learn: pip install scikit-learn"):
        need("sklearn.base", "sklearn", "estimators", "scikit-learn")


def test_a_library_that_is_broken_says_so_itself(tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("import missing_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="No module named 'missing_dependency'"):
        need("broken_library", "plot", "figures")
