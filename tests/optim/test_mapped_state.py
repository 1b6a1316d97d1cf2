"""State of memory-mapped parameters has its place on the disk before the first step."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim import buffers

N = 1 << 18


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    return np.memmap(tmp_path / "weights", np.float32, "w+", shape=(N,))


def lacking(monkeypatch: pytest.MonkeyPatch, error: int | None) -> None:
    """Make `posix_fallocate` fail with this error, or be missing."""
    if error is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        return

    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)


@pytest.mark.parametrize("error", ["real", None, errno.EOPNOTSUPP])
def test_every_byte_of_the_state_is_on_the_disk(
        mapped: Any, error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if error != "real":
        lacking(monkeypatch, error)
    files: list[int] = []
    monkeypatch.setattr(buffers, "_reserve", lambda file, size, original=buffers._reserve: (
        original(file, size), files.append(os.fstat(file.fileno()).st_blocks * 512)))
    opt = fm.SGD([mapped], momentum=0.9)
    assert files[0] >= mapped.nbytes
    assert opt.step([np.ones(N, np.float32)])
    assert (opt.state[0]["velocity"] == 1).all()


def test_a_disk_without_room_is_an_error(mapped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the file and the size; the optimizer can be bound to others afterwards."""
    lacking(monkeypatch, errno.ENOSPC)
    opt = fm.Adam()
    bytes_ = 3 * (mapped.nbytes + 128)
    with pytest.raises(OSError, match=re.escape(
            f"cannot reserve {bytes_} bytes for the state of the parameter in {mapped.filename}: "
            f"No space left")) as caught:
        opt.bind([mapped])
    assert caught.value.errno == errno.ENOSPC
    assert not mapped.any()
    opt.bind([np.zeros(3)])


@pytest.mark.parametrize("cls", [fm.Adafactor, fm.NovoGrad])
def test_state_of_other_shapes(cls: Any, mapped: Any) -> None:
    """Of mapped parameters and others together, in the bits of memory alone."""
    params = [mapped.reshape(512, -1), np.zeros(3, np.float32)]
    copies = [np.zeros(p.shape, np.float32) for p in params]
    optimizers = cls(params), cls(copies)
    for step in range(3):
        grads = [np.random.default_rng(step).standard_normal(p.shape).astype(np.float32)
                 for p in params]
        for optimizer in optimizers:
            assert optimizer.step(grads)
    for p, q in zip(params, copies, strict=True):
        assert p.any()
        np.testing.assert_array_equal(p, q)
    for own, other in zip(optimizers[0].state, optimizers[1].state, strict=True):
        assert [a.tobytes() for a in own.values()] == [a.tobytes() for a in other.values()]
    assert isinstance(next(iter(optimizers[0].state[0].values())), np.memmap)


@pytest.mark.parametrize("error", ["real", errno.EOPNOTSUPP])
def test_a_limit_on_file_size_is_an_error(
        mapped: Any, error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own refusal, by either way of reserving."""
    resource = pytest.importorskip("resource")
    if error != "real":
        lacking(monkeypatch, error)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, old[1]))
    try:
        with pytest.raises(OSError, match="cannot reserve 1048704 bytes"):
            fm.SGD([mapped], momentum=0.9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
