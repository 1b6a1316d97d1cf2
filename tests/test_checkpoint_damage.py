"""Checkpoint files that are damaged, foreign or too new are told and change nothing."""

from __future__ import annotations

import copy
import json
import random
import re
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_child import small, snapshot, written

import fastmom as fm
from fastmom import checkpoint, npz
from fastmom.checkpoint import CheckpointError, DamagedError


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


def with_array(header: bytes) -> Callable[[Path], None]:
    """Add a member with this header and no numbers."""
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    return with_member("x.npy", data)


def shaped(shape: bytes, dtype: bytes = b"'<f8'") -> Callable[[Path], None]:
    return with_array(b"{'descr': " + dtype + b", 'fortran_order': False, 'shape': " + shape +
                      b", }\n")


def deflated(file: Path) -> None:
    """30 MB of zeros in 30 kB."""
    arrays = npz.members(file)
    arrays["params/0"] = np.zeros(1 << 22)
    np.savez_compressed(file, **arrays)


def claiming(**fields: int) -> Callable[[Path], None]:
    """Let the list of members at the end claim other sizes."""
    def edit(file: Path) -> None:
        with zipfile.ZipFile(file, "a") as archive:
            for name, value in fields.items():
                setattr(archive.infolist()[1], name, value)
            archive.writestr("x.npy", b"")      # so that the list is written again
    return edit


def overlapping(file: Path) -> None:
    """A thousand members that are all the same bytes."""
    np.savez(file, a=np.ones(10_000))
    with zipfile.ZipFile(file, "a") as archive:
        info = archive.infolist()[0]
        for i in range(1000):
            other = copy.copy(info)
            other.filename = f"{i}.npy"
            archive.filelist.append(other)
        archive.writestr("x.npy", b"")


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


def changed(name: str, value: Any) -> Callable[[Path], None]:
    """Rewrite an entry of the optimizer's state; arrays that lose their place go too."""
    def edit(file: Path) -> None:
        arrays = npz.members(file)
        content = json.loads(arrays.pop("checkpoint").tobytes())
        optimizer = content["optimizer"]
        (optimizer["groups"][0] if name == "lr" else optimizer)[name] = value
        text = json.dumps(content).encode()
        kept = {name: array for name, array in arrays.items() if f'"{name}"'.encode() in text}
        npz.write(file, {**kept, "checkpoint": np.frombuffer(text, np.uint8)})
    return edit


DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty", lambda f: f.write_bytes(b""), "not a whole .npz file"),
    ("text", lambda f: f.write_text("no zip"), "not a whole .npz file"),
    ("half", lambda f: f.write_bytes(f.read_bytes()[:500]), "not a whole .npz file"),
    ("foreign", lambda f: np.savez(f, a=np.ones(3)), "no checkpoint of fastmom"),
    ("a pickle", lambda f: np.savez(f, a=np.array([{}]), allow_pickle=True), "has dtype object"),
    ("a member too many", with_member("y.npy", b""), "not a whole .npz file"),
    ("a member twice", with_member("checkpoint.npy", b""), "two members have the same name"),
    ("an array twice", with_member("params/0", b""), "two members have the same name"),
    ("8 TB", shaped(b"(1000000000000,)"), "another size than its header says"),
    ("more than 64 bits", shaped(b"(9999999999, 9999999999)"), "another size than its header"),
    ("a negative size", shaped(b"(-1,)"), "has a malformed header"),
    ("100 dimensions", shaped(b"(" + b"0, " * 100 + b")"), "cannot be loaded"),
    ("records", shaped(b"(1,)", b"[('a', '<f8')]"), "has a malformed header"),
    ("nested", with_array(b"-" * 60_000), "has a malformed header"),
    ("code", with_array(b"__import__('os')"), "has a malformed header"),
    ("deflated", deflated, "is compressed"),
    ("overlapping members", overlapping, "bytes, and it has"),
    ("a forged size", claiming(file_size=1 << 60), "is compressed"),
    ("forged sizes", claiming(file_size=1 << 60, compress_size=1 << 60), "bytes, and it has"),
    ("a forged place", claiming(header_offset=1 << 60), "not a whole .npz file"),
    ("encrypted", claiming(flag_bits=1), "not a whole .npz file"),
    ("later", edited(format=2), "its format is 2, and this fastmom reads up to 1"),
    ("no format", edited(format=None), "it says no format"),
    ("another field", edited(other=1), "it has epoch, extra"),
    ("a missing member", edited(params=[{"__array__": "no"}]), "the member 'no' is missing"),
    ("an unused member", edited(params=None), "belong to nothing"),
    ("params of text", edited(params=["x"], optimizer=None), "belong to nothing"),
    ("names twice", edited(names=["a", "a"]), "two params of one name"),
    ("too few names", edited(names=["a"]), "cannot be loaded: zip()"),
    ("names of numbers", edited(names=[1, 2]), "params must have strings as names"),
    ("names of lists", edited(names=[[], []]), "unhashable"),
    ("a number of names", edited(names=5), "cannot be loaded"),
    ("an array as a member's name", edited(params=[{"__array__": []}]), "cannot be loaded"),
    ("deep", edited(extra=deep(900)), "cannot be loaded: RecursionError"),
    ("a wrong epoch", edited(epoch="one"), "epoch must be an integer"),
    ("a wrong random state", edited(rng={"bit_generator": "PCG64"}), "random state is malformed"),
    ("another bit generator", edited(rng={"bit_generator": "X"}), "random state of 'X', not of"),
    ("no random state", edited(rng=None), "it holds no rng"),
    ("a list as a random state", edited(rng=[]), "random state of [], not of"),
    *((f"{name}={value!r}", changed(name, value), "does not fit") for name, value in (
        ("groups", None), ("groups", {}), ("groups", [None]), ("groups", [{}]), ("steps", 3),
        ("steps", [1 << 80, 1]), ("iterations", 1e400), ("options", []), ("state", {}),
        ("state", [{"velocity": 1}, {}]), ("optimizer", None), ("format", []))),
    *((f"lr={value!r}", changed("lr", value), "does not fit") for value in (
        None, "x", [], {}, {"schedule": None}, {"schedule": "Linear"}, {"schedule": "No"},
        {"callable": 5}, {"schedule": []}, {"schedule": "Linear", "start": {}, "end": [],
                                            "steps": None})),
    ("no dict as the optimizer", edited(optimizer=[]), "belong to nothing"),
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
    with pytest.raises(CheckpointError), checkpoint.opened(file) as saved:
        saved.fill(**objects)
    assert snapshot(objects) == before


@pytest.mark.parametrize("damage", ["8 TB", "deflated", "overlapping members", "forged sizes"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_files_take_no_memory(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-1.npz"
    written(file)
    {r[0]: r[1] for r in DAMAGE}[damage](file)

    def load() -> None:
        with pytest.raises(CheckpointError):
            checkpoint.load(file)
    assert peak_of(load) < 1 << 20


def peak_of(call: Callable[[], Any]) -> int:
    """Return the most bytes that a call holds at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_reading(tmp_path: Path) -> None:
    """Once the arrays, or nothing at all if they have a place already."""
    params = [np.ones(1 << 20), np.asfortranarray(np.arange(1 << 18).reshape(1 << 10, 1 << 8))]
    optimizer = fm.SGD(params[:1], momentum=0.9)
    optimizer.step([np.ones(1 << 20)])
    file, size = tmp_path / "checkpoint-1.npz", 2 * params[0].nbytes + params[1].nbytes
    checkpoint.save(file, params=params, optimizer=optimizer)
    expected = [p.copy() for p in params]
    others = [np.zeros_like(p) for p in params]
    other = fm.SGD(others[:1], momentum=0.9)

    def fill() -> None:
        with checkpoint.opened(file) as saved:
            saved.fill(params=others, optimizer=other)
    assert peak_of(fill) < 1 << 21
    for a, b in zip(expected, others, strict=True):
        np.testing.assert_array_equal(a, b)
    assert repr(other.state_dict()) == repr(optimizer.state_dict())
    assert peak_of(lambda: checkpoint.latest(tmp_path)) < 1 << 21
    assert size <= peak_of(lambda: checkpoint.load(file)) < size + (1 << 21)


def test_filled_with_what_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-1.npz"
    checkpoint.save(file, params=[np.ones(5000)])
    data = bytearray(file.read_bytes())
    data[data.rindex(b"\xf0\x3f")] ^= 1
    file.write_bytes(data)
    with checkpoint.opened(file) as saved:
        for read in (saved.read, lambda: saved.fill(params=[np.zeros(5000)])):
            with pytest.raises(DamagedError, match="Bad CRC-32"):
                read()


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
