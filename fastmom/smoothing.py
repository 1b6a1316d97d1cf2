"""Exponential smoothing of noisy curves: the formula of momentum, fed with values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import flag, integer, number
from fastmom.kernels.series import advance
from fastmom.optim.state_checks import check_fits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastmom.types import Array

FLOATS = (np.dtype(np.float64), np.dtype(np.float32))

# Sums over the values, or over each column of them: the sum of the finite ones, each multiplied
# by what momentum has left of it; their number; with debias the smallest and the largest.
SUMS = {"total": np.float64, "count": np.int64, "low": np.float64, "high": np.float64}


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
    m, debias = number("momentum", momentum, 0.0, 1.0), flag("debias", debias)
    x = as_float("series", series)
    axis = check_axis(axis, x)
    return advance(x, axis, m, debias, *zeros(x.shape[:axis] + x.shape[axis + 1:]).values())


class ExponentialSmoothing:
    """`smooth`, one value after the other.

    Each result is bit for bit that of `smooth` at the same place of the series of all values so
    far (arrays stacked along the axis of time).

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
        self._momentum = number("momentum", momentum, 0.0, 1.0)
        self._debias = flag("debias", debias)
        self._state: dict[str, NDArray[Any]] = {}      # the value and the sums

    def __repr__(self) -> str:
        return f"ExponentialSmoothing({self.momentum!r}, debias={self.debias!r})"

    @property
    def momentum(self) -> float:
        return self._momentum

    @property
    def debias(self) -> bool:
        return self._debias

    @property
    def value(self) -> Any:
        """The result of the latest `update` (arrays are copies); None before the first."""
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
        state = self._state or {"value": x, **zeros(x.shape)}
        latest, *sums = state.values()
        check_fits("value", x, latest)
        state["value"] = advance(x, -1, self._momentum, self._debias, *sums)
        self._state = state
        return self.value

    def __copy__(self) -> ExponentialSmoothing:
        from copy import deepcopy
        return deepcopy(self)       # the sums are updated in place

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs to go on from here: numbers and copies of arrays."""
        return {"momentum": self._momentum, "debias": self._debias,
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
        options = {"momentum", "debias"}        # which is all there is before the first update
        expected = options if set(state) == options else options | {"value", *SUMS}
        if set(state) != expected:
            raise ValueError(f"state has the names {sorted(map(str, state))}, expected "
                             f"{sorted(expected)}")
        for name, check in (("momentum", number), ("debias", flag)):
            if check(name, state[name]) != getattr(self, name):
                raise ValueError(f"state has {name}={state[name]!r}, this object has "
                                 f"{name}={getattr(self, name)!r}")
        new: dict[str, NDArray[Any]] = {}
        if "value" in state:
            value = as_float("state['value']", state["value"])
            new = {"value": value.copy(), **zeros(value.shape)}
            for name, array in new.items():
                check_fits(f"state[{name!r}]", state[name], array)
                array[...] = state[name]
            if not np.isfinite(new["total"]).all():
                raise ValueError("state['total'] must be finite")
            if (new["count"] < 0).any():
                raise ValueError("state['count'] must be >= 0")
        self._state = new


def zeros(shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """The sums before the first value."""
    return {name: np.zeros(shape, dtype) for name, dtype in SUMS.items()}


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
    if x.dtype not in FLOATS:
        raise TypeError(f"{name} has dtype {x.dtype}, expected integers, float32 or float64 in "
                        f"native byte order")
    return x


def check_axis(axis: int, x: NDArray[Any]) -> int:
    """The axis, counted from the first one, or raise."""
    if x.ndim == 0:
        raise ValueError(f"series must have at least one dimension, not be the number {x}")
    return integer(f"axis of a series of shape {x.shape}", axis, -x.ndim, x.ndim - 1) % x.ndim
