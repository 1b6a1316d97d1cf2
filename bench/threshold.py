"""From how many elements a team of threads pays: ``python -m bench.threshold``.

Finds SERIAL_BELOW of fastmom/kernels/sweep.pyx: below it every step is taken by one thread.
"""

from __future__ import annotations

from collections.abc import Callable

import fastmom as fm
from bench.timing import interleaved
from bench.workloads import arrays


def steps(elements: int, threads: int) -> Callable[[], object]:
    grads = arrays([(elements,)], 1)
    optimizer = fm.SGD(arrays([(elements,)]), lr=1e-9, momentum=0.9)
    assert optimizer._engine is not None
    optimizer._engine.parts = threads
    return lambda: optimizer.step(grads)


def main() -> None:
    team = fm.get_num_threads()
    print(f"{'elements':>9} {'1 thread':>12} {team} threads")
    for elements in (2**k for k in range(12, 21)):
        times = interleaved({str(n): steps(elements, n) for n in (1, team)}, 15)
        one, many = min(times["1"]), min(times[str(team)])
        print(f"{elements:9} {1e6 * one:9.2f} us {1e6 * many:9.2f} us  "
              f"{'team' if many < one else 'one'}")


if __name__ == "__main__":
    main()
