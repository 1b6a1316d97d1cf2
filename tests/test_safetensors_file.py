"""Checkpoints as `.safetensors` files: the library of that name reads them, and writes such."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_child import Training, small, snapshot

import fastmom as fm
from fastmom import checkpoint
from fastmom.checkpoint import CheckpointError, DamagedError

library = pytest.importorskip("safetensors.numpy")
F = np.float32


def written(file: Path) -> bytes:
    checkpoint.save(file, **small())
    return file.read_bytes()


PARAMS: list[Any] = [
    [np.arange(6.0).reshape(2, 3), np.float32([1.5]), np.array(7), np.zeros((0, 2))],
    {"a": np.ones(2), "a.npy": np.zeros(3), "../b/": np.array([True]), "": np.array([1j], "c8")},
    {"optimizer": np.ones(2, np.uint16), "w\n\"é": np.ones(1, np.int8)},
    [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(9)[::2], np.ones(2, ">f4")],
    [],
    {},
]


@pytest.mark.parametrize("params", PARAMS, ids=["list", "dict", "odd", "layouts", "none", "empty"])
def test_params(params: Any, tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.safetensors"
    checkpoint.save(file, params=params, epoch=3, extra={"loss": [0.5, None], "big": 2 ** 80})
    named = isinstance(params, dict)
    keys = list(params) if named else range(len(params))
    native = {k: params[k].astype(params[k].dtype.newbyteorder("=")) for k in keys}    # as stored
    targets: Any = {k: np.ones_like(native[k]) for k in keys}
    given = targets if named else list(targets.values())
    found = checkpoint.load(file, params=given)
    assert (found.epoch, found.extra) == (3, {"loss": [0.5, None], "big": 2 ** 80})
    assert found.optimizer is found.rng is None
    assert type(found.params) is type(params)
    for k in keys:
        np.testing.assert_array_equal(targets[k], native[k], strict=True)
        targets[k][...] = 0
    with checkpoint.opened(file) as saved:
        saved.fill(params=given)
    read = library.load_file(file)
    assert sorted(read) == sorted(params if named else [f"params/{k}" for k in keys])
    for k in keys:
        np.testing.assert_array_equal(targets[k], native[k], strict=True)
        np.testing.assert_array_equal(read[k if named else f"params/{k}"], params[k])


def test_files_of_other_programs(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    weights = {"net.weight": np.arange(6, dtype=F).reshape(2, 3), "net.bias": np.ones(2)}
    library.save_file(weights, file, {"format": "np"})
    own = {name: np.zeros_like(array) for name, array in weights.items()}
    found = checkpoint.load(file, params=own)
    assert (found.optimizer, found.rng, found.epoch, found.extra) == (None, None, None, None)
    for name, array in weights.items():
        np.testing.assert_array_equal(own[name], array)
    library.save_file({f"params/{i}": np.full(2, i) for i in range(11)}, file)
    made = [np.zeros(2, int) for _ in range(11)]
    checkpoint.load(file, params=made)
    assert [a[0] for a in made] == [*range(11)]
    with pytest.raises(CheckpointError, match="it holds no optimizer"):
        checkpoint.load(file, optimizer=fm.SGD([np.ones(2)]))
    with pytest.raises(CheckpointError, match=re.escape("given are params['net.bias']")):
        checkpoint.load(file, params={"net.bias": np.ones(2)})
    library.save_file({"params/1": np.ones(2)}, file)       # there is no params/0: a name
    assert list(checkpoint.load(file).params or ()) == ["params/1"]


def test_weights_of_a_model(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    model, other = (fm.nn.Sequential([fm.nn.Dense(2, input_shape=(3,))], seed=s) for s in (1, 2))
    model.save_weights(file)
    assert sorted(library.load_file(file)) == ["0.Dense.bias", "0.Dense.kernel"]
    changed = {name: 2 * array for name, array in library.load_file(file).items()}
    library.save_file(changed, file)
    other.load_weights(file)
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(2 * np.asarray(a), b)
    model.save(file)
    again = fm.nn.Sequential.load(file)
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "float16", "int8"])
def test_state_in_few_bits(state_dtype: str, tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    p = [np.ones((3, 130), F), np.ones(5, ml_dtypes.bfloat16)]
    optimizers = [fm.Adam([a.copy() for a in p], state_dtype=state_dtype) for _ in range(3)]
    optimizers[0].step([np.full(a.shape, 0.3, F) for a in p])
    file = tmp_path / "a.safetensors"
    checkpoint.save(file, optimizer=optimizers[0], params=p)
    made = [np.zeros_like(a) for a in p]
    checkpoint.load(file, optimizer=optimizers[1], params=made)
    with checkpoint.opened(file) as saved:
        saved.fill(optimizer=optimizers[2])
    for other in optimizers[1:]:
        for own, theirs in zip(optimizers[0]._buffers(), other._buffers(), strict=True):
            for name, buffer in own.items():
                assert buffer.tobytes() == theirs[name].tobytes()
    np.testing.assert_array_equal(made[1].astype(F), p[1].astype(F))
    stored = library.load_file(file)["optimizer/state/0/mean"]
    assert stored.dtype == (np.uint8 if state_dtype == "int8" else state_dtype)


def test_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    direct, broken = Training(), Training()
    for _ in range(7):
        direct.step()
        broken.step()
    for number, name in ((3, "checkpoint-3.npz"), (7, "checkpoint-0007.safetensors")):
        checkpoint.save(tmp_path / name, params=broken.params, optimizer=broken.optimizer,
                        rng=broken.rng, epoch=7, extra={"number": number})
    other = Training()
    (tmp_path / "checkpoint-8.safetensors").write_bytes(b"no")
    with pytest.warns(UserWarning, match="checkpoint-8.safetensors is damaged"):
        newest = checkpoint.latest(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-0007.safetensors"
    checkpoint.load(newest, params=other.params, optimizer=other.optimizer, rng=other.rng)
    for training in (direct, other):
        for _ in range(5):
            training.step()
    assert direct.everything() == other.everything()


# Damage -------------------------------------------------------------------------------------------

def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def with_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        header, rest = header_of(data)
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + rest
    return damage


def text(key: str, value: str) -> Callable[[bytes], bytes]:
    return with_header(lambda h: h["__metadata__"].update({f"fastmom.{key}": value}))


DAMAGE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("empty", lambda d: b"", "not a whole .safetensors file"),
    ("a zip", lambda d: b"PK\x03\x04" + d, "not a whole .safetensors file"),
    ("half", lambda d: d[:len(d) // 2], "not a whole .safetensors file"),
    ("a byte too few", lambda d: d[:-1], "not a whole .safetensors file"),
    ("a byte too many", lambda d: d + b"\0", "not a whole .safetensors file"),
    ("a changed number", lambda d: d[:-1] + bytes([d[-1] ^ 1]), "Bad CRC-32 of array"),
    ("an endless header", lambda d: b"\xff" * 8 + d[8:], "not a whole .safetensors file"),
    ("a long header", lambda d: struct.pack("<Q", 1 << 26) + d[8:], "not a whole .safetensors"),
    ("8 TB", with_header(lambda h: h["params/0"].update(shape=[1 << 40])), "not a whole"),
    ("beyond 64 bits", with_header(lambda h: h["params/0"].update(shape=[1 << 63, 9])), "not a"),
    ("overlapping", with_header(lambda h: h.update(x=h["params/0"])), "not a whole"),
    ("another shape", with_header(lambda h: h["params/1"].update(shape=[4])), "Bad CRC-32"),
    ("another type", with_header(lambda h: h["params/1"].update(dtype="I32")), "Bad CRC-32"),
    ("an unknown type", with_header(lambda h: h["params/1"].update(dtype="X")), "not a whole"),
    ("a type that NumPy has not", with_header(
        lambda h: h["params/1"].update(dtype="F8_E4M3", shape=[16])), "which NumPy does not have"),
    ("another name", with_header(lambda h: h.update(other=h.pop("params/1"))), "checksums of"),
    ("another text", text("checkpoint", '{"format": 1}'), "Bad CRC-32 of array 'checkpoint'"),
    ("no table", text("crc32", "[]"), "'fastmom.crc32' is no table of numbers"),
    ("no numbers", text("crc32", '{"a": "b"}'), "'fastmom.crc32' is no table of numbers"),
    ("no JSON", text("crc32", "{"), "not a whole .safetensors file"),
    ("records of numbers", text("records", '{"params/0": 8}'), "no array of records of 8 bytes"),
]


@pytest.mark.parametrize(("damage", "message"), [r[1:] for r in DAMAGE], ids=[r[0] for r in DAMAGE])
def test_damaged_files(damage: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-1.safetensors"
    file.write_bytes(damage(written(file)))
    objects = small()
    before = snapshot(objects)
    with pytest.raises(DamagedError, match=re.escape(message)) as raised:
        checkpoint.load(file, **objects)
    assert str(file) in str(raised.value)
    assert snapshot(objects) == before
    with pytest.warns(UserWarning, match="passed over"):
        assert checkpoint.latest(tmp_path) is None


def test_later_formats_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    data, texts = {"params/0": np.ones(2)}, {"fastmom.checkpoint": '{"format": 9}'}
    library.save_file(data, file, texts)
    with pytest.raises(DamagedError, match="checksums of other arrays"):
        checkpoint.load(file)


@pytest.mark.parametrize("damage", ["8 TB", "an endless header", "a long header", "overlapping"])
def test_damaged_files_take_no_memory(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-1.safetensors"
    file.write_bytes({r[0]: r[1] for r in DAMAGE}[damage](written(file)))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError):
            checkpoint.load(file)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_any_changed_byte_is_told_or_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    data = written(file)
    wanted = checkpoint.load(file)
    rng = random.Random(0)
    told = 0
    for _ in range(400):
        place = rng.randrange(len(data))
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)])
                         + data[place + 1:])
        try:
            found = checkpoint.load(file)
        except CheckpointError:
            told += 1
            continue
        if found.optimizer is None:         # its own text has another name now: arrays alone
            continue
        assert repr({**vars(found), "path": None}) == repr({**vars(wanted), "path": None})
    assert told > 300


# Refusals and writing -----------------------------------------------------------------------------

UNSTORABLE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"params": [np.ones(2, complex)]}, TypeError,
     "params/0 has dtype complex128, which a .safetensors file cannot hold; a .npz file can"),
    ({"params": {"w": np.ones(2, np.longdouble)}}, TypeError, "w has dtype"),
    ({"params": {"__metadata__": np.ones(2)}}, ValueError, "params['__metadata__'] cannot have"),
    ({"params": {"checkpoint": np.ones(2)}}, ValueError, "params['checkpoint'] cannot have"),
    ({"params": {"optimizer/state/0/velocity": np.ones(2)},
      "optimizer": fm.SGD([np.ones(2)], momentum=0.9)}, ValueError, "cannot have this name"),
    ({"params": [[1.0]]}, TypeError, "params[0] must be a NumPy array, not list"),
    ({"extra": (1, 2)}, TypeError, "extra cannot be stored"),
]


@pytest.mark.parametrize(("given", "error", "message"), UNSTORABLE, ids=[r[2] for r in UNSTORABLE])
def test_what_cannot_be_saved(given: Any, error: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    before = written(file)
    with pytest.raises(error, match=re.escape(message)):
        checkpoint.save(file, **given)
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert file.read_bytes() == before


@pytest.mark.parametrize(("text", "number"), [("No space left on device (os error 28)", 28),
                                              ("something else", 5)])
def test_failed_write_leaves_the_old_file(text: str, number: int, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors
    file = tmp_path / "a.safetensors"
    before = written(file)

    def full(*args: Any) -> None:
        raise safetensors.SafetensorError(f"Error while serializing: {text}")
    monkeypatch.setattr(library, "save_file", full)
    with pytest.raises(OSError, match=re.escape(str(file))) as raised:
        written(file)
    assert raised.value.errno == number
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert file.read_bytes() == before


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a.safetensors")
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: checkpoint.load(tmp_path / "a.safetensors"),
                 lambda: checkpoint.save(tmp_path / "b.safetensors", epoch=1)):
        with pytest.raises(ModuleNotFoundError, match=r"fastmom\[safetensors\]"):
            call()
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        checkpoint.load(tmp_path / "b.safetensors")
