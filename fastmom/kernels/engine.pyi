from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from fastmom.kernels.gradients import Gradients

rules: dict[str, tuple[str, ...]]

@final
class Engine(Gradients):
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
    no_rows: str | None
    def __new__(cls, params: list[Any], state: list[Any], averaged: bool = False,
                stochastic: bool = False) -> Engine: ...
    def extended(self, params: list[Any], state: list[Any]) -> Engine: ...
    def orient(self, signs: list[float]) -> None: ...
    def copy_into(self, copies: list[Any]) -> None: ...
    def fill_copies(self) -> None: ...
    def smooth(self, decay: float) -> None: ...
    def assign(self, rows: list[int]) -> None: ...
    def restore(self, steps: Any, iterations: int) -> None: ...
    def run(self, grads: Sequence[Any],
            rows: list[tuple[float, ...]] | Callable[[], list[tuple[float, ...]]],
            now: int = -1) -> bool: ...
    def norms(self) -> list[float]: ...
    def load(self, i: int, start: int, out: NDArray[Any]) -> None: ...
