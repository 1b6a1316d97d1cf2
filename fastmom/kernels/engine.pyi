from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

rules: dict[str, tuple[str, ...]]

@final
class Engine:
    params: list[NDArray[Any]]
    state: list[tuple[NDArray[Any], ...]]
    steps: NDArray[np.int64]
    iterations: int
    uneven: bool
    norm: float
    scale: float
    clip_norm: float
    clip_norm_per_tensor: float
    clip_value: float
    nonfinite: str
    blocked_by: str | None
    parts: int
    averaged: bool
    def __new__(cls, params: list[Any], state: list[Any], averaged: bool = False) -> Engine: ...
    def extended(self, params: list[Any], state: list[Any]) -> Engine: ...
    def orient(self, signs: list[float]) -> None: ...
    def smooth(self, decay: float) -> None: ...
    def assign(self, rows: list[int]) -> None: ...
    def restore(self, steps: Any, iterations: int) -> None: ...
    def run(self, grads: Sequence[Any], rows: list[tuple[float, ...]], now: int = -1) -> bool: ...
