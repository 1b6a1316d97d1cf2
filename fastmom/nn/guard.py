"""Keep threads that use a model and one that changes it apart."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any, NamedTuple


class Claim(NamedTuple):
    """A thread that changes the model, the frame in which it does, and by which method."""

    thread: int
    frame: FrameType
    what: str

    def holds(self) -> bool:
        """Return whether the thread is still at it."""
        return running(self.thread, self.frame)


def running(thread: int, sought: FrameType) -> bool:
    """Return whether the thread is in this frame: Ctrl-C may have kept it from saying the end."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame is not sought:
        frame = frame.f_back
    return frame is not None


class Guard:
    """Let any number of threads use a model, or a single one change it; others get an error.

    The thread that changes it may use it meanwhile, as callbacks do, and change single things.
    Nobody waits: two threads that train one model are a mistake in the program.
    """

    # No locks: each step is one operation that Python does not interrupt. Each side first says that
    # it is there and then looks for the other: of two that come at the same time, at least one sees
    # the other.

    def __init__(self) -> None:
        self._users: list[tuple[int, FrameType]] = []       # threads and where they use the model
        self._claims: dict[str, Claim] = {}             # one at most
        self.use = _Use(self)               # a context in which no other thread changes the model

    def change(self, what: str, inside: bool = False) -> _Change:
        """Return a context in which no other thread uses the model.

        `inside` allows it in a callback of the thread that is training the model.
        """
        return _Change(self, what, inside)

    def claimed(self) -> Claim | None:
        """Return who changes the model now."""
        claim = self._claims.get("model")
        return claim if claim is not None and claim.holds() else None


class _Use:
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __enter__(self) -> None:
        guard, me = self._guard, threading.get_ident()
        use = me, sys._getframe(1)
        guard._users.append(use)
        if guard._claims and (claim := guard.claimed()) and claim.thread != me:
            guard._users.remove(use)
            raise RuntimeError(f"the model is in use by another thread, which is at {claim.what}: "
                               f"wait for its end, or use a copy")

    def __exit__(self, *error: Any) -> None:
        self._guard._users.remove((threading.get_ident(), sys._getframe(1)))


class _Change:
    def __init__(self, guard: Guard, what: str, inside: bool) -> None:
        self._guard, self._what, self._inside = guard, what, inside
        self._nested = False

    def __enter__(self) -> None:
        guard, me = self._guard, threading.get_ident()
        left = guard._claims.get("model")
        if left is not None and not left.holds() and guard._claims.get("model") is left:
            guard._claims.clear()
        mine = Claim(me, sys._getframe(1), self._what)
        claim = guard._claims.setdefault("model", mine)
        if claim.thread != me:
            raise RuntimeError(f"{self._what} needs the model for itself, but another thread is at "
                               f"{claim.what}: wait for its end, or use a copy")
        self._nested = claim is not mine
        if self._nested and not self._inside:
            raise RuntimeError(f"{self._what} cannot be called during {claim.what}")
        for use in list(guard._users):
            if not running(*use):
                guard._users.remove(use)
        if any(user != me for user, _ in guard._users):
            if not self._nested:
                guard._claims.clear()
            raise RuntimeError(f"{self._what} needs the model for itself, but predict or evaluate "
                               f"is running: wait for its end, or use a copy")

    def __exit__(self, *error: Any) -> None:
        if not self._nested:
            self._guard._claims.clear()
