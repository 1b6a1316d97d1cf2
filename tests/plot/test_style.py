"""Texts at the ends of lines."""

from __future__ import annotations

import numpy as np
import pytest

from fastmom.plot.style import spread


@pytest.mark.parametrize(("heights", "expected"), [
    ([], []), ([0.5], [0.5]), ([0.5, 0.2], [0.5, 0.2]), ([0.5, 0.5], [0.45, 0.55]),
    ([0.5, 0.52, 0.54], [0.42, 0.52, 0.62]), ([0.9, 0.1, 0.1], [0.9, 0.05, 0.15])])
def test_spread(heights: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(spread(np.array(heights), 0.1), expected)
