"""The same path as TensorFlow.js: 200 float32 steps with a changing lr.

`tf.train.sgd` and `tf.train.momentum` keep lr outside the velocity and their Nesterov step is
``p -= lr (g + m v)``: convention "torch". The values and the script that made them are in tfjs/.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm

GOLDEN = json.loads((Path(__file__).parent / "tfjs" / "golden.json").read_text())
CASES = GOLDEN["cases"]


@pytest.mark.parametrize("case", CASES, ids=[f"{c['momentum']}-{c['nesterov']}" for c in CASES])
def test_same_path(case: dict[str, Any]) -> None:
    p = np.array(GOLDEN["start"], np.float32)
    curvature = np.array(GOLDEN["curvature"], np.float32)
    optimizer = fm.SGD([p], momentum=case["momentum"], nesterov=case["nesterov"])
    compared = 0
    for step, (lr, slope) in enumerate(zip(GOLDEN["lr"], GOLDEN["slopes"], strict=True), 1):
        optimizer.lr = lr
        optimizer.step([curvature * p + np.array(slope, np.float32)])
        if expected := case["params"].get(str(step)):
            # The same bits. But with Nesterov, fastmom rounds lr m once where TensorFlow.js rounds
            # m v and then the sum times lr: up to one unit in the last place of the largest, 3.
            atol = np.spacing(np.float32(3)) if case["nesterov"] else 0
            np.testing.assert_allclose(p, np.array(expected, np.float32), rtol=0, atol=atol)
            compared += 1
    assert compared == len(case["params"]) == 4
