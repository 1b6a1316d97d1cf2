"""The compiled engine: raw pointers and loops, nothing of optimizers.

`engine` binds arrays and takes steps, `sweep` passes over their chunks; `layers` is what networks
call. The loops under both (`rules.pxi`, `layer_loops.pxi`) are compiled once per instruction set,
as `loops_avx2` and so on, and are called through one table of pointers in `loops`. `isa` chooses it
at import; `team` holds the only parallel region. `rows` names the rules' coefficients.
"""

try:
    from fastmom.kernels import system as _system  # noqa: F401
except ImportError as error:
    raise ImportError(f"the compiled modules cannot be imported from {__path__[0]} ({error}); in a "
                      f"source directory, build them with: pip install -e .") from error

from fastmom.kernels import isa
from fastmom.kernels.engine import Engine
from fastmom.kernels.rows import coefficients

__all__ = ["Engine", "coefficients", "isa"]
