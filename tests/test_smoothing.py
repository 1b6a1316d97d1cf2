"""Smoothing against its recursion in long double, value by value, and against momentum."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastmom as fm
from fastmom.smoothing import ExponentialSmoothing, smooth

NAN, INF = np.nan, np.inf
MOMENTA = [0.0, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9, 1.0]


def recursion(series: Any, momentum: float, debias: bool) -> Any:
    """The formula as it stands. The weight is the smoothed series of ones: 1 - m^n, uncancelled."""
    m = np.longdouble(momentum)
    new = 1 - m if momentum < 1 or not debias else np.longdouble(1)
    s, weight, result = np.longdouble(0), np.longdouble(0), []
    for x in series:
        if np.isfinite(x):
            s, weight = m * s + new * np.longdouble(x), m * weight + new
        result.append((s / weight if debias else s) if np.isfinite(x) else x)
    return np.array(result, np.longdouble)


def noisy(*shape: int, dtype: Any = np.float64, gaps: bool = True, shift: float = 0.0) -> Any:
    """Random numbers, some of them NaN, infinite or zero."""
    random = np.random.default_rng(7)
    x = random.normal(shift, 1.0, shape).astype(dtype)
    if gaps:
        x[random.random(shape) < 0.1] = NAN
        x[random.random(shape) < 0.05] = -INF
        x[random.random(shape) < 0.05] = 0
    return x


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("n", [0, 1, 2, 64, 5001])
@pytest.mark.parametrize("gaps", [False, True])
def test_recursion(gaps: bool, n: int, momentum: float, debias: bool) -> None:
    positive = np.abs(noisy(n, gaps=gaps, shift=3.0))   # no cancellation: every digit must be right
    np.testing.assert_allclose(smooth(positive, momentum, debias=debias),
                               recursion(positive, momentum, debias), rtol=1e-13, atol=0)
    signed = noisy(n, gaps=gaps)
    np.testing.assert_allclose(smooth(signed, momentum, debias=debias),
                               recursion(signed, momentum, debias), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("momentum", MOMENTA)
def test_float32_is_the_rounded_float64(momentum: float, debias: bool) -> None:
    x = noisy(1000, dtype=np.float32)
    y = smooth(x, momentum, debias=debias)
    assert y.dtype == np.float32
    wide = smooth(x.astype(np.float64), momentum, debias=debias)
    np.testing.assert_array_equal(y, wide.astype(np.float32))


BY_HAND: list[tuple[str, list[float], float, bool, list[float]]] = [
    ("biased", [4, 0, 0], 0.5, False, [2, 1, 0.5]),
    ("debiased", [4, 1, 4], 0.5, True, [4, 2, 22 / 7]),
    ("a NaN is left out", [4, NAN, 1, 4], 0.5, True, [4, NAN, 2, 22 / 7]),
    ("and biased", [4, NAN, 0, NAN, 0], 0.5, False, [2, NAN, 1, NAN, 0.5]),
    ("infinities stay", [INF, 4, -INF, 1], 0.5, True, [INF, 4, -INF, 2]),
    ("at first", [NAN, INF, 4, 1], 0.5, True, [NAN, INF, 4, 2]),
    ("at last", [4, 1, NAN, NAN], 0.5, True, [4, 2, NAN, NAN]),
    ("nothing finite", [NAN, -INF, INF], 0.5, True, [NAN, -INF, INF]),
    ("nothing finite, biased", [NAN, -INF, INF], 0.5, False, [NAN, -INF, INF]),
    ("momentum 0", [1e300, -1, NAN, 2], 0, True, [1e300, -1, NAN, 2]),
    ("momentum 0, biased", [1e300, -1, NAN, 2], 0, False, [1e300, -1, NAN, 2]),
    ("momentum 1 is the mean", [6, 0, NAN, 3, INF, 7], 1, True, [6, 3, NAN, 3, INF, 4]),
    ("momentum 1, biased", [6, 0, NAN, 3, INF], 1, False, [0, 0, NAN, 0, INF]),
    ("the largest numbers", [1.7e308, -1.7e308, 1.7e308], 0.5, False,
     [0.85e308, -0.425e308, 0.6375e308]),
]


@pytest.mark.parametrize(("series", "momentum", "debias", "expected"),
                         [row[1:] for row in BY_HAND], ids=[row[0] for row in BY_HAND])
def test_by_hand(series: list[float], momentum: float, debias: bool,
                 expected: list[float]) -> None:
    y = smooth(series, momentum, debias=debias)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected, rtol=1e-15)
    one = ExponentialSmoothing(momentum, debias=debias)
    np.testing.assert_array_equal([one.update(x) for x in series], y)


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize(("series", "momentum"), [([-1.0, -0.0], 0), ([-0.0], 0.5),
                                                  ([-0.0, -5e-324, -0.0], 0.5)])
def test_zeros_are_positive(series: list[float], momentum: float, debias: bool) -> None:
    y = smooth(series, momentum, debias=debias)
    assert y[-1] == 0
    assert not np.signbit(y[-1])


def test_momentum_1_is_the_limit() -> None:
    x = noisy(300, gaps=False, shift=3.0)
    np.testing.assert_allclose(smooth(x, 1), smooth(x, 1 - 1e-12), rtol=1e-9)
    np.testing.assert_allclose(smooth(x, 1)[-1], x.mean(), rtol=1e-14)


@given(st.floats(0, 1), hnp.arrays(np.float64, st.integers(1, 200),
                                   elements=st.floats(-1e300, 1e300)))
@settings(deadline=None)
def test_debiased_stays_in_the_range_of_its_values(momentum: float, x: Any) -> None:
    y = smooth(x, momentum)
    assert y[0] == x[0]
    assert (y >= np.minimum.accumulate(x)).all()
    assert (y <= np.maximum.accumulate(x)).all()


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("constant", [0.1, -1e-4, 1 / 3, 1e300])
def test_constant_series_stays_as_it_is(constant: float, momentum: float) -> None:
    x = np.full(1000, constant)
    x[[0, 5, 64]] = NAN
    np.testing.assert_array_equal(smooth(x, momentum), x)


@pytest.mark.parametrize(("shape", "axis"), [
    ((200,), 0), ((200,), -1), ((100, 3), 0), ((3, 100), 1), ((2, 70, 3), 1), ((2, 3, 70), -1),
    ((70, 2, 3), -3), ((200, 100), 0), ((0, 3), 0), ((3, 0), 0), ((0, 3), 1), ((1, 5), 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_axes(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    """Each series along the axis by itself, whatever the memory looks like."""
    x = noisy(*shape, dtype=dtype)
    y = smooth(x, 0.8, axis=axis)
    assert (y.shape, y.dtype, y.flags.c_contiguous) == (x.shape, x.dtype, True)
    np.testing.assert_array_equal(y, np.apply_along_axis(smooth, axis, x, 0.8) if x.size else x)
    unaligned = np.frombuffer(b"." + x.tobytes(), dtype, offset=1).reshape(shape)
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], unaligned):
        np.testing.assert_array_equal(smooth(other, 0.8, axis=axis), y)


def test_default_axis_is_the_last() -> None:
    x = noisy(3, 4)
    np.testing.assert_array_equal(smooth(x), smooth(x, 0.9, axis=1, debias=True))


def test_series_is_only_read() -> None:
    for momentum in MOMENTA:
        x = noisy(2, 100)
        before = x.tobytes()
        x.flags.writeable = False
        y = smooth(x, momentum)
        assert x.tobytes() == before
        assert not np.shares_memory(x, y)


@pytest.mark.parametrize("series", [[3, 1, 2], np.array([3, 1, 2], np.uint8),
                                    np.array([3, 1, 2], ">i4"), (3.0, 1, 2)], ids=repr)
def test_what_is_converted_to_float64(series: Any) -> None:
    y = smooth(series)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, smooth(np.array([3.0, 1.0, 2.0])))


@pytest.mark.parametrize("momentum", [0.5, 0.999, 1 - 1e-6, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("count", [10, 10**3, 35_000, 10**6, 10**9, 10**12])
def test_weight_after_many_values(count: int, momentum: float) -> None:
    """1 - m^n to the last digits, also where m^n is close to 1 or vanishes."""
    one = ExponentialSmoothing(momentum)
    one.update(0.0)
    one.load_state_dict({**one.state_dict(), "count": np.array(count - 1), "high": np.array(1e300),
                         "total": np.array(0.0)})
    m = np.longdouble(momentum)
    weight = -np.expm1(count * np.log(m)) / (1 - m) if momentum < 1 else count
    np.testing.assert_allclose(one.update(1.0), np.float64(1 / weight), rtol=1e-15)


# Momentum -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("convention", "factor"), [("ema", lambda m: 1),
                                                    ("torch", lambda m: 1 / (1 - m))])
@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.99])
def test_velocity_is_the_smoothed_gradient(momentum: float, convention: str, factor: Any) -> None:
    gradients = noisy(300, 5, gaps=False)
    optimizer = fm.SGD([np.zeros(5)], momentum=momentum, convention=convention)
    velocities = []
    for g in gradients:
        optimizer.step([g])
        velocities.append(optimizer.state[0]["velocity"].copy())
    expected = smooth(gradients, momentum, axis=0, debias=False) * factor(momentum)
    np.testing.assert_allclose(velocities, expected, rtol=1e-12, atol=1e-13)


# One value after the other ------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_streaming_has_the_same_bits(shape: tuple[int, ...], momentum: float, debias: bool,
                                     dtype: Any) -> None:
    x = noisy(60, *shape, dtype=dtype)
    y = smooth(x, momentum, axis=0, debias=debias)
    one = ExponentialSmoothing(momentum, debias=debias)
    assert (one.value, one.count, one.momentum, one.debias) == (None, 0, momentum, debias)
    for value, expected, count in zip(x, y, np.cumsum(np.isfinite(x), axis=0), strict=True):
        for got in (one.update(value), one.value):
            assert (got.shape, got.dtype) == (shape, dtype)
            assert got.tobytes() == expected.tobytes()
        np.testing.assert_array_equal(one.count, count)


@given(st.floats(0, 1), st.booleans(), hnp.arrays(np.float64, st.integers(0, 130),
                                                  elements=st.floats(-1e300, 1e300)
                                                  | st.sampled_from([NAN, -0.0])))
@settings(deadline=None)
def test_streaming_has_the_same_bits_for_any_series(momentum: float, debias: bool, x: Any) -> None:
    one = ExponentialSmoothing(momentum, debias=debias)
    streamed = np.array([one.update(v) for v in x], np.float64)
    assert streamed.tobytes() == smooth(x, momentum, debias=debias).tobytes()


@pytest.mark.parametrize("debias", [True, False])
def test_streaming_has_the_same_bits_as_a_long_series(debias: bool) -> None:
    x = noisy(20_000)
    one = ExponentialSmoothing(0.999, debias=debias)
    streamed = np.array([one.update(v) for v in x])
    assert streamed.tobytes() == smooth(x, 0.999, debias=debias).tobytes()


def test_what_it_gives_and_takes_is_not_shared() -> None:
    one, other = ExponentialSmoothing(0.5), ExponentialSmoothing(0.5)
    for _ in range(3):
        given = np.ones(2)
        got = one.update(given)
        other.update(np.ones(2))
        state = one.state_dict()
        one.load_state_dict(state)
        for array in (given, got, one.value, one.count, *state.values(),
                      *one.state_dict().values()):
            if isinstance(array, np.ndarray):
                array[...] = 77
        same(one.state_dict(), other.state_dict())


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("start", [0, 1, 50])
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("debias", [True, False])
def test_state_goes_on_where_it_was(debias: bool, shape: tuple[int, ...], start: int) -> None:
    x = noisy(100, *shape, dtype=np.float32)
    y = smooth(x, 0.7, axis=0, debias=debias)
    first, second = (ExponentialSmoothing(0.7, debias=debias) for _ in range(2))
    for value in x[:start]:
        first.update(value)
    second.update([1.0, 2.0])           # all of it is replaced
    state = first.state_dict()
    second.load_state_dict(state)
    for value, expected in zip(x[start:], y[start:], strict=True):
        np.testing.assert_array_equal(second.update(value), expected)
    for value in x[start:]:
        first.update(value)
    same(second.state_dict(), first.state_dict())


def test_state_in_other_memory() -> None:
    """Integers of another name, and columns one after the other."""
    one, other = ExponentialSmoothing(), ExponentialSmoothing()
    one.update(noisy(3, 4))
    state = {name: np.asfortranarray(value) if isinstance(value, np.ndarray) else value
             for name, value in one.state_dict().items()}
    other.load_state_dict({**state, "count": state["count"].astype(np.longlong)})
    np.testing.assert_array_equal(other.update(np.ones((3, 4))), one.update(np.ones((3, 4))))


# What is rejected ---------------------------------------------------------------------------------

NUMBERS: list[tuple[str, Any, type[Exception], str]] = [
    ("a mask", np.ma.masked_array([1.0, 2.0], [0, 1]), TypeError, "is a masked array"),
    ("halves", np.ones(2, np.float16), TypeError, "has dtype float16, expected"),
    ("swapped bytes", np.ones(2, ">f8"), TypeError, "has dtype >f8"),
    ("complex", [1j, 2], TypeError, "has dtype complex128"),
    ("booleans", [True, False], TypeError, "has dtype bool"),
    ("strings", ["1", "2"], TypeError, "has dtype <U1"),
    ("None inside", [1.0, None], TypeError, "has dtype object"),
    ("None", None, TypeError, "has dtype object"),
    ("ragged", [[1.0, 2.0], [3.0]], ValueError, "is not an array"),
]
OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"momentum": -0.1}, ValueError, "momentum must be a number from 0 to 1, not -0.1"),
    ({"momentum": 1.01}, ValueError, "momentum must be"),
    ({"momentum": NAN}, ValueError, "momentum must be"),
    ({"momentum": "0.9"}, TypeError, "momentum must be"),
    ({"momentum": True}, TypeError, "momentum must be"),
    ({"momentum": None}, TypeError, "momentum must be"),
    ({"debias": 1}, TypeError, "debias must be True or False, not 1"),
]
AXES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"axis": 2}, ValueError, "axis of a series of shape (2, 3) must be an integer from -2 to 1"),
    ({"axis": -3}, ValueError, "axis of a series of shape (2, 3) must be"),
    ({"axis": 0.0}, TypeError, "axis of a series of shape (2, 3) must be an integer from"),
    ({"axis": None}, TypeError, "axis of a series of shape (2, 3) must be"),
    ({"axis": True}, TypeError, "axis of a series of shape (2, 3) must be"),
]


@pytest.mark.parametrize(("given", "error", "message"), [row[1:] for row in NUMBERS],
                         ids=[row[0] for row in NUMBERS])
def test_values(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(f"series {message}")):
        smooth(given)
    with pytest.raises(error, match=re.escape(f"value {message}")):
        ExponentialSmoothing().update(given)


@pytest.mark.parametrize("number", [3.0, np.float32(3), np.array(3.0), 3])
def test_a_single_number_is_no_series(number: Any) -> None:
    with pytest.raises(ValueError, match="series must have at least one dimension"):
        smooth(number)


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS + AXES, ids=str)
def test_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    makers: list[Any] = [lambda **given: smooth(np.ones((2, 3)), **given)]
    makers += [] if "axis" in options else [ExponentialSmoothing]
    for make in makers:
        with pytest.raises(error, match=re.escape(message)):
            make(**options)


@pytest.mark.parametrize(("given", "error", "message"), [
    (np.float32(1), ValueError, "value has shape (), expected (2,)"),
    (np.ones(1, np.float32), ValueError, "value has shape (1,), expected (2,)"),
    ([1.0, 2.0], TypeError, "value has dtype float64, expected float32"),
    (["a", "b"], TypeError, "value has dtype"),
], ids=str)
def test_values_unlike_the_first_change_nothing(given: Any, error: type[Exception],
                                                message: str) -> None:
    one = ExponentialSmoothing()
    one.update(np.ones(2, np.float32))
    before = one.state_dict()
    with pytest.raises(error, match=re.escape(message)):
        one.update(given)
    same(one.state_dict(), before)


def test_options_are_fixed() -> None:
    one: Any = ExponentialSmoothing()
    for name in ("momentum", "debias", "value", "count"):
        with pytest.raises(AttributeError):
            setattr(one, name, 0)


GONE = ...
STATES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"momentum": 0.8}, ValueError, "state has momentum=0.8, this object has momentum=0.9"),
    ({"momentum": "0.9"}, TypeError, "momentum must be"),
    ({"debias": False}, ValueError, "state has debias=False"),
    ({"total": GONE}, ValueError, "state has the names"),
    ({"value": GONE}, ValueError, "state has the names"),
    ({"debias": GONE}, ValueError, "state has the names"),
    ({"extra": 1}, ValueError, "state has the names"),
    ({"value": 1.0}, TypeError, "state['value'] must be a NumPy array, not float"),
    ({"value": np.ones(2, int)}, TypeError, "state['value'] has dtype int64, expected float64"),
    ({"total": [1.0, 1.0]}, TypeError, "state['total'] must be a NumPy array, not list"),
    ({"total": np.ones(3)}, ValueError, "state['total'] has shape (3,), expected (2,)"),
    ({"total": np.ones(2, np.float32)}, TypeError, "state['total'] has dtype float32"),
    ({"total": np.array([1.0, NAN])}, ValueError, "state['total'] must be finite"),
    ({"count": np.array([-1, 1])}, ValueError, "state['count'] must be >= 0"),
    ({"count": np.ones(2)}, TypeError, "state['count'] has dtype float64, expected int64"),
]


@pytest.mark.parametrize(("changes", "error", "message"), STATES, ids=str)
def test_states(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    one = ExponentialSmoothing()
    for _ in range(3):
        one.update([1.0, 2.0])
    before = one.state_dict()
    state = {**before, **changes}
    state = {name: value for name, value in state.items() if value is not GONE}
    with pytest.raises(error, match=re.escape(message)):
        one.load_state_dict(state)
    same(one.state_dict(), before)


def test_a_state_is_a_mapping() -> None:
    state: Any = [1, 2]
    with pytest.raises(TypeError, match="state must be a mapping, not list"):
        ExponentialSmoothing().load_state_dict(state)


def test_repr() -> None:
    assert repr(ExponentialSmoothing(0.5)) == "ExponentialSmoothing(0.5, debias=True)"
