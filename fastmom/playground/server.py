"""Bokeh's server for the page: for this machine, until Ctrl-C or the last page has been closed."""

from __future__ import annotations

import logging
import signal
import socket
import time
import webbrowser
from collections.abc import Callable
from functools import partial
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.core.templates import FILE, get_env
from bokeh.document import Document
from bokeh.server.server import Server
from tornado.ioloop import PeriodicCallback

from fastmom.kernels.system import get_user_limit
from fastmom.playground.landscape import Landscape
from fastmom.playground.page import ROOMS, TEMPLATE
from fastmom.playground.training import Training
from fastmom.threads import set_num_threads

HOST, PORT = "127.0.0.1", 5006
LINGER = 60.0       # seconds without a page, once there was one
TICK = 100          # milliseconds between two looks at the trainings
LOOK = 1.0          # seconds between two looks whether there is one


def build(document: Document, data: str = "auto",
          opened: Callable[[], None] = lambda: None) -> None:
    """Put the rooms on a page; `opened` is called when a browser shows it."""
    landscape, training = Landscape(document), Training(data)
    for root in [*landscape.roots, *training.roots]:
        document.add_root(root)
    document.add_periodic_callback(training.tick, TICK)
    document.on_session_destroyed(lambda session_context: training.close())
    document.on_event("document_ready", lambda event: opened())
    document.title = "fastmom playground"
    document.template = get_env().from_string(TEMPLATE)
    document.template_variables.update(rooms=ROOMS, heading=document.title, base=FILE)


def free_port(port: int) -> int:
    """Return this port, or with 0 any; raises OSError if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(f"--port: {port} cannot be used: {error.strerror}; --port 0 takes a free "
                          f"one") from error
        return int(probe.getsockname()[1])


def serve(port: int = PORT, *, data: str = "auto", show: bool = True, linger: float = LINGER,
          ready: Callable[[str], object] = print) -> str:
    """Serve the page, and return why that has ended: ``"interrupted"`` or ``"closed"``.

    Parameters
    ----------
    port : int
        0 takes a free one.
    data : str
        As for `fastmom.data.load`.
    show : bool
        Open a browser.
    linger : float
        Seconds after the last page was closed.
    ready : callable
        Called with the address.
    """
    port = free_port(port)
    origins = [f"{host}:{port}" for host in (HOST, "localhost")]
    page = Application(FunctionHandler(partial(build, data=data, opened=lambda: hurry(server))))
    server: Any = Server({"/": page}, address=HOST, port=port,
                    allow_websocket_origin=origins, check_unused_sessions_milliseconds=1000,
                    unused_session_lifetime_milliseconds=1000)
    loop: Any = server.io_loop
    watch = Watch(server, linger)
    before = signal.signal(signal.SIGINT, lambda *_: loop.add_callback_from_signal(loop.stop))
    looks = PeriodicCallback(watch.look, LOOK * 1000)
    # A page that is closed in the middle of an update is nothing to warn of
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)
    threads = get_user_limit()
    set_num_threads(1)      # the rest is for the page
    try:
        server.start()
        looks.start()
        address = f"http://{HOST}:{port}/"
        ready(address)
        if show:
            webbrowser.open(address)
        loop.start()
    finally:
        signal.signal(signal.SIGINT, before)
        set_num_threads(threads)
        looks.stop()
        server.stop()
        server.unlisten()
    return "closed" if watch.over else "interrupted"


def hurry(server: Any) -> None:
    """Send each part of an answer at once.

    Bokeh sends a message in several parts, and the system holds the second one back until the
    first is acknowledged: 40 ms, for an answer of 5.
    """
    for client in server._tornado._clients:
        client._socket.set_nodelay(True)


class Watch:
    """Stop the server when no page was open for so many seconds, once there was one."""

    def __init__(self, server: Any, linger: float) -> None:
        self._server, self._linger = server, linger
        self._last: float | None = None
        self.over = False

    def look(self) -> None:
        now = time.monotonic()
        if any(session.connection_count for session in self._server.get_sessions()):
            self._last = now
        elif self._last is not None and now - self._last > self._linger:
            self.over = True
            self._server.io_loop.stop()
