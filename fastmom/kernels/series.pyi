from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def advance(series: Array, axis: int, momentum: float, debias: bool, total: Array, count: Array,
            low: Array, high: Array) -> Array: ...
