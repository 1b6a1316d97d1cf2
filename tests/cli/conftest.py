"""Fixtures of the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run, write

from fastmom.data import mnist


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("cli") / "digits")


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """Return the directory of the checkpoints of a training with Adam, 2 epochs long."""
    directory = tmp_path_factory.mktemp("adam") / "saved"
    assert run("--data", digits, "--hidden", 8, "--epochs", 2, "--optimizer", "adam",
               "--checkpoint", directory) == 0
    return directory


@pytest.fixture(autouse=True)
def no_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests away from the user's data and the network."""
    monkeypatch.delenv("FASTMOM_DATA", raising=False)
    monkeypatch.delenv("FASTMOM_DEBUG", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
