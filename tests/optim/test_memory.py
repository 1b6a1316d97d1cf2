"""Whatever Python code does to arrays between steps, the kernel never touches memory it should not.

Each change to a bound array must be noticed: the step raises, or works on what the array is now.
Run under AddressSanitizer these tests also prove that nothing else is touched.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm

N = 100_000     # large enough for memory of its own from the operating system


def setup(n: int = N) -> tuple[Any, Any, fm.Optimizer]:
    p, g = np.ones(n, np.float32), np.ones(n, np.float32)
    optimizer = fm.SGD([p], lr=0.5, momentum=0.9)
    assert optimizer.step([g])
    return p, g, optimizer


def set_attribute(array: Any, name: str, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # still possible, so still tested
        setattr(array, name, value)


# What Python code can do to an array, and the error of the next step (None: it still fits)
CHANGES: list[tuple[str, Callable[[Any], None], str | None]] = [
    ("shrink", lambda a: a.resize(N // 2, refcheck=False), "shape"),
    ("grow", lambda a: a.resize(4 * N, refcheck=False), "shape"),
    ("empty", lambda a: a.resize(0, refcheck=False), "shape"),
    ("reshape", lambda a: set_attribute(a, "shape", (N // 2, 2)), "shape"),
    ("dtype", lambda a: set_attribute(a, "dtype", np.int32), "dtype int32"),
    ("wider", lambda a: set_attribute(a, "dtype", np.float64), "float64"),
    ("move", lambda a: (a.resize(8 * N, refcheck=False), a.resize(N, refcheck=False),
                        a.fill(1))[0], None),
]
IDS = [row[0] for row in CHANGES]


@pytest.mark.parametrize(("change", "error"), [row[1:] for row in CHANGES], ids=IDS)
def test_changed_gradient(change: Callable[[Any], None], error: str | None) -> None:
    p, g, optimizer = setup()
    before = p.copy()
    change(g)
    gc.collect()
    if error is None:
        assert optimizer.step([g])
        np.testing.assert_allclose(p, before - 0.5 * 1.9, rtol=1e-6)
    else:
        with pytest.raises((TypeError, ValueError), match=rf"grads\[0\].*{error}"):
            optimizer.step([g])
        np.testing.assert_array_equal(p, before)


@pytest.mark.parametrize(("change", "error"), [row[1:] for row in CHANGES], ids=IDS)
def test_changed_parameter(change: Callable[[Any], None], error: str | None) -> None:
    p, g, optimizer = setup()
    change(p)
    now = p.copy()
    if error is None:
        assert optimizer.step([g])
        np.testing.assert_allclose(p, now - 0.5 * 1.9, rtol=1e-6)
    else:
        with pytest.raises((TypeError, ValueError), match=error):
            optimizer.step([g])
        np.testing.assert_array_equal(p, now)


def test_array_below_a_view_is_resized() -> None:
    """The view itself then points at freed memory, and NumPy does not know."""
    whole = np.ones(2 * N, np.float32)
    g = whole[N:]
    p = np.ones(N, np.float32)
    optimizer = fm.SGD([p])
    assert optimizer.step([g])
    whole.resize(10, refcheck=False)
    with pytest.raises(ValueError, match=r"grads\[0\].*resized"):
        optimizer.step([g])


def test_array_below_a_parameter_is_resized() -> None:
    whole = np.ones(2 * N, np.float32)
    p, g = whole[N:], np.ones(N, np.float32)
    optimizer = fm.SGD([p], momentum=0.9)
    assert optimizer.step([g])
    whole.resize(10, refcheck=False)
    with pytest.raises(ValueError, match=r"params\[0\].*resized"):
        optimizer.step([g])


def test_memory_below_the_state_is_resized() -> None:
    p, g, optimizer = setup()
    velocity = optimizer.state[0]["velocity"]
    set_attribute(velocity, "shape", (N // 2, 2))       # a view of its own: no concern of ours
    assert optimizer.step([g])
    before = p.copy()
    velocity.base.resize(10, refcheck=False)
    with pytest.raises(ValueError, match=r"state\[0\] is a view of an array that was resized"):
        optimizer.step([g])
    np.testing.assert_array_equal(p, before)


def test_made_read_only() -> None:
    p, g, optimizer = setup()
    g.flags.writeable = False       # gradients are only read
    assert optimizer.step([g])
    p.flags.writeable = False
    with pytest.raises(ValueError, match=r"params\[0\] is read-only"):
        optimizer.step([g])


def test_freed_arrays_are_kept_alive() -> None:
    p = np.ones(N, np.float32)
    optimizer = fm.SGD([p], lr=1.0)
    optimizer.step([np.ones(N, np.float32)])
    del p
    gc.collect()
    for _ in range(10):     # new arrays each step, the old ones freed
        assert optimizer.step([np.ones(N, np.float32)])
    np.testing.assert_array_equal(optimizer.param_groups[0]["params"][0], -10.0)


def test_list_of_gradients_may_change_in_place() -> None:
    p, g, optimizer = setup(3)
    grads = [g]
    optimizer.step(grads)
    before = p.copy()
    grads[0] = np.full(3, 100, np.float32)
    optimizer.step(grads)
    assert (p < before - 40).all()


def test_one_gradient_array_may_serve_several_parameters() -> None:
    p, q, g = (np.ones(7, np.float32) for _ in range(3))
    fm.SGD([p, q], lr=1.0).step([g, g])
    assert not p.any()
    assert not q.any()


def test_memory_map(tmp_path: Path) -> None:
    """A parameter in a file, and its state in another, with the same results."""
    mapped = np.memmap(tmp_path / "p", np.float32, "w+", shape=(N // 10, 10))
    plain, g = np.zeros((N // 10, 10), np.float32), np.ones((N // 10, 10), np.float32)
    results = []
    for p in (mapped, plain):
        optimizer = fm.Adam([p, np.zeros(3, np.float32)], lr=0.5)
        for _ in range(3):
            optimizer.step([g, None])
        results.append([p.tobytes(), *(a.tobytes() for a in optimizer.state[0].values())])
        assert isinstance(optimizer.state[0]["mean"], np.memmap) == (p is mapped)
        assert not isinstance(optimizer.state[1]["mean"], np.memmap)
        optimizer.flush()
    assert results[0] == results[1]
    assert (tmp_path / "p").read_bytes() == results[0][0]
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


LARGER_THAN_MEMORY = """
import resource, sys
import numpy as np, fastmom as fm
n = 50_000_000                                              # 200 MB an array
p, g = (np.memmap(f"{sys.argv[1]}/{name}", np.float32, "w+", shape=(n,)) for name in "pg")
g[::1000] = 1
used = int(next(line for line in open("/proc/self/status") if "VmData" in line).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, 2 * (used + 80_000_000,))      # no room for one of them
try:
    np.zeros(n, np.float32)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
optimizer = fm.SGD([p], lr=1.0, momentum=0.5)
for _ in range(2):
    optimizer.step([g])
optimizer.flush()
print(p[0], p[1], p[49_999_000])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is Linux's")
def test_larger_than_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LARGER_THAN_MEMORY, str(tmp_path)],
                          capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("-2.5 0.0 -2.5\n", "")


def test_neighbours_are_untouched() -> None:
    """Guard elements around every array, for every size and offset up to a few vectors."""
    for n in range(70):
        for offset in range(1, 18, 4):
            guarded = [np.full(n + 40, 7, np.float32) for _ in range(2)]
            p, g = (a[offset:offset + n] for a in guarded)
            optimizer = fm.SGD([p], lr=0.5, momentum=0.9, clip_value=1.0)
            if n:
                optimizer.step([g])
                optimizer.step([g])
            assert (guarded[0][:offset] == 7).all()
            assert (guarded[0][offset + n:] == 7).all()
            assert (guarded[1] == 7).all()
