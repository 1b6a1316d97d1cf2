"""The numbers of runs: their means over steps and over runs."""

from __future__ import annotations

import numpy as np
import pytest
from curves import around

from fastmom.plot.runs import centred_mean, mean_of


@pytest.mark.parametrize("window", [1, 2, 3, 10, 99])
def test_centred_means(window: int) -> None:
    numbers = np.random.default_rng(0).uniform(size=(2, 50))
    numbers[0, [0, 7, 8, 40]] = np.nan
    numbers[1, 20] = 1e30
    at = np.array([0, 1, 2, 7, 9, 19, 25, 44, 49])
    expected = np.array([around(row, window) for row in numbers])[:, at]
    np.testing.assert_allclose(centred_mean(numbers, window, at), expected)


def test_the_mean_is_that_of_the_runs_that_go_on() -> None:
    curves = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan]])
    np.testing.assert_array_equal(mean_of(curves), [2, 4, np.nan])
