from typing import Any, Self

from numpy.typing import NDArray
from typing_extensions import disjoint_base

from fastmom.kernels.arrays import owner_of as owner_of

@disjoint_base
class Bound:
    params: list[NDArray[Any]]
    state: list[tuple[NDArray[Any], ...]]
    copies: list[NDArray[Any] | None]
    averaged: bool
    stochastic: bool
    def __new__(cls, params: list[Any], state: list[Any], averaged: bool = False,
                stochastic: bool = False) -> Self: ...
