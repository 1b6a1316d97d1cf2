"""The rooms without a browser, and the server."""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest

pytest.importorskip("bokeh", reason="bokeh is not installed")
from browser import playground

from fastmom.landscape import paths, ravine
from fastmom.playground import server
from fastmom.playground.landscape import METHODS, Landscape
from fastmom.playground.panels import MOST, Curve
from fastmom.playground.training import Training


def test_the_paths_are_those_of_the_kernels() -> None:
    room = Landscape()
    room.methods.active = list(range(len(METHODS)))
    room.lr.value, room.momentum.value, room.steps.value = -2.5, 0.7, 50
    surface = ravine(100.0, angle=20)
    expected = paths(surface, 50, {name: make(0.7) for name, make in METHODS.items()},
                     lr=10 ** -2.5)
    assert room.lines.data["label"] == list(METHODS)
    for i, path in enumerate(expected.values()):
        assert np.array_equal(room.lines.data["x"][i], path.points[:, 0])
        assert np.array_equal(room.lines.data["y"][i], path.points[:, 1])
        assert room.lines.data["speed"][i][:-1] == pytest.approx(
            np.hypot(*np.diff(path.points, axis=0).T))


def test_the_start_is_moved_by_a_drag_that_begins_at_it() -> None:
    class Event:
        def __init__(self, x: float, y: float) -> None:
            self.x, self.y = x, y
    room = Landscape()
    x, y = room.start
    room._grab(Event(x + 1.5, y + 1.5))
    room._drag(Event(0.0, 0.0))
    assert room.start == (x, y)
    room._grab(Event(x + 0.1, y))
    room._drag(Event(x + 0.5, y))
    room._drop(Event(99.0, y))              # not beyond the picture
    assert room.start == (room.map.x_range.end, y)
    assert room.lines.data["x"][0][0] == room.start[0]
    assert room.begin.data["x"] == [room.start[0]]


def test_no_method() -> None:
    room = Landscape()
    room.methods.active = []
    assert "Choose a method" in room.says.text
    assert room.lines.data["x"] == []


def test_pictures_do_not_queue_up() -> None:
    class Document:
        def add_timeout_callback(self, function: Any, after: float) -> None:
            pass
    room = Landscape(Document())
    room._taken("tags", None, None)
    done = room.updates
    for value in (0.1, 0.2, 0.3):
        room.momentum.value = value
    assert room.updates == done + 1             # the browser is drawing the first
    room._taken("tags", None, None)
    assert room.updates == done + 2
    assert room.lines.data["momentum"][0] == 0.3


def test_a_long_curve_is_thinned_out() -> None:
    curve = Curve("a", ["step", "loss"])
    columns: dict[str, list[float]] = {"step": [], "loss": []}
    for n in (10, 7, MOST, 3 * MOST, 1, 2):
        first = len(columns["step"])
        for i in range(first, first + n):
            columns["loss"].append(i / 2)
            columns["step"].append(i)
        curve.follow(columns)
        stride = curve._stride
        assert list(curve.source.data["step"]) == columns["step"][::stride]
        assert list(curve.source.data["loss"]) == columns["loss"][::stride]
        assert len(curve.source.data["step"]) <= MOST + 1
    assert curve._stride == 8


def test_the_room_of_training(tmp_path: Path) -> None:
    room = Training(str(commands.write(tmp_path / "digits")))

    def until(there: Any) -> None:
        end = time.monotonic() + 30
        while not there():
            assert time.monotonic() < end
            time.sleep(0.01)
            room.tick()
    try:
        assert room.go.label == "Start"
        room.start_or_pause()
        assert room.go.label == "Pause"
        source = room.panels.curves[0].steps.source
        until(lambda: len(source.data["step"]) > 20)
        room.momentum.value = 0.0
        until(lambda: len(room.panels.curves[0].marks.data["step"]))
        assert room.panels.curves[0].marks.data["text"] == ["m 0.9 → 0"]
        room.start_second()
        until(lambda: len(room.panels.curves[1].steps.source.data["step"]) > 20)
        room.lr.value = -1
        until(lambda: room.panels.curves[1].marks.data["text"] == ["lr 0.01 → 0.1"])
        first = room.runs[0]
        assert first is not None
        assert first.lr.value == 0.01
        room.write_recipe()
        assert "LR = Piecewise([(0, 0.01), (" in room.script.tags[0]
    finally:
        room.close()
    assert not any(run is not None and run.alive for run in room.runs)


# The server ---------------------------------------------------------------------------------------

def upgrade(address: str, origin: str) -> int:
    """Return the status with which a web socket is answered."""
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall((
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: bokeh, none\r\n"
            f"Origin: {origin}\r\n\r\n").encode())
        return int(connection.recv(100).split()[1])


@pytest.mark.slow
def test_foreign_pages_are_refused_and_ctrl_c_ends_it() -> None:
    with playground() as (process, address):
        assert upgrade(address, "http://evil.example") == 403
        assert upgrade(address, "http://127.0.0.1:1") == 403
        assert upgrade(address, address.rstrip("/")) != 403
        port = int(address.rstrip("/").rpartition(":")[2])
        others = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None)
                  if not found[4][0].startswith("127.") and found[0] == socket.AF_INET}
        for other in others:                    # this machine's addresses in networks
            with pytest.raises(OSError):        # noqa: PT011
                socket.create_connection((other, port), 1).close()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read().splitlines()[-1] == "ended"


def test_it_ends_when_the_last_page_has_been_closed() -> None:
    class Session:
        connection_count = 0

    class Loop:
        stopped = False

        def stop(self) -> None:
            self.stopped = True

    class Server:
        io_loop, session = Loop(), Session()

        def get_sessions(self) -> list[Session]:
            return [self.session]
    fake = Server()
    watch = server.Watch(fake, 0.05)
    watch.look()
    time.sleep(0.1)
    watch.look()
    assert not fake.io_loop.stopped             # none was open yet
    fake.session.connection_count = 1
    watch.look()
    fake.session.connection_count = 0
    watch.look()
    assert not fake.io_loop.stopped             # it may be loaded anew
    time.sleep(0.1)
    watch.look()
    assert fake.io_loop.stopped
    assert watch.over


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert commands.run("--port", port, "--no-browser", command="playground") == 2
    assert re.search(rf"--port: {port} cannot be used: .*; --port 0 takes a free one",
                     capsys.readouterr().err)


def test_without_bokeh(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                       tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "bokeh"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    for command, *options in (["playground"], ["train", "--report", tmp_path / "a.html"]):
        assert commands.run(*options, command=command) == 2
        assert 'pip install "fastmom[playground]"' in capsys.readouterr().err
    assert threading.active_count() < 50


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, report = commands.write(tmp_path / "digits"), tmp_path / "report.html"
    assert commands.run("--data", data, "--hidden", 8, "--epochs", 2, "--report", report) == 0
    assert f"report: {report}" in capsys.readouterr().out
    text = report.read_text()
    assert "SGD(lr=0.01, momentum=0.9" in text
    for name in ("loss", "accuracy", "step", "norms", "cosine"):
        assert f'"training-{name}"' in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?(https?:)?//", text)
    assert commands.run("--report", tmp_path / "report.txt") == 2
