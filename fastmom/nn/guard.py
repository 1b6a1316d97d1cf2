"""Keep threads that use a model and one that changes it apart."""

from __future__ import annotations

import threading
from typing import Any


class Guard:
    """Let any number of threads use a model, or a single one change it; others get an error.

    The thread that changes it may use it meanwhile, as callbacks do, and change single things.
    Nobody waits: two threads that train one model are a mistake in the program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()       # of those who change it
        self._users: list[None] = []
        self._owner: int | None = None      # the thread that changes the model
        self._what: list[str] = []          # what it is at, outermost first
        self.use = _Use(self)               # a context in which no other thread changes the model

    def change(self, what: str, inside: bool = False) -> _Change:
        """Return a context in which no other thread uses the model.

        `inside` allows it in a callback of the thread that is training the model.
        """
        return _Change(self, what, inside)


class _Use:
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    # Each side first says that it is there and then looks for the other: of two that come at the
    # same time, at least one sees the other. So a use takes no lock.

    def __enter__(self) -> None:
        guard = self._guard
        guard._users.append(None)
        if guard._owner is not None and guard._owner != threading.get_ident():
            guard._users.pop()
            raise RuntimeError(f"the model is in use by another thread, which is at "
                               f"{', '.join(guard._what[:1])}: wait for its end, or use a copy")

    def __exit__(self, *error: Any) -> None:
        self._guard._users.pop()


class _Change:
    def __init__(self, guard: Guard, what: str, inside: bool) -> None:
        self._guard, self._what, self._inside = guard, what, inside

    def __enter__(self) -> None:
        guard, me = self._guard, threading.get_ident()
        with guard._lock:
            if guard._owner == me and not self._inside:
                raise RuntimeError(f"{self._what} cannot be called during {guard._what[0]}")
            if guard._owner not in (None, me):
                raise RuntimeError(f"{self._what} needs the model for itself, but another thread "
                                   f"is at {guard._what[0]}: wait for its end, or use a copy")
            self._check_unused()
            guard._what.append(self._what)
            guard._owner = me
            try:
                self._check_unused()
            except RuntimeError:
                self._leave()
                raise

    def _check_unused(self) -> None:
        if self._guard._users:
            raise RuntimeError(f"{self._what} needs the model for itself, but predict or evaluate "
                               f"is running: wait for its end, or use a copy")

    def __exit__(self, *error: Any) -> None:
        with self._guard._lock:
            self._leave()

    def _leave(self) -> None:
        guard = self._guard
        if len(guard._what) == 1:
            guard._owner = None
        guard._what.pop()
