"""What all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def leave_checkout() -> None:
    """Test the installed package, in this process and its children, not the sources around it.

    `python -m pytest` puts the directory it runs in before everything, as `python -c` does.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    others = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    if PathFinder.find_spec("fastmom", others):     # else it is installed with -e
        sys.path[:] = others


leave_checkout()

# Processes of pytest-xdist share the cores: threads that spin while they wait would take them away
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# The README and its figures are in a source checkout alone, not where an installed wheel is tested
if not (ROOT / "bench").is_dir():
    collect_ignore = ["test_readme.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the first case of each test that is not slow: ``pytest -m quick`` runs these."""
    seen = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test not in seen and item.get_closest_marker("slow") is None:
            item.add_marker("quick")
        seen.add(test)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests away from the user's cache."""
    before = os.environ.get("FASTMOM_CACHE")
    cache = tmp_path_factory.mktemp("cache")
    os.environ["FASTMOM_CACHE"] = str(cache)
    yield cache
    if before is None:
        del os.environ["FASTMOM_CACHE"]
    else:
        os.environ["FASTMOM_CACHE"] = before
