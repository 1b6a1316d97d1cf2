"""Exponential smoothing of noisy curves: the formula of momentum, fed with values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastmom.optim.hyper import Flag, Number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastmom.types import Array

    Doubles: TypeAlias = NDArray[np.float64]

# Both `smooth` and `ExponentialSmoothing` sum within blocks of so many values, then add what the
# blocks before have left. So the first can do all blocks at once, and the second, one value at a
# time, rounds exactly as the first does. Measured: with 10^6 values 64 takes as long as 256, less
# than 32; with 1,000 a quarter of it.
BLOCK = 64


class Options:
    """What both take, with its checks."""

    momentum = Number(0.9, high=1.0)
    debias = Flag(True)


def smooth(series: ArrayLike, momentum: float = 0.9, *, axis: int = -1,
           debias: bool = True) -> Array:
    r"""Exponentially smoothed series.

    With ``m`` the momentum and ``s_0 = 0``::

        s_t = m s_{t-1} + (1 - m) x_t
        y_t = s_t                if not debias
        y_t = s_t / (1 - m^n)    if debias, n = number of finite values among x_1 ... x_t

    Parameters
    ----------
    series : array_like
        At least one dimension; may be empty. float32 and float64 keep their dtype; integers
        (rounded beyond 2^53) and lists of Python numbers are converted to float64.
    momentum : float, default 0.9
        From 0 (no smoothing) to 1; some ``1 / (1 - m)`` values count. With 1 and `debias` the
        result is the limit for m → 1, the mean of all finite values so far (whose sum may not
        overflow); without, it is 0.
    axis : int, default -1
        The axis of time. All others are smoothed independently of each other.
    debias : bool, default True
        Correct the pull towards ``s_0 = 0``, as Adam and TensorBoard do. Then every ``y_t`` is a
        weighted mean of the values so far, and stays between the smallest and the largest of them
        even in rounding: the first value and a constant series come out exactly as they are.

    Returns
    -------
    ndarray
        A new C-contiguous array of the shape of `series`, float32 if that is, else float64. All is
        computed in float64.

    Raises
    ------
    TypeError
        If `series` is masked or holds anything but integers, float32 and float64, or another
        argument is of the wrong type.
    ValueError
        If `series` is a single number or ragged, there is no such `axis`, or `momentum` is not
        from 0 to 1.

    Notes
    -----
    Values that are not finite are left out, as in TensorBoard: where ``x_t`` is NaN or infinite,
    ``y_t = x_t`` and ``s_t = s_{t-1}``, and `n` does not grow. The finite values after it are
    smoothed as if it had not been there. This holds for each series along `axis` on its own.

    ``s_t`` is the velocity of momentum: fed with gradients ``x_t``, the velocity of
    ``SGD(momentum=m, convention="ema")`` is ``smooth(x, m, debias=False)``, and that of
    ``convention="torch"`` is the same divided by ``1 - m``.

    TensorBoard differs in two points: with ``m = 1`` it draws 0 (unless the series is constant),
    and it leaves a series untouched only if all of it is constant.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015, section 3 (the
    correction). TensorBoard, ``resmoothDataset`` in ``vz_line_chart2/line-chart.ts`` (values that
    are not finite, constant series).

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.smoothing import smooth
    >>> smooth([4.0, 0.0, np.nan, 0.0], momentum=0.5, debias=False)
    array([2. , 1. , nan, 0.5])
    >>> smooth([4.0, 0.0, np.nan, 0.0], momentum=0.5).round(3)
    array([4.   , 1.333,   nan, 0.571])
    >>> smooth([4.0, 0.0, 2.0], momentum=1)
    array([4., 2., 2.])
    """
    m, debias = Options.momentum.check(momentum), Options.debias.check(debias)
    x = as_float("series", series)
    moved = np.moveaxis(x, check_axis(axis, x), 0)
    columns = moved.reshape(len(moved), math.prod(moved.shape[1:]))
    finite, clean = split(columns)
    y = scan(finite, gain(m, debias) * clean, m)
    if debias:
        low = np.minimum.accumulate(np.where(finite, clean, np.inf), axis=0)
        high = np.maximum.accumulate(np.where(finite, clean, -np.inf), axis=0)
        y = unbias(y, m, np.cumsum(finite, axis=0), low, high)
    result = chosen(finite, y, columns).reshape(moved.shape)
    return np.ascontiguousarray(np.moveaxis(result, 0, axis))


class ExponentialSmoothing:
    """`smooth`, one value after the other.

    What `update` returns is bit for bit what `smooth` has at that place for the series of all
    values so far (arrays stacked along the axis of time).

    Parameters
    ----------
    momentum, debias
        As for `smooth`. Both are fixed, since the sum so far depends on them.

    Examples
    --------
    >>> from fastmom.smoothing import ExponentialSmoothing
    >>> loss = ExponentialSmoothing(momentum=0.5)
    >>> [round(float(loss.update(x)), 3) for x in (4.0, 0.0, float("nan"), 0.0)]
    [4.0, 1.333, nan, 0.571]
    >>> int(loss.count)
    3
    """

    def __init__(self, momentum: float = 0.9, *, debias: bool = True) -> None:
        self._momentum: float = Options.momentum.check(momentum)
        self._debias: bool = Options.debias.check(debias)
        self._powers = powers(self._momentum)
        self._updates = 0
        self._state: dict[str, NDArray[Any]] = {}

    @property
    def momentum(self) -> float:
        return self._momentum

    @property
    def debias(self) -> bool:
        return self._debias

    @property
    def value(self) -> Any:
        """What the latest `update` returned (arrays are copies); None before the first."""
        return self._state["value"].copy()[()] if self._state else None

    @property
    def count(self) -> Any:
        """Finite values so far: an integer, or for each element one; 0 before the first update."""
        return self._state["count"].copy()[()] if self._state else 0

    def update(self, value: ArrayLike) -> Any:
        """Take the next value and return the smoothed one.

        Parameters
        ----------
        value : array_like
            A number or an array, converted as by `smooth`. The first one fixes shape and dtype.

        Returns
        -------
        float or ndarray
            A NumPy scalar or a new array, of the shape and dtype of the converted `value`.

        Raises
        ------
        TypeError, ValueError
            If `value` is not numbers, or has another shape or dtype than the first. Nothing has
            changed then.
        """
        x = as_float("value", value)
        old = self._state or fresh(x)
        check_like("value", x, old["value"].shape, old["value"].dtype)
        finite, clean = split(x)
        factor = np.where(finite, self._momentum, 1.0)
        total = factor * old["total"] + gain(self._momentum, self._debias) * clean
        pending = old["pending"] + finite
        y = s = total + self._powers[pending] * old["carry"]
        count = old["count"] + finite
        low = np.minimum(old["low"], np.where(finite, clean, np.inf))
        high = np.maximum(old["high"], np.where(finite, clean, -np.inf))
        if self._debias:
            y = unbias(s, self._momentum, count, low, high)
        carry = old["carry"]
        if (self._updates + 1) % BLOCK == 0:
            total, pending, carry = np.zeros(x.shape), np.zeros_like(pending), s
        new = {"value": chosen(finite, y, x), "count": count, "pending": pending, "total": total,
               "carry": carry, "low": low, "high": high}
        self._state = {name: np.asarray(array) for name, array in new.items()}
        self._updates += 1
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs to go on from here: numbers and copies of arrays."""
        return {"momentum": self._momentum, "debias": self._debias, "updates": self._updates,
                **{name: array.copy() for name, array in self._state.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was called; arrays are copied.

        Raises
        ------
        TypeError, ValueError
            If names are missing or unknown, momentum or debias are not those of this object, or an
            array does not fit the others. Nothing has changed then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping, not {type(state).__name__}")
        updates = state.get("updates")
        if isinstance(updates, bool) or not isinstance(updates, int) or updates < 0:
            raise ValueError(f"state['updates'] must be an integer >= 0, not {updates!r}")
        arrays = ARRAYS if updates else {}
        expected = {"momentum", "debias", "updates", *arrays}
        if set(state) != expected:
            raise ValueError(f"state has the names {sorted(map(str, state))}, expected "
                             f"{sorted(expected)}")
        for name in ("momentum", "debias"):
            if getattr(Options, name).check(state[name]) != getattr(self, name):
                raise ValueError(f"state has {name}={state[name]!r}, this object has "
                                 f"{name}={getattr(self, name)!r}")
        self._state = {name: checked(state, name, arrays[name]).copy() for name in arrays}
        self._updates = updates


# The arithmetic -----------------------------------------------------------------------------------

def gain(momentum: float, debias: bool) -> float:
    """The factor of each value in the sum.

    With momentum 1 it would be 0, and so would the weight by which the sum is divided. As it
    cancels there, it may as well be 1: a sum divided by a count, the limit.
    """
    return 1.0 if debias and momentum == 1.0 else 1.0 - momentum


def split(x: NDArray[Any]) -> tuple[NDArray[np.bool_], Doubles]:
    """Which values are finite, and the values in float64 with 0 for those that are not."""
    finite = np.isfinite(x)
    return finite, np.where(finite, x.astype(np.float64), 0.0)


def unbias(s: Doubles, momentum: float, count: NDArray[Any], low: Doubles,
           high: Doubles) -> Doubles:
    """Sum divided by weight; rounding must not take a mean out of the range of its values."""
    count = np.maximum(count, 1)    # before the first finite value: replaced by the value itself
    if momentum == 1.0:
        weight = count.astype(np.float64)
    else:                           # 1 - m^count, without cancellation for m close to 1
        weight = -np.expm1(count * (math.log(momentum) if momentum else -math.inf))
    return np.clip(s / weight, low, high)


def chosen(finite: NDArray[np.bool_], y: Doubles, x: NDArray[Any]) -> NDArray[Any]:
    """`y` where `x` is finite, else `x`; in the dtype of `x`.

    Every zero becomes +0: which sign `clip` gives it depends on the place in the array.
    """
    return np.where(finite, y + 0.0, x).astype(x.dtype)


def scan(finite: NDArray[np.bool_], term: Doubles, momentum: float) -> Doubles:
    """``s_t = m s_{t-1} + term_t`` where finite, else ``s_{t-1}``, along the first axis of two.

    First all blocks side by side, each as if it began with 0; then from block to block; last, what
    came before a block is added to it, multiplied by the decay since.
    """
    n, columns = term.shape
    if n == 0:
        return term
    size = min(BLOCK, n)
    finite, term = blocks(finite, size), blocks(term, size)
    factor = np.where(finite, momentum, 1.0)
    for j in range(1, size):
        term[j] += factor[j] * term[j - 1]
    decay = powers(momentum)[np.cumsum(finite, axis=0)]
    carry = [columns * [0.0]]
    # One in BLOCK values passes here, and floats take less time than rows of a few elements.
    for factors, ends in zip(decay[-1, :-1].tolist(), term[-1, :-1].tolist(), strict=True):
        carry.append([e + d * c for d, e, c in zip(factors, ends, carry[-1], strict=True)])
    term += decay * np.array(carry)
    return term.swapaxes(0, 1).reshape(len(carry) * size, columns)[:n]


def blocks(a: NDArray[Any], size: int) -> NDArray[Any]:
    """(n, columns) as (place in the block, block, columns), the last block filled up with 0."""
    n, columns = a.shape
    count = -(-n // size)
    if count * size > n:
        a = np.concatenate([a, np.zeros((count * size - n, columns), a.dtype)])
    return a.reshape(count, size, columns).swapaxes(0, 1).copy()    # rows of one place: contiguous


def powers(momentum: float) -> Doubles:
    """m^0 ... m^BLOCK, each correct by itself: as products their errors would add up."""
    return np.array([momentum ** k for k in range(BLOCK + 1)])


# State and checks ---------------------------------------------------------------------------------

ARRAYS: dict[str, tuple[type, ...]] = {
    "value": (np.float32, np.float64), "count": (np.int64,), "pending": (np.int64,),
    "total": (np.float64,), "carry": (np.float64,), "low": (np.float64,), "high": (np.float64,)}


def fresh(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The state before a first value like `x`."""
    shape = x.shape
    return {"value": x, "count": np.zeros(shape, np.int64), "pending": np.zeros(shape, np.int64),
            "total": np.zeros(shape), "carry": np.zeros(shape),
            "low": np.full(shape, np.inf), "high": np.full(shape, -np.inf)}


def as_float(name: str, given: ArrayLike) -> NDArray[Any]:
    """As a float32 or float64 array, or raise."""
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill it with NaN instead: x.filled(np.nan)")
    try:
        x = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}") from None
    if x.dtype.kind in "iu":
        return x.astype(np.float64)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} has dtype {x.dtype}, expected integers, float32 or float64 in "
                        f"native byte order")
    return x


def check_axis(axis: int, x: NDArray[Any]) -> int:
    if x.ndim == 0:
        raise ValueError(f"series must have at least one dimension, not be the number {x}")
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"axis must be an integer, not {axis!r}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be from {-x.ndim} to {x.ndim - 1} for a series of shape "
                         f"{x.shape}, not {axis!r}")
    return int(axis)


def check_like(name: str, x: NDArray[Any], shape: tuple[int, ...], *dtypes: Any) -> None:
    if x.shape != shape:
        raise ValueError(f"{name} has shape {x.shape}, expected {shape}")
    if x.dtype not in dtypes:
        raise TypeError(f"{name} has dtype {x.dtype}, expected "
                        f"{' or '.join(str(np.dtype(d)) for d in dtypes)}")


def checked(state: Mapping[str, Any], name: str, dtypes: tuple[type, ...]) -> NDArray[Any]:
    """The array of this name in a state, or raise."""
    for key in ("value", name):
        if not isinstance(state[key], np.ndarray):
            raise TypeError(f"state[{key!r}] must be an array, not {type(state[key]).__name__}")
    array: NDArray[Any] = state[name]
    check_like(f"state[{name!r}]", array, state["value"].shape, *dtypes)
    if name in ("total", "carry") and not np.isfinite(array).all():
        raise ValueError(f"state[{name!r}] must be finite")
    if name in ("count", "pending"):        # of finite values: in all, and in the block begun
        most = state["updates"] % (BLOCK if name == "pending" else math.inf)
        if not ((array >= 0) & (array <= most)).all():
            raise ValueError(f"state[{name!r}] must be from 0 to {most:g}, the updates")
    return array
