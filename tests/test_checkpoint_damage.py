"""Checkpoint files that are damaged, foreign or too new are told and change nothing."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_child import small, snapshot, written

from fastmom import checkpoint, npz
from fastmom.checkpoint import CheckpointError


def edited(**changes: Any) -> Callable[[Path], None]:
    """Rewrite the JSON of a file."""
    def edit(file: Path) -> None:
        arrays = npz.members(file)
        content = {**json.loads(arrays["checkpoint"].tobytes()), **changes}
        text = np.frombuffer(json.dumps(content).encode(), np.uint8)
        npz.write(file, {**arrays, "checkpoint": text})
    return edit


def with_member(name: str, data: bytes) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, data)
    return edit


def huge(file: Path) -> None:
    """A header that asks for 8 TB."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with_member("x.npy", data)(file)


DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty", lambda f: f.write_bytes(b""), "not a whole .npz file"),
    ("text", lambda f: f.write_text("no zip"), "not a whole .npz file"),
    ("half", lambda f: f.write_bytes(f.read_bytes()[:500]), "not a whole .npz file"),
    ("foreign", lambda f: np.savez(f, a=np.ones(3)), "no checkpoint of fastmom"),
    ("a pickle", lambda f: np.savez(f, a=np.array([{}]), allow_pickle=True), "has dtype object"),
    ("a member too many", with_member("y.npy", b""), "not a whole .npz file"),
    ("a member twice", with_member("checkpoint.npy", b""), "two members have the same name"),
    ("a huge member", huge, "another size than its header says"),
    ("later", edited(format=2), "its format is 2, and this fastmom reads up to 1"),
    ("no format", edited(format=None), "it says no format"),
    ("another field", edited(other=1), "it has epoch, extra"),
    ("a missing member", edited(params=[{"__array__": "no"}]), "the member 'no' is missing"),
    ("an unused member", edited(params=None), "belong to nothing"),
    ("params of text", edited(params=["x"], optimizer=None), "belong to nothing"),
    ("names twice", edited(names=["a", "a"]), "two params of one name"),
    ("too few names", edited(names=["a"]), "cannot be loaded: zip()"),
    ("a wrong epoch", edited(epoch="one"), "epoch must be an integer"),
    ("a wrong random state", edited(rng={"bit_generator": "PCG64"}), "random state is malformed"),
    ("another bit generator", edited(rng={"bit_generator": "X"}), "random state of 'X', not of"),
    ("no random state", edited(rng=None), "it holds no rng"),
]


@pytest.mark.parametrize(("damage", "message"), [r[1:] for r in DAMAGE], ids=[r[0] for r in DAMAGE])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_files(damage: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-1.npz"
    written(file)
    damage(file)
    objects = small()
    before = snapshot(objects)
    with pytest.raises(CheckpointError, match=re.escape(message)) as raised:
        checkpoint.load(file, **objects)
    assert str(file) in str(raised.value)
    assert snapshot(objects) == before


def test_every_truncation_and_flipped_bit(tmp_path: Path) -> None:
    """Either told, or harmless: a flipped bit may lie in a date."""
    file = tmp_path / "a.npz"
    whole = written(file)
    objects = small()
    before = snapshot(objects)
    checkpoint.load(file, **objects)
    after = snapshot(objects)
    chance = random.Random(0)
    broken = [whole[:chance.randrange(len(whole))] for _ in range(200)]
    for _ in range(500):
        i = chance.randrange(len(whole))
        broken.append(whole[:i] + bytes([whole[i] ^ 1 << chance.randrange(8)]) + whole[i + 1:])
    told = 0
    for data in broken:
        file.write_bytes(data)
        objects = small()
        try:
            checkpoint.load(file, **objects)
        except CheckpointError:
            told += 1
            assert snapshot(objects) == before
        else:
            assert snapshot(objects) == after
    assert told > 600
