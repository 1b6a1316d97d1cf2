"""Small data sets in MNIST's layout, and a server that mirrors them."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fastmom.data import mnist
from fastmom.data.idx import FILES


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's data and cache; return the cache directory."""
    monkeypatch.delenv("FASTMOM_DATA", raising=False)
    monkeypatch.setenv("FASTMOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def to_idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    return to_idx


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """A data set of 7 and 4 images of 3 by 5 pixels, by the names of its files."""
    rng = np.random.default_rng(0)
    return {
        name: rng.integers(0, 256, (n, 3, 5)) if "images" in name else rng.integers(0, 10, n)
        for name, n in zip(FILES, (7, 7, 4, 4), strict=True)
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes arrays as IDX files into a new directory."""

    def write(arrays: Mapping[str, np.ndarray], suffix: str = "", name: str = "data") -> Path:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        for file, array in arrays.items():
            data = to_idx(array)
            (directory / f"{file}{suffix}").write_bytes(gzip.compress(data) if suffix else data)
        return directory

    return write


class Mirror(ThreadingHTTPServer):
    """Serves `files` (path to body); cuts the paths in `cut` short, does not answer if `mute`.

    What is in `dripping` comes byte by byte, what is in `endless` never ends.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.dripping: set[str] = set()
        self.endless: set[str] = set()
        self.sent = 0
        self.gets: list[str] = []
        self.mute = False
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.server.gets.append(self.path)
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        if self.server.mute:
            self.server.closing.wait(10)
            return
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        if self.path not in self.server.endless:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        if self.path in self.server.endless or self.path in self.server.dripping:
            self.go_on(data)
        else:
            self.wfile.write(data[: len(data) // 2] if self.path in self.server.cut else data)

    def go_on(self, data: bytes) -> None:
        """Send 64 KiB after 64 KiB, or a byte each 20 ms, until the other side hangs up."""
        drip = self.path in self.server.dripping
        piece, pause = (data[:1], 0.02) if drip else (bytes(1 << 16), 0.0)
        try:
            while not self.server.closing.wait(pause):
                self.wfile.write(piece)
                self.server.sent += len(piece)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Two mirrors, /a/ and /b/ of one local server, that replace MNIST's."""
    pytest.importorskip("pooch", reason="downloads need pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Mirror()
    for name, array in arrays.items():
        data = to_idx(array)
        known = mnist.Known(array.shape, hashlib.sha256(data).hexdigest())
        monkeypatch.setitem(mnist.KNOWN, name, known)
        for path in ("/a/", "/b/"):
            server.files[f"{path}{name}.gz"] = gzip.compress(data)
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("/a/"), server.url("/b/")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()
