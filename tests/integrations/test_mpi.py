"""Optimizers on several ranks of MPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent),
                                                        os.environ.get("PATH", "")]))
if MPIEXEC is None:
    pytest.skip("no mpiexec: pip install mpich", allow_module_level=True)

CHILD = Path(__file__).with_name("mpi_child.py")


def launch(ranks: int, *args: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a case on so many ranks; never longer than `timeout`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                   "PYTHONPATH": str(CHILD.parents[1])}
    return subprocess.run([str(MPIEXEC), "-n", str(ranks), sys.executable, str(CHILD),
                           *map(str, args)], env=environment, timeout=timeout, text=True,
                          capture_output=True, check=False)


def passes(ranks: int, *args: object) -> None:
    done = launch(ranks, *args)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["sharded", "replicated"])
def test_every_optimizer_equals_the_single_process(kind: str, ranks: int) -> None:
    passes(ranks, "optimizers", kind, 0)


@pytest.mark.parametrize(("ranks", "per_node"), [(2, 1), (4, 2), (3, 1)])
@pytest.mark.parametrize("kind", ["sharded", "replicated"])
def test_every_optimizer_between_nodes(kind: str, ranks: int, per_node: int) -> None:
    passes(ranks, "optimizers", kind, per_node)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_same_ranks_give_the_same_bits(ranks: int, tmp_path: Path) -> None:
    runs: list[Any] = []
    for run in range(2):
        file = tmp_path / f"{run}.npz"
        passes(ranks, "bits", file)
        with np.load(file) as saved:
            runs.append([saved[name] for name in saved.files])
    for a, b in zip(*runs, strict=True):
        assert a.tobytes() == b.tobytes()


def test_one_rank_has_the_bits_of_the_optimizer() -> None:
    passes(1, "single_bits")


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_features(ranks: int) -> None:
    passes(ranks, "features")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_state_is_divided(ranks: int) -> None:
    passes(ranks, "memory")


@pytest.mark.parametrize("cls", ["AdamW", "Muon"])
def test_checkpoints_of_any_number_of_ranks(cls: str, tmp_path: Path) -> None:
    passes(3, "checkpoints", "save", tmp_path, cls)
    for ranks in (1, 2):
        passes(ranks, "checkpoints", "load", tmp_path, cls)
