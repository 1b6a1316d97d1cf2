"""Types for annotations. Imported by type checkers alone: `import fastmom` stays quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
Numbers: TypeAlias = NDArray[np.integer[Any] | np.floating[Any] | np.bool_]
Params: TypeAlias = Sequence[Array] | Sequence[Mapping[str, Any]]
Schedule: TypeAlias = Callable[[int], float]
Row: TypeAlias = tuple[float, ...]      # rule number, then its coefficients


class Common(TypedDict, total=False):
    """Keyword arguments every optimizer takes (see `Optimizer`)."""

    clip_norm: float | Schedule | None
    clip_norm_per_tensor: float | Schedule | None
    clip_value: float | Schedule | None
    grad_scale: float | Schedule
    nonfinite: str
    maximize: bool
