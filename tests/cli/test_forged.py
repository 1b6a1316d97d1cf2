"""Checkpoints whose checksums are right and whose content is not: one line, never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run

from fastmom import npz

WRONG: list[Any] = [None, -1, 1e308, "x", [None]]
OPTIONS = ["--hidden", 3, "--epochs", 1, "--validation-split", 0.5, "--lr-schedule",
           "ReduceOnPlateau(0.1)", "--momentum-schedule", "Linear(0.5, 0.9, 9)"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> dict[str, Any]:
    """The members of a checkpoint."""
    directory = tmp_path_factory.mktemp("forged") / "saved"
    assert run("--data", digits, "--checkpoint", directory, *OPTIONS) == 0
    return dict(npz.members(directory / "checkpoint-00000001.npz"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places of values, but for arrays and all but the first of a long list."""
    yield path
    if isinstance(value, dict) and npz.MARK not in value:
        for name, entry in value.items():
            yield from places(entry, (*path, name))
    elif isinstance(value, list):
        for i, entry in enumerate(value[:2]):
            yield from places(entry, (*path, i))


def forge(directory: Path, members: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    """Write a checkpoint with another value, or without it."""
    content = {"root": json.loads(members["checkpoint"].tobytes())}
    parent: Any = content
    for step in ("root", *path[:-1]):
        parent = parent[step]
    if value is None and isinstance(parent, dict):
        del parent[path[-1]]
    else:
        parent[path[-1]] = copy.deepcopy(value)
    text = np.frombuffer(json.dumps(content["root"]).encode(), np.uint8)
    npz.write(directory / "checkpoint-00000001.npz", {**members, "checkpoint": text})


@pytest.mark.filterwarnings("default:passed over", "ignore::RuntimeWarning")
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_forged(value: Any, saved: dict[str, Any], digits: Path, tmp_path: Path,
                capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(saved["checkpoint"].tobytes())
    refused = 0
    for path in places(content):
        if path:
            forge(tmp_path, saved, path, value)
            status = run("--checkpoint", tmp_path, "--resume", "--epochs", 2)
            err = capsys.readouterr().err
            assert status in (0, 2, 3), path     # 3: it has diverged
            lines = [line for line in err.splitlines() if "warning: passed over" not in line]
            assert len(lines) == (status == 2), (path, err)
            assert all(line.startswith("fastmom train: error: ") for line in lines), path
            refused += status == 2
            (tmp_path / "checkpoint-00000002.npz").unlink(missing_ok=True)
    assert refused > 50
