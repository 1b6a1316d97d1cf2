from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def advance(series: _Array, axis: int, momentum: float, debias: bool, total: _Array, count: _Array,
            low: _Array, high: _Array) -> _Array: ...
