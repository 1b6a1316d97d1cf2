"""Gradients that are weighted sums: exactly as if NumPy had added them up before."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builds import using
from cases import COMMON, OPTIMIZERS, label

import fastmom as fm
from fastmom.kernels import isa

F = np.float32
SHAPES = [(0,), (), (1,), (7, 3), (1023,), (1025,), (4097,), (33, 1000)]
COUNTS = [1, 2, 3, 5]

Add = Callable[[Any, Any], Any]     # from a sum and its parameter to what the step is given


def added(total: fm.WeightedSum, p: Any) -> Any:
    """The same in NumPy, in the documented order."""
    arrays = [a.astype(p.dtype) for a in total.arrays]
    weights = [p.dtype.type(w) for w in total.weights]
    out = np.array(weights[0] * arrays[0])
    for a, w in zip(arrays[1:], weights[1:], strict=True):
        out += w * a
    return np.array(p - out) if total.relative else out


def sums(rng: np.random.Generator, dtype: Any, step: int) -> list[fm.WeightedSum]:
    """A gradient of each shape: other numbers of arrays, weights and kinds from step to step."""
    result = []
    for i, shape in enumerate(SHAPES):
        n = COUNTS[(i + step) % len(COUNTS)]
        result.append(fm.WeightedSum(
            [np.array(rng.standard_normal(shape), dtype) for _ in range(n)],
            rng.standard_normal(n).tolist() if i % 3 else None, relative=bool((i + step) % 2)))
    return result


def trained(case: tuple[type[fm.Optimizer], dict[str, Any]], dtype: Any, give: Add,
            parts: int = 0) -> tuple[Any, ...]:
    """All that four steps have changed, as bytes; one of them has plain gradients too."""
    rng = np.random.default_rng(0)
    params = [np.array(rng.standard_normal(shape), dtype) for shape in SHAPES]
    opt = case[0](params, **case[1])
    assert opt._engine is not None
    opt._engine.parts = parts
    for step in range(4):
        grads = [give(s, p) for s, p in zip(sums(rng, dtype, step), params, strict=True)]
        if step == 2:
            grads[::2] = [np.array(rng.standard_normal(s), dtype) for s in SHAPES[::2]]
            grads[5] = None
        assert opt.step(grads)
    state = [array.tobytes() for own in opt.state for array in own.values()]
    return (*(p.tobytes() for p in params), *state, opt.grad_norm)


@pytest.mark.parametrize("dtype", [F, np.float64])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_as_if_added_before(case: tuple[type[fm.Optimizer], dict[str, Any]], dtype: Any) -> None:
    wanted = trained(case, dtype, added)
    for parts in (1, 2):
        np.testing.assert_equal(trained(case, dtype, lambda s, _: s, parts), wanted)


@pytest.mark.parametrize("common", [*COMMON, {"state_dtype": "bfloat16"},
                                    {"grad_scale": 1e-42, "clip_value": 0.5}],
                         ids=str)
@pytest.mark.parametrize("cls", [fm.SGD, fm.LAMB, fm.NovoGrad, fm.Adafactor, fm.Muon])
def test_what_reads_whole_gradients(cls: Any, common: dict[str, Any]) -> None:
    if cls is fm.Adafactor and "state_dtype" in common:
        return
    wanted = trained((cls, common), F, added)
    np.testing.assert_equal(trained((cls, common), F, lambda s, _: s), wanted)


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("build", isa.available())
def test_any_number_on_every_build(build: str, count: int) -> None:
    """Some are read side by side, those left over in smaller groups: the order stays."""
    rng = np.random.default_rng(count)
    for dtype in (F, np.float64):
        total = fm.WeightedSum([rng.standard_normal(5003).astype(dtype) for _ in range(count)],
                               rng.standard_normal(count).tolist(), relative=True)
        p = np.ones(5003, dtype)
        wanted = p - added(total, p)
        with using(build):
            assert fm.SGD([p], lr=1.0).step([total])
        np.testing.assert_array_equal(p, wanted)


def test_arrays_of_16_bits() -> None:
    """Each array of a sum has a dtype of its own."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(0)
    for n in (1, 1025, 9000):
        arrays = [rng.standard_normal(n).astype(dtype)
                  for dtype in (np.float16, F, ml_dtypes.bfloat16, np.float16)]
        total = fm.WeightedSum(arrays, [0.1, -0.7, 3, 0.5], relative=True)
        for hyper in ({}, {"clip_norm": 0.1}, {"state_dtype": "float16"}):
            p, q = np.ones((2, n), F)
            for array, grad in ((p, total), (q, added(total, q))):
                assert fm.SGD([array], lr=0.1, momentum=0.9, **hyper).step([grad])
            np.testing.assert_array_equal(p, q)


def test_parameters_of_16_bits() -> None:
    """They are read as float32, and so is the sum, also where it is looked at for its NaN."""
    p, q = np.ones((2, 9000), np.float16)
    arrays = [np.arange(9000, dtype=F), np.full(9000, 0.5, np.float16)]
    total = fm.WeightedSum(arrays, [1e-4, 2], relative=True)
    for array, grad in ((p, total), (q, added(total, q.astype(F)))):
        assert fm.SGD([array], lr=0.1, momentum=0.9, clip_norm=50.0).step([grad])
    np.testing.assert_array_equal(p, q)
    assert (p != 1).any()
    before = p.copy()
    arrays[0][8999] = np.nan
    for _ in range(20):         # what is written past an array's end need not show at once
        with pytest.raises(FloatingPointError, match=r"nan at index \(8999,\); its arrays\[0\]"):
            fm.SGD([p], nonfinite="raise").step([total])
    np.testing.assert_array_equal(p, before)
    batches = fm.GradientAccumulation(fm.SGD([p], lr=1.0), 1)
    arrays[0][8999] = 0
    assert batches.step([total])
    wanted = added(fm.WeightedSum(arrays, [1e-4, 2]), before.astype(F))
    np.testing.assert_allclose(p, wanted, rtol=2e-3)


def test_averages_and_copies() -> None:
    total = fm.WeightedSum([np.arange(5000, dtype=F), np.ones(5000, F)], [0.5, 2], relative=True)
    results = []
    for give in (lambda s, _: s, added):
        p, half = np.full(5000, 3, F), np.zeros(5000, np.float16)
        opt = fm.SGD(lr=0.1)
        opt.bind([p], copies=[half])
        average = fm.EMA([p], 0.5, optimizer=opt)
        assert opt.step([give(total, p)])
        results.append([p, half, average.averages[0]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("relative", [False, True])
def test_accumulation(relative: bool) -> None:
    rng = np.random.default_rng(0)
    p = rng.standard_normal(100)
    q, opt = p.copy(), fm.SGD([p], lr=0.5)
    totals = [fm.WeightedSum(list(rng.standard_normal((3, 100))), [1, 2, -1], relative=relative)
              for _ in range(4)]
    batches = fm.GradientAccumulation(opt, 2)
    assert [batches.step([total]) for total in totals] == [False, True, False, True]
    for a, b in (totals[:2], totals[2:]):
        q -= 0.25 * (added(a, q) + added(b, q))
    np.testing.assert_allclose(p, q, rtol=1e-13, atol=1e-13)
    with pytest.raises(ValueError, match="grads has 2 entries"):
        batches.step([totals[0], totals[1]])


def test_a_mean_of_parameters() -> None:
    """Plain descent by 1 steps onto the mean of what clients have."""
    p = np.zeros(10)
    clients = [np.arange(10.0), np.ones(10)]
    assert fm.SGD([p], lr=1.0).step([fm.WeightedSum(clients, [0.25, 0.75], relative=True)])
    np.testing.assert_allclose(p, 0.25 * clients[0] + 0.75)


def test_what_is_not_finite() -> None:
    p = np.zeros((2, 3), F)
    good, bad = np.ones((2, 3), F), np.ones((2, 3), F)
    bad[1, 2] = np.nan
    opt = fm.SGD([p], nonfinite="raise")
    with pytest.raises(FloatingPointError,
                       match=r"grads\[0\] is nan at index \(1, 2\); its arrays\[1\] is nan$"):
        opt.step([fm.WeightedSum([good, bad])])
    huge = np.full((2, 3), 3e38, F)
    with pytest.raises(FloatingPointError, match=r"grads\[0\] is inf at index \(0, 0\)$"):
        opt.step([fm.WeightedSum([huge, huge], [1, 1])])
    opt.nonfinite = "skip"
    assert not opt.step([fm.WeightedSum([good, bad])])
    assert not p.any()
    assert opt.iterations == 0


def test_nothing_is_kept() -> None:
    arrays = [np.ones(5, F), np.ones(5, F)]
    total = fm.WeightedSum(arrays)
    opt = fm.SGD([np.zeros(5, F)])
    counts = [sys.getrefcount(x) for x in (total, total.arrays, *arrays)]
    for _ in range(3):
        assert opt.step([total])
        with pytest.raises(ValueError, match="entries"):
            opt.step([total, total])
        with pytest.raises(ValueError, match="shape"):
            opt.step([fm.WeightedSum([arrays[0], np.ones(6, F)])])
    assert [sys.getrefcount(x) for x in (total, total.arrays, *arrays)] == counts


ONES = np.ones(8, F)
# What is given for the second tensor, of float32 and shape (8,), and the error
REFUSED: list[tuple[str, Callable[[Any], Any], str]] = [
    ("shape", lambda p: [ONES, np.ones((8, 1), F)], r"grads\[1\]\.arrays\[1\] has shape \(8, 1\)"),
    ("first shape", lambda p: [np.ones(7, F), ONES], r"grads\[1\]\.arrays\[0\] has shape \(7,\)"),
    ("dtype", lambda p: [ONES, np.ones(8)], r"grads\[1\]\.arrays\[1\] has dtype float64, expected"),
    ("integers", lambda p: [np.ones(8, np.int32)], r"grads\[1\]\.arrays\[0\] has dtype int32"),
    ("strided", lambda p: [ONES, np.ones(16, F)[::2]], r"arrays\[1\] is not C-contiguous"),
    ("the parameter", lambda p: [ONES, p], r"grads\[1\]\.arrays\[1\] overlaps params\[1\]"),
    ("a part of it", lambda p: [p[:], ONES], r"grads\[1\]\.arrays\[0\] overlaps params\[1\]"),
    ("masked", lambda p: [ONES, np.ma.masked_array(ONES)], r"arrays\[1\] must be a NumPy array"),
]


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(("make", "message"), [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])
def test_refused_by_the_step(make: Callable[[Any], Any], message: str, relative: bool) -> None:
    params = [np.zeros(8, F), np.zeros(8, F)]
    opt = fm.SGD(params, lr=1.0, momentum=0.9)
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=message):
            opt.step([ONES, fm.WeightedSum(make(params[1]), relative=relative)])
        assert not any(p.any() for p in params)
        assert opt.iterations == 0
    assert opt.step([ONES, ONES])
    assert (params[1] == -1).all()


def test_a_weight_beyond_the_dtype() -> None:
    p, q = np.zeros(8, F), np.zeros(8)
    for weight in (1e39, -1e39):
        with pytest.raises(ValueError, match=r"grads\[0\]\.weights\[1\] is -?1e\+39, which"):
            fm.SGD([p]).step([fm.WeightedSum([ONES, ONES], [1, weight])])
        assert fm.SGD([q]).step([fm.WeightedSum([np.ones(8)], [weight])])
    assert not p.any()
    assert np.isfinite(q).all()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"arrays": []}, "arrays is empty"),
    ({"arrays": ONES}, "arrays must be a list or tuple"),
    ({"arrays": [ONES, [1.0]]}, r"arrays\[1\] must be a NumPy array, not list"),
    ({"arrays": [ONES], "weights": [1, 2]}, "weights has 2 entries, expected 1"),
    ({"arrays": [ONES], "weights": 1.0}, "weights must be a list"),
    ({"arrays": [ONES], "weights": "1"}, "weights must be a list"),
    ({"arrays": [ONES], "weights": [np.nan]}, r"weights\[0\]"),
    ({"arrays": [ONES], "weights": [-np.inf]}, r"weights\[0\]"),
    ({"arrays": [ONES], "weights": [True]}, r"weights\[0\]"),
    ({"arrays": [ONES], "weights": [None]}, r"weights\[0\]"),
    ({"arrays": [ONES], "relative": 1}, "relative"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=str)
def test_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        fm.WeightedSum(**arguments)


def test_a_sum_whose_fields_were_replaced() -> None:
    """Whatever is put in their place, the step checks before it reads."""
    p = np.zeros(8, F)
    opt = fm.SGD([p])
    for name, value in (("arrays", ()), ("arrays", [ONES]), ("arrays", (ONES, ONES)),
                        ("arrays", (None,)), ("weights", ()), ("weights", None),
                        ("weights", ("1",)), ("weights", (np.nan,))):
        total = fm.WeightedSum([ONES])
        setattr(total, name, value)
        with pytest.raises((TypeError, ValueError)):
            opt.step([total])
    assert not p.any()
    assert opt.step([fm.WeightedSum([ONES])])


def test_pickle_and_words() -> None:
    total = fm.WeightedSum([ONES, ONES], [0.5, 0.25], relative=True)
    again = pickle.loads(pickle.dumps(total))
    assert again.weights == total.weights
    assert again.relative
    assert repr(again) == "WeightedSum(<2 arrays like float32 (8,)>, [0.5, 0.25], relative=True)"
