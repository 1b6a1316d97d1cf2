"""Files changed at random; `mutations.py` tries more of them."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import mutations
import pytest

NUMBER = int(os.environ.get("FASTMOM_MUTATIONS", "500"))


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint", "model", "idx", "idx.gz"])
def test_is_refused_or_does_no_harm(name: str, tmp_path: Path) -> None:
    """No other error than the documented one, no other numbers, no memory, no waiting."""
    subject, = (s for s in mutations.subjects(tmp_path) if s.name == name)
    tried = mutations.attempt(subject, NUMBER, tmp_path)
    assert sum(tried.counts.values()) == NUMBER
    assert tried.counts["read"]
    assert tried.counts[subject.error.__name__] > NUMBER // 2
