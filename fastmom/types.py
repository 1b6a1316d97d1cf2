"""Types for annotations. Imported by type checkers alone: `import fastmom` stays quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmom.kernels.row_grads import RowGrad
from fastmom.kernels.sums import WeightedSum

Array: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
Numbers: TypeAlias = NDArray[np.integer[Any] | np.floating[Any] | np.bool_]
Copies: TypeAlias = Sequence[NDArray[Any] | None]
Params: TypeAlias = Sequence[Array] | Sequence[Mapping[str, Any]]
Grads: TypeAlias = Sequence[Array | WeightedSum | RowGrad | None]
Schedule: TypeAlias = Callable[[int], float]
Row: TypeAlias = tuple[float, ...]      # rule number, then its coefficients

