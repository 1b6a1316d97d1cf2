"""Gradients that are weighted sums of several arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.kernels.interchange import shared

if TYPE_CHECKING:
    from numpy.typing import NDArray


class WeightedSum:
    r"""A gradient that is the weighted sum of several arrays, which the step adds up itself.

    It takes the place of an array in the list that `Optimizer.step` gets. No array of the sum is
    made: each piece is added up in the processor's cache, right before the parameters take it, and
    the step reads every array once.

    Parameters
    ----------
    arrays : sequence of ndarray
        At least one; all of the parameter's shape and C-contiguous, of the dtypes that gradients
        may have, also different ones. Read only.
    weights : sequence of float, optional
        One for each array, finite. By default each is one over their number: the mean.
    relative : bool, default False
        The gradient is the parameter minus the sum. With the parameters of the clients for arrays,
        that is the pseudo-gradient of federated optimization [1]_: plain descent with ``lr=1``
        steps onto their mean.

    Attributes
    ----------
    arrays : tuple of ndarray
    weights : tuple of float
    relative : bool

    Raises
    ------
    TypeError, ValueError
        If there is no array, a weight is not finite or their numbers differ. What depends on the
        parameter (shape, dtype, overlap, weights that the dtype cannot hold) the step checks,
        before it changes anything.

    Notes
    -----
    The sum is computed in the parameter's dtype, in the given order, weights rounded to it first:
    ``w[0] * a[0]``, then ``+ w[k] * a[k]`` one after another. So NumPy gets the same bits (but for
    subnormal numbers, which steps flush to 0 by default), and so does any number of threads.

    Clipping, unscaling and the policy for values that are not finite see the sum; they read the
    arrays once more, as they would a gradient.

    References
    ----------
    .. [1] S. Reddi et al., "Adaptive federated optimization", 2021.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> p = np.zeros(3, np.float32)
    >>> ranks = [np.full(3, g, np.float32) for g in (1, 2, 6)]
    >>> optimizer = fm.SGD([p], lr=1.0)
    >>> optimizer.step([fm.WeightedSum(ranks, [0.5, 0.25, 0.25])])
    True
    >>> p
    array([-2.5, -2.5, -2.5], dtype=float32)
    >>> optimizer.step([fm.WeightedSum(ranks, relative=True)])
    True
    >>> p
    array([3., 3., 3.], dtype=float32)
    """

    __slots__ = ("arrays", "relative", "weights")

    arrays: tuple[NDArray[Any], ...]
    weights: tuple[float, ...]
    relative: bool

    def __init__(self, arrays: Sequence[NDArray[Any]], weights: Sequence[float] | None = None,
                 relative: bool = False) -> None:
        from fastmom.checks import flag, number  # kernels need nothing else of fastmom
        if isinstance(arrays, np.ndarray) or not isinstance(arrays, Sequence):
            raise TypeError(f"arrays must be a list or tuple of arrays, not "
                            f"{type(arrays).__name__}")
        self.arrays = tuple([shared(array, f"arrays[{k}]") for k, array in enumerate(arrays)])
        if not self.arrays:
            raise ValueError("arrays is empty; expected at least one array")
        for k, array in enumerate(self.arrays):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"arrays[{k}] must be a NumPy array, not {type(array).__name__}")
        if weights is None:
            weights = (1 / len(self.arrays),) * len(self.arrays)
        elif isinstance(weights, str) or not isinstance(weights, (Sequence, np.ndarray)):
            raise TypeError(f"weights must be a list or tuple of numbers, not "
                            f"{type(weights).__name__}")
        if len(weights) != len(self.arrays):
            raise ValueError(f"weights has {len(weights)} entries, expected {len(self.arrays)}: "
                             f"one for each array")
        self.weights = tuple([number(f"weights[{k}]", w) for k, w in enumerate(weights)])
        self.relative = flag("relative", relative)

    def __repr__(self) -> str:
        shape, dtype = self.arrays[0].shape, self.arrays[0].dtype
        return (f"WeightedSum(<{len(self.arrays)} arrays like {dtype} {shape}>, "
                f"{list(self.weights)}{', relative=True' * self.relative})")

    def absolute(self, params: NDArray[Any]) -> WeightedSum:
        """Return the gradient of these parameters as a sum that is not relative: ``p - sum``.

        For an engine that updates other arrays, such as sums of gradients.
        """
        if not self.relative:
            return self
        return WeightedSum((params, *self.arrays), (1.0, *(-w for w in self.weights)))


def describe(total: tuple[Any, ...], where: tuple[int, ...]) -> str:
    """Say which of the arrays of a sum is not finite at this place, if one is."""
    for k, array in enumerate(total):
        value = float(array[where])
        if not math.isfinite(value):
            return f"; its arrays[{k}] is {value}"
    return ""
