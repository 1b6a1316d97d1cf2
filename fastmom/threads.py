"""The number of threads that the kernels use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fastmom.kernels import system


def get_num_threads() -> int:
    """Threads a large step would use now.

    The smallest of the CPU affinity, the control group's CPU quota, OpenMP's own limit
    (``OMP_NUM_THREADS``, threadpoolctl) and `set_num_threads`; 1 in a forked process. All are read
    at each call, the quota at most once a second.

    Examples
    --------
    >>> import fastmom as fm
    >>> with fm.num_threads(1):
    ...     fm.get_num_threads()
    1
    """
    return system.get_num_threads()


def set_num_threads(n: int | None) -> None:
    """Use at most `n` threads from the next step on, in the whole process; None lifts the limit.

    Raises
    ------
    TypeError, ValueError
        If `n` is not None or an integer >= 1.
    """
    if n is not None:
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"n must be an integer >= 1 or None, not {n!r}")
        if not 1 <= n < 2**31:
            raise ValueError(f"n must be an integer >= 1 or None, not {n!r}")
        n = int(n)
    system.set_user_limit(n)


@contextmanager
def num_threads(n: int | None) -> Iterator[None]:
    """`set_num_threads` for the duration of a ``with`` block."""
    before = system.get_user_limit()
    set_num_threads(n)
    try:
        yield
    finally:
        system.set_user_limit(before)
