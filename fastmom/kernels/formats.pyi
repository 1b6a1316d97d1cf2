from typing import Any

import numpy as np

BLOCK: int
BLOCKS: dict[str, np.dtype[Any]]

def encoded(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]: ...
def decoded(records: np.ndarray[Any, Any],
            shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]: ...
