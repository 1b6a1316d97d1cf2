"""Initial values of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmom.checks import number
from fastmom.nn.names import by_name, name_and_arguments
from fastmom.types import Array

Initializer: TypeAlias = Callable[[tuple[int, ...], np.dtype[Any], np.random.Generator], Array]

# Standard deviation of a standard normal variable cut off at two standard deviations.
TRUNCATED = 0.87962566103423978


class Named:
    """Base of the library's initializers: the name says all."""

    name: str

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any],
                 rng: np.random.Generator) -> Array:
        raise NotImplementedError

    def describe(self) -> Any:
        """Return what `get_initializer` makes it from again: its name, or {name: argument}."""
        return self.name

    def __repr__(self) -> str:
        return repr(self.name)


class Constant(Named):
    """All elements the same number.

    Parameters
    ----------
    value : float

    Raises
    ------
    TypeError, ValueError
        If `value` is no finite number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.nn.initializers import Constant
    >>> Constant(0.5)((3,), np.dtype("float32"), np.random.default_rng(0))
    array([0.5, 0.5, 0.5], dtype=float32)
    """

    name = "constant"

    def __init__(self, value: float) -> None:
        self.value = number("value", value)

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any],
                 rng: np.random.Generator) -> Array:
        return np.full(shape, self.value, dtype)

    def describe(self) -> dict[str, float]:
        return {self.name: self.value}

    def __repr__(self) -> str:
        return f"Constant({self.value!r})"


class Random(Named):
    """Random numbers around 0: from ``-spread`` to `spread`, or of this standard deviation."""

    def __init__(self, name: str, spread: float, uniform: bool) -> None:
        self.name, self.spread, self.uniform = name, spread, uniform

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any],
                 rng: np.random.Generator) -> Array:
        x = (rng.uniform(-self.spread, self.spread, shape) if self.uniform
             else rng.normal(0, self.spread, shape))
        return x.astype(dtype)


class VarianceScaling(Named):
    """Random numbers whose variance keeps that of signals from layer to layer: ``scale / fan``.

    `fan` is the number of inputs a unit sums over ("in"), or the mean of that and the number of
    outputs an input goes to ("mean").

    Normal variables are drawn again where they are beyond two standard deviations. As that shrinks
    their spread, the deviation before it is ``sqrt(scale / fan) / 0.87962566``, as in Keras.
    """

    def __init__(self, name: str, scale: float, fan: str, uniform: bool) -> None:
        self.name, self.scale, self.fan, self.uniform = name, scale, fan, uniform

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any],
                 rng: np.random.Generator) -> Array:
        fan_in, fan_out = fans(shape)
        fan = fan_in if self.fan == "in" else (fan_in + fan_out) / 2
        if self.uniform:
            bound = math.sqrt(3 * self.scale / fan)
            return rng.uniform(-bound, bound, shape).astype(dtype)
        x = rng.standard_normal(shape)
        while (beyond := np.abs(x) > 2).any():
            x[beyond] = rng.standard_normal(np.count_nonzero(beyond))
        x *= math.sqrt(self.scale / fan) / TRUNCATED
        return x.astype(dtype)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a unit: the last two axes, times the size of a convolution's field."""
    if len(shape) < 2:
        return (math.prod(shape),) * 2
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


class Orthogonal(Named):
    """A random matrix with orthonormal columns, or rows where it has fewer; uniform among these.

    All axes but the last count as one.

    References
    ----------
    A. M. Saxe, J. L. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks", 2014.
    """

    name = "orthogonal"

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any],
                 rng: np.random.Generator) -> Array:
        if len(shape) < 2:
            raise ValueError(f"initializer 'orthogonal' needs two dimensions or more, not the "
                             f"shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.copysign(1, np.diag(r))     # else not uniform: LAPACK prefers some signs
        result: Array = (q if rows >= columns else q.T).reshape(shape).astype(dtype, order="C")
        return result


class Filled(Named):
    """A function of NumPy that takes shape and dtype."""

    def __init__(self, name: str, function: Callable[..., Array]) -> None:
        self.name, self.function = name, function

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any],
                 rng: np.random.Generator) -> Array:
        return self.function(shape, dtype)


class Checked:
    """A callable of the user's; its values are copied into an array of the asked dtype."""

    def __init__(self, function: Callable[..., NDArray[Any]], argument: str) -> None:
        self.name = getattr(function, "name", getattr(function, "__name__", repr(function)))
        self.function, self.argument = function, argument

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any],
                 rng: np.random.Generator) -> Array:
        with np.errstate(over="ignore"):    # in a conversion; told by the last check
            x = self.function(shape, dtype, rng)
        must = f"{self.argument} {self.name!r} must return a real array of shape {shape}"
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
            given = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise TypeError(f"{must}, not {given}")
        if x.shape != shape:
            raise ValueError(f"{must}, not {x.shape}")
        with np.errstate(over="ignore"):
            result: Array = x.astype(dtype, order="C")
        if not np.isfinite(result).all():
            raise ValueError(f"{must}, all finite as {dtype}; it has a NaN or an infinity")
        return result

    def describe(self) -> Any:
        """Return the library's description, or "zeros" for a function, whose values are drawn."""
        return getattr(self.function, "describe", lambda: "zeros")()

    def __repr__(self) -> str:
        return repr(self.function)


INITIALIZERS: dict[str, Initializer] = {each.name: each for each in (
    Filled("zeros", np.zeros),
    Filled("ones", np.ones),
    VarianceScaling("glorot_uniform", 1, "mean", uniform=True),
    VarianceScaling("glorot_normal", 1, "mean", uniform=False),
    VarianceScaling("he_uniform", 2, "in", uniform=True),
    VarianceScaling("he_normal", 2, "in", uniform=False),
    VarianceScaling("lecun_uniform", 1, "in", uniform=True),
    VarianceScaling("lecun_normal", 1, "in", uniform=False),
    Random("random_uniform", 0.05, uniform=True),
    Random("random_normal", 0.05, uniform=False),
    Orthogonal(),
)}


def get_initializer(given: Any, argument: str = "initializer") -> Initializer:
    """Return the initializer of this name, or a checked callable ``(shape, dtype, rng)``.

    ``glorot_*`` are X. Glorot and Y. Bengio's (2010), ``he_*`` those of K. He et al. (2015),
    ``lecun_*`` of Y. LeCun et al. (1998); ``random_normal`` has standard deviation 0.05,
    ``random_uniform`` is from -0.05 to 0.05. `argument` is what errors call it.

    Raises
    ------
    ValueError
        If there is none of this name. What a callable returns is checked when it is called.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.nn.initializers import get_initializer
    >>> kernel = get_initializer("he_normal")((784, 128), np.dtype("float32"),
    ...                                       np.random.default_rng(0))
    >>> bool(abs(kernel.std() - (2 / 784) ** 0.5) < 1e-3)
    True
    """
    if callable(given):
        return Checked(given, argument)
    name, value = name_and_arguments(given)
    if value and name == Constant.name:
        return Checked(Constant(*value), argument)
    return by_name(argument, given, INITIALIZERS, "a callable (shape, dtype, rng)")
