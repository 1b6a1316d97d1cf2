"""The examples in the docstrings."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import fastmom

MODULES = [m.name for m in pkgutil.walk_packages(fastmom.__path__, "fastmom.")
           if not m.name.endswith("__main__")]


OF_OTHERS = "fastmom.integrations.", "fastmom.playground."      # each needs a library


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name.startswith(OF_OTHERS):
        try:
            import_module(name)
        except ImportError as error:
            pytest.skip(str(error))
    assert doctest.testmod(import_module(name)).failed == 0


def test_some_examples_were_found() -> None:
    finder = doctest.DocTestFinder()
    assert sum(bool(test.examples) for name in MODULES
               if not name.startswith(OF_OTHERS)
               for test in finder.find(import_module(name))) >= 5
