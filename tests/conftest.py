"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# The README and its figures are in a source checkout alone, not where an installed wheel is tested
if not (Path(__file__).parents[1] / "bench").is_dir():
    collect_ignore = ["test_readme.py"]


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
