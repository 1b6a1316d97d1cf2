"""Runs commands, `fastmom train` on small data sets, in this process or in one of its own."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import fastmom as fm
from fastmom import cli
from fastmom.data.idx import FILES

N_TRAIN, N_TEST = 300, 100


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), 1)


def write(directory: Path, seed: int = 0) -> Path:
    """A small data set of digits, as IDX files."""
    (x_train, y_train), (x_test, y_test) = fm.data.load_digits(N_TRAIN, N_TEST, seed=seed,
                                                               cache=False)
    directory.mkdir()
    for name, array in zip(FILES, (x_train, y_train, x_test, y_test), strict=True):
        (directory / f"{name}.gz").write_bytes(idx(array))
    return directory


def run(*args: object, command: str = "train") -> int:
    """Return the exit status of a command in this process."""
    try:
        return cli.main([command, *map(str, args)])
    except SystemExit as end:       # how argparse refuses
        return int(end.code or 0)


def train(directory: Path, *args: object) -> dict[str, Any]:
    """Return what `fastmom train` writes of a small network; later options win."""
    file = directory.parent / "metrics.json"
    assert run("--data", directory, "--hidden", 16, "--epochs", 2, "--json", file, *args) == 0
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def metrics_of(content: dict[str, Any]) -> list[dict[str, float]]:
    """Return the metrics of each epoch, without its seconds."""
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in content["epochs"]]


@contextmanager
def start(*args: object, command: str = "train",
          **kwargs: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, which does not outlive the block."""
    with subprocess.Popen([sys.executable, "-m", "fastmom", command, *map(str, args)],
                          **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}) as it:
        try:
            yield it
        finally:
            it.kill()
