from typing import Any

import numpy as np
from typing_extensions import disjoint_base

from fastmom.kernels.bound import Bound

ROW_DTYPES: tuple[np.dtype[Any], np.dtype[Any]]

@disjoint_base
class Gradients(Bound):
    no_rows: str | None
