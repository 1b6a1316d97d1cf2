"""Training on many ranks of MPI: optimizer state divided among them, or the same on each.

Start a program with ``mpiexec -n 4 python program.py``. `Sharded` keeps one copy of the parameters
in each node, and of the optimizer's state each rank its part; `Replicated` is for small models,
whose parameters and state every rank has.

Any MPI that mpi4py finds will do; ``pip install mpi4py mpich`` brings one along. Under SLURM, with
the cluster's own::

    #!/bin/bash
    #SBATCH --nodes=4 --ntasks-per-node=8 --cpus-per-task=1
    export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
    srun --mpi=pmix python program.py

Once the ranks have met, an error that nobody catches ends all of them, and is told once; a rank
that does not come ends them when `timeout` is over.
"""

from fastmom.extras import need

try:
    need("mpi4py.MPI", "mpi", "many ranks")
except RuntimeError as error:
    raise ImportError(f"mpi4py has no MPI to work with: pip install mpich, or load your system's "
                      f"({error})") from error

from fastmom.integrations.mpi.ranks import unlink_memory
from fastmom.integrations.mpi.replicated import Replicated
from fastmom.integrations.mpi.sharded import Sharded

unlink_memory()

__all__ = ["Replicated", "Sharded"]
