"""Arguments that the kernel of smoothing refuses; `tests/test_smoothing.py` has its results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmom.kernels.series import advance

GOOD: dict[str, Any] = {"series": np.ones((4, 3)), "axis": 0, "momentum": 0.9, "debias": True,
                        "total": np.zeros(3), "count": np.zeros(3, np.int64),
                        "low": np.zeros(3), "high": np.zeros(3)}
FIXED = np.zeros(3)
FIXED.flags.writeable = False


@pytest.mark.parametrize(("wrong", "error", "message"), [
    ({"series": [1.0]}, TypeError, "given <class 'list'>"),
    ({"series": np.ones((4, 3), int)}, TypeError, "given int64"),
    ({"series": np.ones((3, 4))}, ValueError, "shape .3,. where 4 elements"),
    ({"axis": 1}, ValueError, "shape .3,. where 4 elements"),
    ({"axis": -1}, ValueError, "shape .3,. where 12 elements"),
    ({"total": [0.0]}, TypeError, "given <class 'list'>"),
    ({"count": np.zeros(3)}, TypeError, "given float64"),
    ({"low": np.zeros(6)[::2]}, ValueError, "3 elements in a row are needed"),
    ({"high": FIXED}, ValueError, "to be written to"),
], ids=str)
def test_arguments(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {name: np.copy(value) if isinstance(value, np.ndarray) else value
             for name, value in GOOD.items()}
    with pytest.raises(error, match=message):
        advance(**{**given, **wrong})
    for name in ("total", "count", "low", "high"):
        assert not given[name].any()
    advance(**given)
    assert given["count"].tolist() == [4, 4, 4]
