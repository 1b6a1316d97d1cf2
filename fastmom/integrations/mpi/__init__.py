"""Training on many ranks of MPI: optimizer state divided among them, or the same on each.

Start a program with ``mpiexec -n 4 python program.py``. `Sharded` keeps one copy of the parameters
in each node, and of the optimizer's state each rank its part; `Replicated` is for small models,
whose parameters and state every rank has.
"""

from fastmom.extras import need

need("mpi4py.MPI", "mpi", "many ranks")

from fastmom.integrations.mpi.replicated import Replicated  # noqa: E402
from fastmom.integrations.mpi.sharded import Sharded  # noqa: E402

__all__ = ["Replicated", "Sharded"]
