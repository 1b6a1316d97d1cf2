"""MNIST comes from the first place that has it, and never from a wrong file."""

from __future__ import annotations

import gzip
import io
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmom.data import DataError, DownloadError, load_mnist, mnist
from fastmom.data.cache import cache_dir
from fastmom.data.idx import FILES, TEST_IMAGES, TRAIN_IMAGES, TRAIN_LABELS
from fastmom.data.mnist import find_mnist

REAL = os.environ.get("FASTMOM_DATA")


def same(split: Any, arrays: dict[str, np.ndarray]) -> bool:
    loaded = [array for pair in split for array in pair]
    return all(np.array_equal(*pair) for pair in zip(loaded, arrays.values(), strict=True))


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.exists() else []


COMPLETE = sorted(f"{name}.gz" for name in FILES)


@pytest.mark.skipif(not REAL, reason="FASTMOM_DATA does not name MNIST's directory")
def test_the_real_mnist() -> None:
    assert REAL
    (x_train, y_train), (x_test, y_test) = load_mnist(REAL)
    assert (x_train.shape, y_train.shape) == ((60000, 28, 28), (60000,))
    assert (x_test.shape, y_test.shape) == ((10000, 28, 28), (10000,))
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert y_test[:5].tolist() == [7, 2, 1, 0, 4]
    # The well-known mean and deviation that everybody normalises MNIST with.
    assert x_train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert x_train.std() / 255 == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.skipif(not REAL, reason="FASTMOM_DATA does not name MNIST's directory")
def test_the_real_mnist_in_the_cache(own_cache: Path) -> None:
    assert REAL
    own_cache.mkdir()
    (own_cache / "mnist").symlink_to(REAL)
    assert find_mnist(download=False)[1] == f"MNIST from the cache {own_cache / 'mnist'}"


def test_order(
    arrays: dict[str, np.ndarray],
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    mirror: Any,
) -> None:
    path, variable = write(arrays, name="path"), write(arrays, ".gz", name="variable")
    monkeypatch.setenv("FASTMOM_DATA", str(variable))
    assert find_mnist(path)[1] == f"MNIST from {path}"
    assert find_mnist()[1] == f"MNIST from FASTMOM_DATA={variable}"
    monkeypatch.setenv("FASTMOM_DATA", "")
    assert find_mnist()[1] == f"MNIST downloaded to {cache_dir() / 'mnist'}"
    assert find_mnist()[1] == f"MNIST from the cache {cache_dir() / 'mnist'}"
    assert len(mirror.gets) == 4


@pytest.mark.parametrize("broken", ["missing", "empty", "damaged"])
def test_a_broken_fastmom_data_is_an_error(
    arrays: dict[str, np.ndarray],
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    mirror: Any,
    tmp_path: Path,
    broken: str,
) -> None:
    directory = tmp_path / broken
    if broken != "missing":
        write(arrays if broken == "damaged" else {}, name=broken)
    if broken == "damaged":
        (directory / TRAIN_LABELS).write_bytes(b"")
    monkeypatch.setenv("FASTMOM_DATA", str(directory))
    with pytest.raises(DataError, match=re.escape(f"FASTMOM_DATA: {directory}")) as info:
        load_mnist()
    assert not isinstance(info.value, DownloadError)
    assert mirror.gets == []


def test_downloads(arrays: dict[str, np.ndarray], mirror: Any, own_cache: Path) -> None:
    assert same(load_mnist(), arrays)
    assert mirror.gets == [f"/a/{name}.gz" for name in FILES]
    assert names(own_cache / "mnist") == COMPLETE
    mirror.files.clear()
    assert same(load_mnist(download=False), arrays)


BAD = f"{TEST_IMAGES}.gz"
FAULTS = {
    "missing": "404 Client Error",
    "cut": "IncompleteRead",
    "other file": rf"{BAD}: shape is \(7, 3, 5\), must be \(4, 3, 5\)",
    "other bytes": f"{BAD}: SHA-256 is ",
    "not gzip": f"{BAD}: not a gzip file",
    "dripping": f"{BAD}: less than 65536 bytes within 0.5 seconds",
    "endless": "the server sends more than 1084 bytes",
}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_SLOW_SECONDS", 0.5)


def spoil(mirror: Any, idx_bytes: Any, where: str, fault: str) -> None:
    path = where + BAD
    if fault == "missing":
        del mirror.files[path]
    elif fault == "cut":
        mirror.cut.add(path)
    elif fault in ("dripping", "endless"):
        getattr(mirror, fault).add(path)
    elif fault == "other bytes":
        images = np.zeros(mnist.KNOWN[TEST_IMAGES].shape)
        mirror.files[path] = gzip.compress(idx_bytes(images))
    elif fault == "other file":
        mirror.files[path] = mirror.files[f"{where}{TRAIN_IMAGES}.gz"]
    else:
        mirror.files[path] = b"<html>Log in to this network</html>"


@pytest.mark.parametrize("fault", FAULTS)
def test_the_second_mirror_helps(
    arrays: dict[str, np.ndarray], mirror: Any, idx_bytes: Any, own_cache: Path, fault: str
) -> None:
    spoil(mirror, idx_bytes, "/a/", fault)
    assert same(load_mnist(), arrays)
    assert names(own_cache / "mnist") == COMPLETE


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items())
def test_no_mirror_helps(
    mirror: Any, idx_bytes: Any, own_cache: Path, fault: str, reason: str
) -> None:
    spoil(mirror, idx_bytes, "/a/", fault)
    spoil(mirror, idx_bytes, "/b/", fault)
    with pytest.raises(DownloadError) as info:
        load_mnist()
    message = str(info.value)
    assert len(re.findall(reason, message)) == 2
    assert all(f"{url}: " in message for url in mnist.MIRRORS)
    assert "\n" not in message
    assert set(names(own_cache / "mnist")) <= set(COMPLETE) - {BAD}
    assert mirror.sent < 1 << 24  # what the sockets' buffers take


@pytest.mark.parametrize("damage", [b"", b"not gzip", None])
def test_a_damaged_cache_is_downloaded_again(
    arrays: dict[str, np.ndarray], mirror: Any, own_cache: Path, damage: bytes | None
) -> None:
    load_mnist()
    mirror.gets.clear()
    other = (own_cache / "mnist" / f"{TRAIN_IMAGES}.gz").read_bytes()
    (own_cache / "mnist" / BAD).write_bytes(other if damage is None else damage)
    with pytest.raises(DataError, match=f"not in the cache, and download is False .*{BAD}"):
        load_mnist(download=False)
    assert same(load_mnist(), arrays)
    assert mirror.gets == [f"/a/{BAD}"]


def test_no_server(monkeypatch: pytest.MonkeyPatch, mirror: Any, own_cache: Path) -> None:
    # Port 9 (discard) refuses, and .invalid never resolves.
    mirrors = ("http://127.0.0.1:9/", "http://mirror.invalid/")
    monkeypatch.setattr(mnist, "MIRRORS", mirrors)
    with pytest.raises(DownloadError, match=r"MNIST could not be downloaded \(http.*; http.*\)"):
        load_mnist()
    assert names(own_cache) == []


def test_a_mute_server(monkeypatch: pytest.MonkeyPatch, mirror: Any) -> None:
    mirror.mute = True
    monkeypatch.setattr(mnist, "_ANSWER_SECONDS", 0.1)
    start = time.monotonic()
    with pytest.raises(DownloadError) as info:
        load_mnist()
    assert time.monotonic() - start < 2
    assert str(info.value).count("no answer within 0.1 seconds") == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, mirror: Any, terminal: bool
) -> None:
    pytest.importorskip("tqdm")
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    load_mnist()
    assert ("100%" in stderr.getvalue()) == terminal


def test_no_pooch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DownloadError, match=r'pip install "fastmom\[data\]"'):
        load_mnist()


def test_an_interrupted_download_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, mirror: Any, own_cache: Path
) -> None:
    pooch = pytest.importorskip("pooch")

    def interrupted(self: Any, url: str, output: Any, _: None, check_only: bool = False) -> None:
        if not check_only:
            output.write(b"half of it")
            raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_mnist()
    assert names(own_cache / "mnist") == []


def test_downloads_at_once(arrays: dict[str, np.ndarray], mirror: Any, own_cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: load_mnist(), range(8)))
    assert all(same(split, arrays) for split in loaded)
    assert names(own_cache / "mnist") == COMPLETE


def test_a_cache_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, mirror: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTMOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="file"):
        load_mnist()


def test_download_must_be_a_bool() -> None:
    with pytest.raises(TypeError, match="download must be True or False, not 'no'"):
        load_mnist(download="no")  # type: ignore[arg-type]


@pytest.mark.skipif(os.name == "nt", reason="the cases are POSIX paths")
@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"FASTMOM_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, "/c"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/fastmom"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/fastmom"),
        ("linux", {"FASTMOM_CACHE": ""}, "/home/me/.cache/fastmom"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/fastmom"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/fastmom/Cache"),
        ("win32", {}, "/home/me/AppData/Local/fastmom/Cache"),
    ],
)
def test_cache_dir(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("FASTMOM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_dir() == Path(expected)


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("FASTMOM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(DownloadError, match="no home directory for the cache; set FASTMOM_CACHE"):
        load_mnist()
