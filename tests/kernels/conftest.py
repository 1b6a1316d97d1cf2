"""Fixtures of the layers' kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from builds import using

from fastmom.kernels import isa, layers


@pytest.fixture(params=isa.available())
def k(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The layers' functions, on each build in turn."""
    with using(request.param):
        yield layers
