"""Gradients of some rows of a parameter, as of an embedding table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.kernels.interchange import shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = (np.dtype(np.int64), np.dtype(np.int32))
VALUES = (np.dtype(np.float32), np.dtype(np.float64))


class RowGrad:
    r"""A gradient that is zero but for some rows of the parameter, such as an embedding table's.

    It takes the place of an array in the list that `Optimizer.step` gets. The step reads and writes
    these rows of the parameter and of its state alone, so it takes as long as they are many,
    however many others there are.

    Parameters
    ----------
    rows : ndarray of int64 or int32, shape (n,)
        Places along the parameter's first axis, from 0; in any order, also several times: values of
        the same row are added up in the order in which they are given. Read only.
    values : ndarray of the parameter's dtype, shape (n, \*parameter.shape[1:])
        The gradient of each of these rows. C-contiguous. Read only.

    Attributes
    ----------
    rows, values : ndarray
        The arrays themselves, no copies: what they hold when the step is taken counts.

    Raises
    ------
    TypeError, ValueError
        If the arrays are of other dtypes, strided, or of different lengths. What depends on the
        parameter (rows below its length, shape, dtype, overlap) the step checks, before it changes
        anything.

    Notes
    -----
    `SGD`, `Adagrad`, `Adam` and `AdamW` take it; all others refuse it by name. To the rows in the
    list they do what they would do with all rows, and to the rest nothing at all. That is lazy:

    - velocities and means of rows that are not in the list do not decay, and momentum moves no such
      row;
    - weight decay acts on the rows in the list;
    - steps are counted for the parameter, not for each row: corrections for the bias of means, the
      dampening of the first step and schedules go by that number.

    `Adam` is then PyTorch's ``SparseAdam``. Plain `SGD` and `Adagrad` without weight decay do the
    same as with the whole gradient, in which the other rows are 0.

    The bits are the same for any number of threads. Clipping by norm sees the norm of the sums, as
    that of the whole gradient; clipping by value limits the sums. A list may hold whole gradients
    of other parameters as well. An empty one touches no row and counts as a gradient.

    References
    ----------
    ``torch.optim.SparseAdam``, PyTorch's documentation.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> table = np.zeros((5, 2), np.float32)
    >>> optimizer = fm.SGD([table], lr=1.0, momentum=0.9)
    >>> rows = np.array([3, 1, 3])
    >>> optimizer.step([fm.RowGrad(rows, np.array([[1, 2], [3, 4], [5, 6]], np.float32))])
    True
    >>> table
    array([[ 0.,  0.],
           [-3., -4.],
           [ 0.,  0.],
           [-6., -8.],
           [ 0.,  0.]], dtype=float32)
    """

    __slots__ = ("_rows", "_values")

    def __init__(self, rows: NDArray[np.int64 | np.int32],
                 values: NDArray[np.float32 | np.float64]) -> None:
        rows, values = shared(rows, "rows"), shared(values, "values")
        for name, array, allowed in (("rows", rows, ROWS), ("values", values, VALUES)):
            if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
                raise TypeError(f"{name} must be a NumPy array, not {type(array).__name__}")
            plain = np.asarray(array)       # a subclass may say anything
            if plain.dtype not in allowed:
                raise TypeError(f"{name} has dtype {plain.dtype}, expected {allowed[0]} or "
                                f"{allowed[1]} in native byte order")
            if not plain.flags.c_contiguous:
                raise ValueError(f"{name} is not C-contiguous (shape {plain.shape}, strides "
                                 f"{plain.strides}); pass a contiguous array, e.g. "
                                 f"np.ascontiguousarray")
            if not plain.flags.aligned:
                raise ValueError(f"{name} is not aligned to its {plain.dtype} items")
        self._rows, self._values = np.asarray(rows), np.asarray(values)
        if self._rows.ndim != 1:
            raise ValueError(f"rows must have one axis, not shape {self._rows.shape}")
        if self._values.shape[:1] != self._rows.shape:
            raise ValueError(f"values has shape {self._values.shape}, expected "
                             f"({self._rows.size}, ...): one for each of rows")

    @property
    def rows(self) -> NDArray[Any]:
        return self._rows

    @property
    def values(self) -> NDArray[Any]:
        return self._values

    def __repr__(self) -> str:
        return f"RowGrad(<{self._rows.size} rows of {self._values.dtype} {self._values.shape[1:]}>)"


def check_finite(where: str, rows: NDArray[Any], values: NDArray[Any]) -> None:
    """Raise FloatingPointError for the first row with a sum that is a NaN or infinite."""
    distinct, places = np.unique(rows, return_inverse=True)
    sums = np.zeros((len(distinct), *values.shape[1:]), values.dtype)
    with np.errstate(all="ignore"):
        np.add.at(sums, places, values)
    finite = np.isfinite(sums)
    if not finite.all():
        k, *rest = map(int, np.unravel_index(np.argmin(finite), finite.shape))
        raise FloatingPointError(f"{where} is {sums[(k, *rest)]} at index "
                                 f"{(int(distinct[k]), *rest)}")
