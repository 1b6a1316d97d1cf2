"""Optimizers on several ranks of MPI."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

try:
    from fastmom.integrations.mpi.ranks import FILES, sweep
    from fastmom.integrations.mpi.shards import layout
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

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


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_are_all_there_is(parts: int, whole: bool) -> None:
    shapes: list[tuple[int, ...]] = [(1000, 77), (), (5,), (0, 3), (4096,), (33, 3), (100_000,)]
    dtypes = [np.dtype(name) for name in ("f4", "f8", "f2", "f4", "f4", "f8", "f4")]
    plan = layout(shapes, dtypes, parts, whole)
    assert list(plan.bounds) == sorted(plan.bounds)
    memory = np.zeros(plan.nbytes, np.uint8)
    sizes = []
    for k in range(parts):
        own = [tensor.part(memory, k) for tensor in plan.tensors]
        piece = memory[plan.bounds[k]:plan.bounds[k + 1]]
        for tensor, part in zip(plan.tensors, own, strict=True):
            part += k + 1
            within = tensor.part(piece, k, plan.bounds[k])
            assert within.size == part.size
            assert part.size == 0 or np.shares_memory(within, part)
            assert part.size == 0 or part.ctypes.data % 64 == memory.ctypes.data % 64
            assert not whole or part.shape == tensor.shape or part.size == 0
        sizes.append(sum(part.nbytes for part in own))
    for tensor in plan.tensors:         # each element is in one part
        view = tensor.view(memory)
        assert ((view >= 1) & (view <= parts)).all()
    most = max(np.prod(shape) * 4 for shape in shapes) if whole else 8 * 256
    assert max(sizes) <= sum(sizes) / parts + most


@pytest.mark.parametrize("ranks", [2, 1, *(pytest.param(n, marks=pytest.mark.slow)
                                           for n in (3, 4))])
@pytest.mark.parametrize("kind", ["sharded", "replicated"])
def test_every_optimizer_equals_the_single_process(kind: str, ranks: int) -> None:
    passes(ranks, "optimizers", kind, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "per_node"), [(2, 1), (4, 2), (3, 1)])
@pytest.mark.parametrize("kind", ["sharded", "replicated"])
def test_every_optimizer_between_nodes(kind: str, ranks: int, per_node: int) -> None:
    passes(ranks, "optimizers", kind, per_node)


@pytest.mark.parametrize(("ranks", "per_node"), [(4, 2), (2, 1)])
@pytest.mark.parametrize("kind", ["sharded", "replicated"])
def test_what_travels_early_and_in_less(kind: str, ranks: int, per_node: int) -> None:
    passes(ranks, "overlap", kind, per_node)
    passes(ranks, "wire", kind, per_node)


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


@pytest.mark.parametrize("ranks", [3, 1, 2])
def test_features(ranks: int) -> None:
    passes(ranks, "features")


@pytest.mark.parametrize("ranks", [2, 1, 4])
def test_state_is_divided(ranks: int) -> None:
    passes(ranks, "memory")


@pytest.mark.parametrize("cls", ["AdamW", "Muon"])
def test_checkpoints_of_any_number_of_ranks(cls: str, tmp_path: Path) -> None:
    passes(3, "checkpoints", "save", tmp_path, cls)
    for ranks in (1, 2):
        passes(ranks, "checkpoints", "load", tmp_path, cls)


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_differs_is_named_on_every_rank(ranks: int) -> None:
    passes(ranks, "different")


@pytest.mark.parametrize("kind", ["sharded", "replicated"])
def test_a_refused_step_changes_nothing_anywhere(kind: str) -> None:
    passes(2, "refused", kind)


def segments() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("*") if path.name.startswith(FILES)}


def test_files_that_nobody_has_are_swept(tmp_path: Path) -> None:
    mine = {name: tmp_path / name for name in ("mpich_shm_old", "ucx_shm_posix_1", "mpich_shm_used",
                                               "mpich_shm_new", "another")}
    for path in mine.values():
        path.write_bytes(bytes(4096))
        if path.name != "mpich_shm_new":
            os.utime(path, (0, 0))
    with mine["mpich_shm_used"].open("r+b") as file, mmap.mmap(file.fileno(), 4096):
        sweep(str(tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"mpich_shm_used", "mpich_shm_new", "another"}


@pytest.mark.parametrize("how", ["missing", "asleep", "stopped", "killed", "raised", "all"])
def test_a_rank_that_does_not_come_ends_the_run(how: str) -> None:
    before, start = segments(), time.monotonic()
    done = launch(3, "late", how)
    assert time.monotonic() - start < 30
    assert done.returncode != 0
    assert segments() <= before
    assert done.stderr.count("Traceback") == (how in ("raised", "all")), done.stderr
    expected = {"killed": "Killed", "raised": "ZeroDivisionError: of this rank",
                "all": "ValueError: grads has 0 entries"}.get(
        how, "rank 2 did not come to the step within 2 s" if how != "missing" else
        "did not come to the making of Sharded within 2 s")
    assert done.stderr.count(expected) + done.stdout.count(expected) == 1, done.stderr
