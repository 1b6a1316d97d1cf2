"""The norm of a gradient whose parts are on many ranks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fastmom.integrations.mpi.ranks import Ranks

if TYPE_CHECKING:
    from fastmom.kernels import Engine


def agreed_norm(ranks: Ranks, prober: Engine, grads: list[Any], scale: float) -> float:
    """Return the norm of all ranks' parts together, divided by `scale`: the same on each."""
    norms: list[float] = []

    def look() -> list[Any]:
        norms.extend(prober.norms())
        return []           # and change nothing
    prober.run(grads, look)
    told = ranks.agree(together(norms))
    return together(told[:, 0].tolist()) / scale


def together(norms: list[float]) -> float:
    """Return the norm of what has these norms, added in their order; NaN or infinite if one is."""
    largest = max(norms, default=0.0)
    if not math.isfinite(sum(norms)) or largest == 0:
        return sum(norms)
    return largest * math.sqrt(sum((norm / largest) ** 2 for norm in norms))


def refuse_nonfinite(ranks: Ranks, grads: list[Any], mask: list[bool]) -> NoReturn:
    """Raise FloatingPointError on all ranks for the first value that is not finite."""
    found = ranks.exchange(next(
        (f"grads[{i}] of rank {ranks.rank} is {grad[where]} at index {where}"
         for i, (grad, there) in enumerate(zip(grads, mask, strict=True)) if there
         and (where := _first(grad)) is not None), None))
    raise FloatingPointError(next(filter(None, found), "the mean of the ranks' gradients is not "
                                                       "finite"))


def _first(grad: Any) -> tuple[int, ...] | None:
    finite = np.isfinite(grad)
    if finite.all():
        return None
    return tuple(map(int, np.unravel_index(np.argmin(finite), finite.shape)))
