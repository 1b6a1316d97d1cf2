"""Gradients of some rows: as a step with those rows alone, and nothing else changes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builds import using
from cases import OPTIMIZERS, label

import fastmom as fm
from fastmom.kernels import isa
from fastmom.optim.reference import RULES

F = np.float32
TAKES = [case for case in OPTIMIZERS if case[0].takes_rows and not case[1].get("restart")]
REFUSES = sorted({case[0] for case in OPTIMIZERS if not case[0].takes_rows},
                 key=lambda cls: cls.__name__)
SHAPES = [(50, 16), (7, 3), (300, 1), (40,), (9, 2, 5), (3, 5000), (2, 1), (5, 0)]
COUNTS = [0, 1, 5, 60, 1000]        # of rows in a gradient; most have some of them several times

# Of what acts on whole gradients, each alone
COMMON: list[dict[str, Any]] = [
    {}, {"maximize": True}, {"grad_scale": 1024.0}, {"clip_value": 0.5}, {"nonfinite": "raise"},
    {"clip_value": 0.01, "grad_scale": 0.125, "maximize": True}, {"grad_scale": 1e-42},
]


def grads(rng: np.random.Generator, dtype: Any, step: int) -> list[Any]:
    result = []
    for i, shape in enumerate(SHAPES):
        n = COUNTS[(i + step) % len(COUNTS)]
        rows = rng.integers(0, shape[0], n, (np.int64, np.int32)[(i + step) % 2])
        if step == 2:
            rows.sort()
        result.append(fm.RowGrad(rows, rng.standard_normal((n, *shape[1:])).astype(dtype)))
    return result


def added(grad: Any) -> tuple[Any, Any]:
    """Its rows in order, each once, and the sums of their values in the documented order."""
    rows = np.unique(grad.rows)
    sums = []
    for row in rows:
        first, *rest = grad.values[grad.rows == row]
        total = np.array(first)
        for values in rest:
            total += values
        sums.append(total)
    return rows, np.array(sums, grad.values.dtype).reshape(len(rows), *grad.values.shape[1:])


class ByHand:
    """Steps the rows touched as a parameter of their own, with the same optimizer."""

    def __init__(self, case: tuple[type[fm.Optimizer], dict[str, Any]], params: list[Any]) -> None:
        self.case, self.params = case, [p.copy() for p in params]
        opt = case[0](self.params, **case[1])
        self.state = [{name: a.copy() for name, a in own.items()} for own in opt.state]
        self.age = 0

    def step(self, grads: list[Any]) -> None:
        for p, state, grad in zip(self.params, self.state, grads, strict=True):
            rows, sums = added(grad)
            own = p[rows]
            opt = self.case[0]([own], **self.case[1])
            assert opt._engine is not None
            opt._engine.restore([self.age], self.age)
            for name, array in opt.state[0].items():
                array[...] = state[name][rows]
            opt.step([sums])
            p[rows] = own
            for name, array in opt.state[0].items():
                state[name][rows] = array
        self.age += 1


def as_bytes(params: list[Any], state: list[dict[str, Any]]) -> list[bytes]:
    return [a.tobytes() for a in (*params, *(a for own in state for a in own.values()))]


def new_params(rng: np.random.Generator, dtype: Any) -> list[Any]:
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def compare(case: tuple[type[fm.Optimizer], dict[str, Any]], dtype: Any, *parts: int) -> None:
    """By so many threads each."""
    rng = np.random.default_rng(0)
    params = new_params(rng, dtype)
    by_hand = ByHand(case, params)
    copies = [[p.copy() for p in params] for _ in parts]
    optimizers = [case[0](own, **case[1]) for own in copies]
    for opt, n in zip(optimizers, parts, strict=True):
        assert opt._engine is not None
        opt._engine.parts = n
    for step in range(5):
        now = grads(rng, dtype, step)
        by_hand.step(now)
        for opt, own in zip(optimizers, copies, strict=True):
            assert opt.step(now)
            assert as_bytes(own, opt.state) == as_bytes(by_hand.params, by_hand.state)


@pytest.mark.parametrize("dtype", [F, np.float64])
@pytest.mark.parametrize("case", TAKES, ids=label)
def test_as_a_step_of_those_rows(case: Any, dtype: Any) -> None:
    compare(case, dtype, 1, 2, 3)


@pytest.mark.parametrize("common", COMMON, ids=str)
@pytest.mark.parametrize("cls", [fm.SGD, fm.Adagrad, fm.Adam, fm.AdamW])
def test_with_what_acts_on_gradients(cls: Any, common: dict[str, Any]) -> None:
    compare((cls, common), F, 1, 2)


@pytest.mark.parametrize("hyper", [{"state_dtype": "bfloat16"}, {"state_dtype": "float16"}],
                         ids=str)
def test_state_of_16_bits(hyper: dict[str, Any]) -> None:
    pytest.importorskip("ml_dtypes")
    for cls, more in ((fm.SGD, {"momentum": 0.9}), (fm.Adam, {})):
        compare((cls, {**more, **hyper}), F, 2)


@pytest.mark.parametrize("build", isa.available())
def test_every_build(build: str) -> None:
    with using(build):
        for dtype in (F, np.float64):
            compare((fm.Adam, {"clip_value": 0.5}), dtype, 2)


@pytest.mark.parametrize("case", TAKES, ids=label)
def test_equals_the_reference_of_those_rows(case: Any) -> None:
    """The rule in NumPy, applied to the rows alone, in float64."""
    rng = np.random.default_rng(1)
    p = rng.standard_normal((50, 16))
    opt = case[0]([p], **case[1])
    q, state = p.copy(), {name: a.copy() for name, a in opt.state[0].items()}
    for age in range(6):
        values = rng.standard_normal((30, 16))
        grad = fm.RowGrad(rng.integers(0, 50, 30), values)
        rows, sums = added(grad)
        own, of_rows = q[rows], {name: a[rows] for name, a in state.items()}
        RULES[case[0].__name__](own, sums, of_rows, opt.param_groups[0].at(age), age, age)
        q[rows] = own
        for name, array in of_rows.items():
            state[name][rows] = array
        assert opt.step([grad])
        np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-12)
    for name, array in state.items():
        np.testing.assert_allclose(opt.state[0][name], array, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hyper", [{"clip_norm": 1.0}, {"clip_norm_per_tensor": 0.5},
                                   {"clip_norm": 1.0, "grad_scale": 0.25, "clip_value": 0.01}],
                         ids=str)
def test_norms_are_those_of_the_whole_gradient(hyper: dict[str, Any]) -> None:
    """Plain descent does the same with the whole gradient, zeros included."""
    rng = np.random.default_rng(0)
    params = new_params(rng, np.float64)
    whole = [p.copy() for p in params]
    a, b = fm.SGD(params, lr=0.1, **hyper), fm.SGD(whole, lr=0.1, **hyper)
    for step in range(4):
        given = grads(rng, np.float64, step)
        full = [np.zeros(shape) for shape in SHAPES]
        for g, grad in zip(full, given, strict=True):
            np.add.at(g, grad.rows, grad.values)
        a.step(given)
        b.step(full)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-14)
        for p, q in zip(params, whole, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-13, atol=1e-13)


def test_norms_by_any_number_of_threads() -> None:
    results = []
    for parts in (1, 2, 3):
        rng = np.random.default_rng(0)
        params = new_params(rng, F)
        opt = fm.Adam(params, clip_norm=0.1)
        assert opt._engine is not None
        opt._engine.parts = parts
        for step in range(4):
            opt.step(grads(rng, F, step))
        results.append((as_bytes(params, opt.state), opt.grad_norm))
    assert results[0] == results[1] == results[2]


def test_one_list_of_all_kinds_and_back() -> None:
    """Rows, whole gradients, sums and None change places from step to step."""
    rng = np.random.default_rng(0)
    shapes = [(60, 100), (5000, 2), (9000,), (3, 3)]
    params = [rng.standard_normal(shape) for shape in shapes]
    whole = [p.copy() for p in params]
    a, b = fm.SGD(params, lr=0.1), fm.SGD(whole, lr=0.1)
    for step in range(12):
        given: list[Any] = []
        full: list[Any] = []
        for i, shape in enumerate(shapes):
            kind = (step + i) % 4 if step % 5 else 1
            dense = rng.standard_normal(shape)
            if kind == 0:
                rows = rng.integers(0, shape[0], 20)
                given.append(fm.RowGrad(rows, rng.standard_normal((20, *shape[1:]))))
                dense = np.zeros(shape)
                distinct, sums = added(given[-1])
                dense[distinct] = sums
            elif kind == 1:
                given.append(dense)
            elif kind == 2:
                given.append(fm.WeightedSum([dense], [1.0]))
            else:
                given.append(None)
            full.append(None if kind == 3 else dense)
        assert a.step(given) == b.step(full)
        assert as_bytes(params, []) == as_bytes(whole, [])
    assert a._engine is not None
    assert b._engine is not None
    assert a._engine.steps.tolist() == b._engine.steps.tolist()


def test_what_is_lazy() -> None:
    p = np.ones((3, 2))
    opt = fm.SGD([p], lr=0.5, momentum=0.5, weight_decay=0.1)
    opt.step([np.ones((3, 2))])
    velocity = opt.state[0]["velocity"].copy()
    before = p.copy()
    assert opt.step([fm.RowGrad(np.array([1]), np.ones((1, 2)))])
    np.testing.assert_array_equal(opt.state[0]["velocity"][[0, 2]], velocity[[0, 2]])
    np.testing.assert_array_equal(p[[0, 2]], before[[0, 2]])
    assert (p[1] < before[1]).all()
    assert opt.step([fm.RowGrad(np.array([], int), np.ones((0, 2)))])     # counts, changes nothing
    assert opt.iterations == 3


def test_masters_and_copies() -> None:
    rng = np.random.default_rng(0)
    p = rng.standard_normal((40, 8)).astype(np.float16)
    q = p.astype(F)
    half = np.zeros((40, 8), np.float16)
    a = fm.Adam([p], lr=0.1)
    b = fm.Adam(lr=0.1)
    b.bind([q], copies=[half])
    for step in range(3):
        grad = fm.RowGrad(rng.integers(0, 40, 9), rng.standard_normal((9, 8)).astype(F))
        assert a.step([grad])
        assert b.step([grad])
        np.testing.assert_array_equal(p, q.astype(np.float16), err_msg=str(step))
        np.testing.assert_array_equal(half, p)


def test_accumulated() -> None:
    """Of gradients of rows the mean is one again, and rows that none has stay as they are."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal((40, 8)), rng.standard_normal((6, 2)), rng.standard_normal(3)]
    expected = [p.copy() for p in params]
    batches = fm.GradientAccumulation(fm.Adam(params, weight_decay=0.1), 3)
    direct = fm.Adam(expected, weight_decay=0.1)
    for _ in range(3):
        given = [[fm.RowGrad(rng.integers(0, 20, 5), rng.standard_normal((5, 8))),
                  fm.RowGrad(np.array([k]), np.ones((1, 2))) if k else np.ones((6, 2)),
                  None] for k in range(3)]
        for each in given:
            batches.step(each)
        means: list[Any] = []
        for i in range(2):
            total = np.zeros(params[i].shape)
            for each in given:
                if isinstance(each[i], fm.RowGrad):
                    np.add.at(total, each[i].rows, each[i].values / 3)
                else:
                    total += each[i] / 3
            means.append(total)
        rows = np.unique(np.concatenate([each[0].rows for each in given]))
        direct.step([fm.RowGrad(rows, means[0][rows]), means[1], None])
        for p, e in zip(params, expected, strict=True):
            np.testing.assert_allclose(p, e, rtol=1e-12, atol=1e-12)
    with pytest.raises(TypeError, match=r"grads\[0\] is a RowGrad, which Lion does not take"):
        fm.GradientAccumulation(fm.Lion([np.ones((4, 2))]), 2).step(
            [fm.RowGrad(np.array([1]), np.ones((1, 2)))])


# Refusals -----------------------------------------------------------------------------------------

def rows(*numbers: int, dtype: Any = np.int64) -> Any:
    return np.array(numbers, dtype)


def one(n: int = 1, *shape: int) -> Any:
    return np.ones((n, *(shape or (2,))), F)


CONSTRUCTED: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("a list", lambda: ([1], one()), TypeError, "rows must be a NumPy array, not list"),
    ("no values", lambda: (rows(1), None), TypeError, "values must be a NumPy array, not NoneType"),
    ("float rows", lambda: (np.ones(1), one()), TypeError, "rows has dtype float64, expected"),
    ("a mask", lambda: (rows(1), np.ma.masked_array(one())), TypeError, "values must be a NumPy"),
    ("uint64 rows", lambda: (np.ones(1, np.uint64), one()), TypeError, "rows has dtype uint64"),
    ("swapped bytes", lambda: (np.ones(1, ">i8"), one()), TypeError, "rows has dtype >i8"),
    ("half values", lambda: (rows(1), one().astype(np.float16)), TypeError, "dtype float16"),
    ("integer values", lambda: (rows(1), one().astype(int)), TypeError, "values has dtype int64"),
    ("strided rows", lambda: (np.arange(4)[::2], one(2)), ValueError, "rows is not C-contiguous"),
    ("strided values", lambda: (rows(0, 1), one(2, 4)[:, ::2]), ValueError, "values is not C-"),
    ("misaligned", lambda: (np.zeros(9, np.uint8)[1:].view(np.int64), one()), ValueError,
     "rows is not aligned"),
    ("a matrix of rows", lambda: (np.ones((1, 1), int), one()), ValueError, "rows must have one"),
    ("a number of rows", lambda: (np.array(1), one()), ValueError, "rows must have one axis"),
    ("too few values", lambda: (rows(0, 1), one()), ValueError, "values has shape (1, 2)"),
    ("no axis", lambda: (rows(0), np.float32(1) * np.ones((), F)), TypeError, "values must be"),
]


@pytest.mark.parametrize(("make", "error", "message"), [row[1:] for row in CONSTRUCTED],
                         ids=[row[0] for row in CONSTRUCTED])
def test_refused_when_made(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        fm.RowGrad(*make())


def reshaped() -> Any:
    values = one(2)
    grad = fm.RowGrad(rows(0, 1), values)
    grad._values.shape = (4,)
    return grad


def scattered() -> Any:
    grad = fm.RowGrad(rows(0, 1), one(2))
    grad.values.strides = (4, 4)
    return grad


STEPPED: list[tuple[str, Callable[[Any], Any], type[Exception], str]] = [
    ("too large", lambda o: fm.RowGrad(rows(0, 5), one(2)), ValueError,
     "grads[0].rows[1] is 5, which is no row of params[0]: that has rows 0 to 4"),
    ("negative", lambda o: fm.RowGrad(rows(-1), one()), ValueError, "grads[0].rows[0] is -1"),
    ("far too large", lambda o: fm.RowGrad(rows(2 ** 62), one()), ValueError, "is 4611686018427"),
    ("negative int32", lambda o: fm.RowGrad(rows(0, -7, dtype=np.int32), one(2)), ValueError,
     "grads[0].rows[1] is -7"),
    ("too wide", lambda o: fm.RowGrad(rows(0), one(1, 3)), ValueError,
     "grads[0] has values of shape (1, 3), expected (1, 2)"),
    ("flat", lambda o: fm.RowGrad(rows(0), np.ones(1, F)), ValueError, "values of shape (1,)"),
    ("another axis", lambda o: fm.RowGrad(rows(0), one(1, 2, 1)), ValueError, "shape (1, 2, 1)"),
    ("double", lambda o: fm.RowGrad(rows(0), np.ones((1, 2))), TypeError,
     "grads[0] has rows of int64 and values of float64, expected int64 or int32 and float32"),
    ("the parameter's memory", lambda o: fm.RowGrad(rows(0), o.param_groups[0]["params"][0][:1]),
     ValueError, "grads[0].values overlaps params[0]"),
    ("the state's memory", lambda o: fm.RowGrad(rows(0), o.state[1]["mean"].reshape(2, 2)[:1]),
     ValueError, "grads[0].values overlaps state[1]"),
    ("rows in the parameter", lambda o: fm.RowGrad(
        o.param_groups[0]["params"][0].reshape(-1)[:2].view(np.int64), one()), ValueError,
     "grads[0].rows overlaps params[0]"),
    ("reshaped since", lambda o: reshaped(), ValueError, "values of shape (4,)"),
    ("not a number", lambda o: fm.RowGrad(rows(2, 0, 2), np.array([[1, 1]] * 2 + [[1, np.nan]], F)),
     FloatingPointError, "grads[0] is nan at index (2, 1)"),
    ("an infinite sum", lambda o: fm.RowGrad(rows(3, 3), np.full((2, 2), 3e38, F)),
     FloatingPointError, "grads[0] is inf at index (3, 0)"),
]


@pytest.mark.parametrize(("spoil", "error", "message"), [row[1:] for row in STEPPED],
                         ids=[row[0] for row in STEPPED])
def test_refused_by_the_step(spoil: Callable[[Any], Any], error: type[Exception],
                             message: str) -> None:
    opt = fm.Adam([one(5), np.ones(4, F)], nonfinite="raise")
    good = fm.RowGrad(rows(4, 4), one(2))
    opt.step([good, np.ones(4, F)])
    before = snapshot(opt)
    with pytest.raises(error, match=re.escape(message)):
        opt.step([spoil(opt), np.ones(4, F)])
    assert snapshot(opt) == before
    with pytest.raises(ValueError, match=r"grads\[1\] has shape"):
        opt.step([good, np.ones(3, F)])
    assert snapshot(opt) == before
    assert opt.step([np.ones((5, 2), F), np.ones(4, F)])
    assert snapshot(opt) != before


def snapshot(opt: fm.Optimizer) -> Any:
    assert opt._engine is not None
    params = [p for group in opt.param_groups for p in group["params"]]
    return as_bytes(params, opt.state), opt.iterations, opt._engine.steps.tolist()


@pytest.mark.parametrize("cls", REFUSES)
def test_refused_by_name(cls: Any) -> None:
    opt = cls([np.ones((6, 4), F), np.ones(3, F)])
    before = snapshot(opt)
    with pytest.raises(TypeError, match=rf"grads\[0\] is a RowGrad, which {cls.__name__} does not "
                                        rf"take; SGD, Adagrad, Adam and AdamW do"):
        opt.step([fm.RowGrad(rows(1), one(1, 4)), np.ones(3, F)])
    assert snapshot(opt) == before


def test_refused_with_averages_blocks_and_no_axis() -> None:
    grad = [fm.RowGrad(rows(1), one(1, 128))]
    p = one(4, 128)
    averaged = fm.SGD([p])
    fm.EMA([p], 0.9, optimizer=averaged)
    with pytest.raises(TypeError, match="an EMA in the step"):
        averaged.step(grad)
    blocks = fm.Adam([one(4, 128)], state_dtype="int8")
    with pytest.raises(TypeError, match="blocks"):
        blocks.step(grad)
    with pytest.raises(ValueError, match=r"params\[0\] has no axis"):
        fm.SGD([np.ones((), F)]).step([fm.RowGrad(rows(0), np.ones(1, F))])


def test_skipped_step_changes_nothing() -> None:
    opt = fm.Adam([one(5)], nonfinite="skip")
    before = snapshot(opt)
    assert not opt.step([fm.RowGrad(rows(1, 1), np.array([[np.inf, 1], [-np.inf, 1]], F))])
    assert snapshot(opt) == before
    assert opt.step([fm.RowGrad(rows(1, 1), one(2))])


def test_read_only_arrays_and_copies() -> None:
    grad = fm.RowGrad(rows(0, 2), one(2))
    grad.rows.flags.writeable = grad.values.flags.writeable = False
    p = np.zeros((3, 2), F)
    assert fm.SGD([p], lr=1.0).step([grad])
    assert p.tolist() == [[-1, -1], [0, 0], [-1, -1]]
    again = pickle.loads(pickle.dumps(grad))
    np.testing.assert_array_equal(again.rows, grad.rows)
    np.testing.assert_array_equal(again.values, grad.values)
    assert repr(grad) == "RowGrad(<2 rows of float32 (2,)>)"
    with pytest.raises(AttributeError):
        grad.rows = rows(1)     # type: ignore[misc]
