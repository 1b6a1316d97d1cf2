"""The compiled engine: raw pointers and loops, nothing of optimizers.

`engine` binds arrays and takes steps, `sweep` passes over their chunks; `layers` is what networks
call. The loops under both (`rules.pxi`, `layer_loops.pxi`) are compiled once per instruction set,
as `loops_avx2` and so on, and are called through one table of pointers in `loops`. `isa` chooses it
at import; `team` holds the only parallel region. `rows` names the rules' coefficients.
"""

try:
    import fastmom.kernels.system  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f"the sources in {__path__[0]} are not built ({error}); build them with: pip install -e ."
        f"\nor use an installed fastmom: leave this directory, or start python with -P") from error

from fastmom.kernels import isa
from fastmom.kernels.engine import Engine
from fastmom.kernels.rows import coefficients

__all__ = ["Engine", "coefficients", "isa"]
