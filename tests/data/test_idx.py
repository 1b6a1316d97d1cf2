"""The IDX reader takes whole files that fit together and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastmom.data import DataError
from fastmom.data.idx import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    load_idx_directory,
    read_idx,
)

GOOD = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + b"abcdef"
HUGE = struct.pack(">4B3I", 0, 0, 8, 3, *3 * [2**32 - 1])
PACKED_HUGE = gzip.compress(HUGE + b"abc", mtime=0)
PACKED = gzip.compress(GOOD, mtime=0)  # the time would make the names of tests change

ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, min_side=1, max_side=6))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


@pytest.mark.parametrize(("name", "data"), [("x", GOOD), ("x.gz", PACKED)])
def test_reads(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    array = read_idx(tmp_path / name, sha256=hashlib.sha256(GOOD).hexdigest())
    assert array.tolist() == [[97, 98, 99], [100, 101, 102]]
    assert array.dtype == np.uint8
    assert array.flags.writeable
    assert array.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x", None, "no such file"),
        ("x.gz", None, "no such file"),
        ("x", b"", "truncated: 0 bytes"),
        ("x", GOOD[:3], "truncated: 3 bytes"),
        ("x", GOOD[:9], "truncated in the header, which states 2 dimensions"),
        ("x", GOOD[:-1], "states the shape (2, 3), 6 bytes, but only 5 can follow"),
        ("x", GOOD + b"g", "states the shape (2, 3), 6 bytes, but more follow"),
        ("x", b"\1" + GOOD[1:], "not an IDX file: starts with the bytes 01 00 08 02"),
        ("x", b"<html></html>", "not an IDX file: starts with the bytes 3c 68 74 6d"),
        ("x", b"\0\0\7\2" + GOOD[4:], "not an IDX file: starts with the bytes 00 00 07 02"),
        ("x", PACKED, "a gzip file without .gz in its name"),
        ("x", b"\0\0\x0d\2" + GOOD[4:], "elements are float32 (type 0x0d), must be uint8"),
        ("x", b"\0\0\x09\2" + GOOD[4:], "elements are int8 (type 0x09), must be uint8"),
        ("x", b"\0\0\x08\0", "has 0 dimensions, must have 1 to 32"),
        ("x", b"\0\0\x08\xff" + bytes(2000), "has 255 dimensions, must have 1 to 32"),
        ("x", b"\0\0\x08\2" + bytes(8), "is empty: the header states the shape (0, 0)"),
        ("x", HUGE + b"abc", "but only 3 can follow"),
        ("x.gz", gzip.compress(GOOD[:-1], mtime=0), "6 bytes, but only 5 follow"),
        ("x.gz", PACKED_HUGE, f"but only {len(PACKED_HUGE) * 1032 - 16} can follow"),
        ("x.gz", GOOD, "not a gzip file"),
        ("x.gz", b"", "truncated: 0 bytes"),
        ("x.gz", PACKED[:-9], "damaged or truncated gzip file"),
        ("x.gz", PACKED[:-1], "damaged or truncated gzip file"),
        ("x.gz", PACKED[:-8] + b"\0" + PACKED[-7:], "CRC check failed"),
        ("x.gz", PACKED[:10] + b"\xff" + PACKED[11:], "damaged or truncated gzip file"),
        ("x.gz", PACKED + b"trailing", "not a gzip file"),
    ],
)
def test_rejects(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=re.escape(message)) as info:
        read_idx(path)
    assert str(info.value).startswith(f"{path}: ")


def test_rejects_a_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_idx(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_does_not_wait_at_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(DataError, match=r"cannot be read \(Not a regular file\)"):
        read_idx(tmp_path / "x")


def test_rejects_another_shape_before_it_reads(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(GOOD[:-6])
    assert read_fails(tmp_path / "x", shape=(3, 2)) == "shape is (2, 3), must be (3, 2)"
    (tmp_path / "x").write_bytes(GOOD)
    assert read_idx(tmp_path / "x", shape=(2, 3)).shape == (2, 3)


def read_fails(path: Path, **arguments: Any) -> str:
    with pytest.raises(DataError) as info:
        read_idx(path, **arguments)
    return str(info.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("claimed", [1000, 1 << 22, 1 << 27])
def test_memory_is_bounded_by_what_is_stated(tmp_path: Path, claimed: int) -> None:
    """The content of the file would take 64 MB."""
    header = struct.pack(">4BI", 0, 0, 8, 1, claimed)
    (tmp_path / "x.gz").write_bytes(gzip.compress(header + bytes(1 << 26)))
    tracemalloc.start()
    try:
        message = read_fails(tmp_path / "x.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "but more follow" in message or "can follow" in message
    held = (tmp_path / "x.gz").stat().st_size * 1032     # at most
    assert peak < 2 * claimed * (claimed <= held) + (1 << 22)


def test_rejects_another_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(GOOD)
    with pytest.raises(DataError, match=r"x: SHA-256 is [0-9a-f]{64}, must be 00"):
        read_idx(tmp_path / "x", sha256="00")


@given(array=ARRAYS, suffix=st.sampled_from(["", ".gz"]))
def test_round_trip(
    directory: Path, idx_bytes: Callable[[np.ndarray], bytes], array: np.ndarray, suffix: str
) -> None:
    data = idx_bytes(array)
    path = directory / f"x{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    np.testing.assert_array_equal(read_idx(path), array, strict=True)


@given(array=ARRAYS, suffix=st.sampled_from(["", ".gz"]), data=st.data())
def test_any_other_length_is_an_error(
    directory: Path,
    idx_bytes: Callable[[np.ndarray], bytes],
    array: np.ndarray,
    suffix: str,
    data: st.DataObject,
) -> None:
    whole = idx_bytes(array)
    extra = data.draw(st.binary(min_size=1, max_size=5))
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = directory / f"x{suffix}"
    for wrong in (whole + extra, whole[:cut]):
        path.write_bytes(gzip.compress(wrong) if suffix else wrong)
        with pytest.raises(DataError):
            read_idx(path)


@given(array=ARRAYS, suffix=st.sampled_from(["", ".gz"]), data=st.data())
def test_damage_gives_the_right_array_or_an_error(
    directory: Path,
    idx_bytes: Callable[[np.ndarray], bytes],
    array: np.ndarray,
    suffix: str,
    data: st.DataObject,
) -> None:
    whole = idx_bytes(array)
    # gzip has a checksum of its own; a plain file needs one to be safe from changed elements.
    sha256 = None if suffix else hashlib.sha256(whole).hexdigest()
    stored = bytearray(gzip.compress(whole) if suffix else whole)
    stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    path = directory / f"x{suffix}"
    path.write_bytes(stored[: data.draw(st.integers(0, len(stored)))])
    try:
        read = read_idx(path, sha256=sha256)
    except DataError:
        return
    np.testing.assert_array_equal(read, array, strict=True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_loads_a_directory(
    arrays: dict[str, np.ndarray], write: Callable[..., Path], suffix: str
) -> None:
    loaded = load_idx_directory(write(arrays, suffix))
    for array, name in zip((a for pair in loaded for a in pair), arrays, strict=True):
        np.testing.assert_array_equal(array, arrays[name].astype(np.uint8), strict=True)


def test_plain_files_come_before_gzip(
    arrays: dict[str, np.ndarray], write: Callable[..., Path]
) -> None:
    write({name: array * 0 for name, array in arrays.items()}, ".gz")
    (x_train, _), _ = load_idx_directory(write(arrays))
    assert x_train.any()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (TRAIN_IMAGES, lambda x: x[:, 0], "shape (7, 5), but images must be (n, rows, columns)"),
        (TRAIN_LABELS, lambda y: y[:, None], "shape (7, 1), but labels must be (n,)"),
        (TRAIN_LABELS, lambda y: y[1:], "6 labels, but"),
        (TEST_LABELS, lambda y: np.append(y, 0), "5 labels, but"),
        (TEST_LABELS, lambda y: y * 0 + 10, "mis-labelled, has the label 10; allowed are 0 to 9"),
        (TEST_IMAGES, lambda x: x[:, :2], "images of shape (2, 5), but those in"),
    ],
)
def test_rejects_files_that_do_not_fit(
    arrays: dict[str, np.ndarray],
    write: Callable[..., Path],
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    message: str,
) -> None:
    directory = write(arrays | {name: change(arrays[name])})
    with pytest.raises(DataError, match=re.escape(f"{directory / name}: {message}")):
        load_idx_directory(directory)


def test_rejects_missing_files(
    arrays: dict[str, np.ndarray], write: Callable[..., Path], tmp_path: Path
) -> None:
    directory = write(arrays)
    (directory / TEST_LABELS).unlink()
    missing = f"{directory}: has neither {TEST_LABELS} nor {TEST_LABELS}.gz"
    with pytest.raises(DataError, match=re.escape(missing)):
        load_idx_directory(directory)
    for wrong in (tmp_path / "none", directory / TRAIN_IMAGES):
        with pytest.raises(DataError, match="not a directory"):
            load_idx_directory(wrong)
    with pytest.raises(DataError, match="directory is '', must name a directory"):
        load_idx_directory("")
