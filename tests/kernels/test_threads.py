"""How many threads, and what happens with Python threads, forks and other libraries' pools."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import N, child, train
from threadpoolctl import threadpool_limits

import fastmom as fm
from fastmom.kernels import system
from fastmom.kernels.quota import cpu_quota

TEAM = fm.get_num_threads()


@pytest.fixture(autouse=True)
def no_limit() -> Iterator[None]:
    yield
    fm.set_num_threads(None)


def test_limits_combine() -> None:
    fm.set_num_threads(1)
    assert fm.get_num_threads() == 1
    assert system.limits()["set_num_threads"] == 1
    fm.set_num_threads(10_000)
    assert fm.get_num_threads() == TEAM         # never more than the other limits
    with fm.num_threads(1):
        assert fm.get_num_threads() == 1
        with fm.num_threads(None):
            assert fm.get_num_threads() == TEAM
        assert fm.get_num_threads() == 1
    assert fm.get_num_threads() == TEAM


@pytest.mark.parametrize(("n", "error"), [
    (0, ValueError), (-1, ValueError), (2**31, ValueError), (1.0, TypeError), ("2", TypeError),
    (True, TypeError)])
def test_wrong_limits(n: Any, error: type[Exception]) -> None:
    fm.set_num_threads(1)
    with pytest.raises(error, match="n must be an integer >= 1 or None"):
        fm.set_num_threads(n)
    assert fm.get_num_threads() == 1


def python(code: str, **environment: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not system.openmp, reason="built without OpenMP")
@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT"])
def test_openmp_variables(variable: str) -> None:
    assert python("import fastmom as fm; print(fm.get_num_threads())", **{variable: "1"}) == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_read_at_each_call() -> None:
    code = ("import os, fastmom as fm; fm.get_num_threads(); cpus = os.sched_getaffinity(0); "
            "os.sched_setaffinity(0, {min(cpus)}); a = fm.get_num_threads(); "
            "os.sched_setaffinity(0, cpus); print(a, fm.get_num_threads())")
    assert python(code) == f"1 {TEAM}"


@pytest.mark.skipif(not system.openmp, reason="built without OpenMP")
def test_threadpoolctl_sees_and_limits_us() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    paths = [pool["filepath"] for pool in threadpoolctl.threadpool_info()
             if pool["user_api"] == "openmp"]
    assert any(Path(system.openmp_library).resolve() == Path(path).resolve() for path in paths)
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert fm.get_num_threads() == 1
    assert fm.get_num_threads() == TEAM


# Control groups: what /proc/self/cgroup says, the files below the mount, the quota

CGROUPS: list[tuple[str, str, dict[str, str], int | None]] = [
    ("v2", "0::/a/b", {"a/b/cpu.max": "150000 100000"}, 2),
    ("v2 unlimited", "0::/a", {"a/cpu.max": "max 100000"}, None),
    ("v2 ancestor", "0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
    ("v2 in a container", "0::/elsewhere", {"cpu.max": "50000 100000"}, 1),
    ("v1", "4:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
                                "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 3),
    ("v1 unlimited", "4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1",
                                 "cpu/cpu.cfs_period_us": "100000"}, None),
    ("other controllers", "3:memory:/a", {"memory/a/cpu.max": "1 1"}, None),
    ("nonsense", "0::/a", {"a/cpu.max": "what 0"}, None),
    ("no files", "0::/a", {}, None),
]


@pytest.mark.parametrize(("lines", "files", "quota"), [row[1:] for row in CGROUPS],
                         ids=[row[0] for row in CGROUPS])
def test_quota(lines: str, files: dict[str, str], quota: int | None, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(lines + "\n")
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert cpu_quota(str(tmp_path / "cgroup"), str(tmp_path / "mount")) == quota


def test_a_group_whose_name_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_bytes(b"0::/a/caf\xe9\n")
    group = os.path.join(os.fsencode(tmp_path), b"mount", b"a", b"caf\xe9")
    try:
        os.makedirs(group)
    except OSError:
        pytest.skip("this file system has no such names")
    with open(os.path.join(group, b"cpu.max"), "wb") as file:
        file.write(b"250000 100000\n")
    assert cpu_quota(str(tmp_path / "cgroup"), str(tmp_path / "mount")) == 3


def test_reading_the_quota_takes_little_memory(tmp_path: Path) -> None:
    """It happens once a second, within some step; a step must not seem to need a buffer then."""
    (tmp_path / "cgroup").write_text("".join(f"{i}:c{i}:/docker/{64 * 'a'}\n" for i in range(12))
                                     + "0::/a\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    cpu_quota(str(tmp_path / "cgroup"), str(tmp_path))
    tracemalloc.start()
    try:
        assert cpu_quota(str(tmp_path / "cgroup"), str(tmp_path)) == 2
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6000      # a file's buffer alone takes 8 kB
    assert kept < 500


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    assert cpu_quota(str(tmp_path / "missing"), str(tmp_path)) is None


# Python threads

def test_threads_may_step_different_optimizers() -> None:
    expected = train()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: train(), range(8))) == {expected}


def test_one_optimizer_in_two_threads_raises_or_is_right() -> None:
    """Each step either happens whole or raises; the velocity counts the ones that happened."""
    p, g = np.zeros(N, np.float32), np.ones(N, np.float32)
    optimizer = fm.SGD([p], lr=1.0, momentum=1.0)
    taken: list[bool] = []
    refused: list[str] = []

    def step() -> None:
        for _ in range(50):
            try:
                taken.append(optimizer.step([g]))
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=step) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("another thread" in message for message in refused)
    k = len(taken)
    assert k + len(refused) == 200
    assert optimizer.iterations == k
    np.testing.assert_array_equal(optimizer.state[0]["velocity"], k)
    np.testing.assert_array_equal(p, -k * (k + 1) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda p: fm.Adam(p, lr=lambda step: 0.1 / (1 + step)), fm.Muon],
                         ids=["Adam", "Muon"])
@threadpool_limits.wrap(limits=1, user_api="blas")      # its threads would wait for cores in turns
def test_changing_rows_in_two_threads_raises_or_is_right(make: Any) -> None:
    """Coefficients that change at every step are not mixed up by a second thread."""
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, 600, 700), np.float32)
    results = []
    for count in (1, 4):
        p = start.copy()
        optimizer = make([p])

        def step(optimizer: Any = optimizer) -> None:
            while optimizer.iterations < 30:
                try:
                    optimizer.step([g])
                except RuntimeError:
                    time.sleep(1e-4)        # else the waiting threads take the cores

        threads = [threading.Thread(target=step) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while optimizer.iterations < 33:    # threads may have passed the mark by different numbers
            optimizer.step([g])
        results.append((optimizer.iterations, p.tobytes()))
    assert results[0] == results[1]


def test_the_gil_is_released() -> None:
    """Another thread runs while a step does."""
    optimizer = fm.SGD([np.zeros(30 * N, np.float32)], momentum=0.9)
    grad = np.ones(30 * N, np.float32)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)         # nobody is made to hand over: it must be given away
    turns, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1
            stop.wait(1e-4)

    thread = threading.Thread(target=count)
    try:
        thread.start()
        before = turns[0]
        for _ in range(5):
            optimizer.step([grad])
        assert turns[0] > before
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()


# Processes

FORK_WARNING = "ignore:.*multi-threaded, use of fork:DeprecationWarning"


@pytest.mark.filterwarnings(FORK_WARNING)
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes(method: str) -> None:
    """A child steps correctly and does not hang, though the parent has used its threads."""
    expected = train(parts=2)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    result, threads = queue.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0
    assert result == expected
    if method == "fork":
        assert threads == 1


@pytest.mark.filterwarnings(FORK_WARNING)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_of_a_fork() -> None:
    expected = train(parts=2)
    code = 0
    pid = os.fork()
    if pid == 0:        # never let a failing child run on as a second pytest
        try:
            code = 1 - (train() == expected)
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(1 - (train() == expected))
            code += os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert train(parts=2) == expected       # and the parent's team still works
