"""Files changed at random: each is refused with the documented error, or does no harm.

``python tests/mutations.py 100000`` tries so many of each kind and prints what became of them;
`test_mutations.py` tries a few.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import random
import signal
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmom as fm
from fastmom import checkpoint
from fastmom.checkpoint import CheckpointError
from fastmom.data import DataError
from fastmom.data.idx import read_idx

SECONDS = 20            # after which a reader is taken to hang
CONSTANT = 1 << 21      # bytes that a reader may take beside twice the file's declared size
VALUES: list[Any] = [None, True, False, 0, 1, -1, 0.5, -0.0, 1e-300, 1e308, math.nan, math.inf,
                     2 ** 31, 2 ** 63, 2 ** 64, -2 ** 70, 10 ** 400, "", "x", "float64", "9" * 5000,
                     "__array__", {"__array__": "params/0"}, {"schedule": "Linear"}, {"a": 1},
                     [], {}, [[]], [1], [[[[[[]]]]]]]
INTEGERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2 ** 63 - 1, 2 ** 64 - 1]


class Subject(NamedTuple):
    """A kind of file: a whole one, how it is read and what may be raised."""

    name: str
    data: bytes
    read: Callable[[Path], Any]         # returns the numbers, to compare
    error: type[Exception]
    declared: Callable[[bytes], int]    # bytes of memory that such a file may ask for
    resealed: Callable[[bytes, random.Random], bytes]   # change the content, make checksums right
    checksummed: bool = True


# Changes ------------------------------------------------------------------------------------------

def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change some bytes anywhere."""
    result = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16])):
        at, length = chance.randrange(len(result) + 1), chance.choice([1, 2, 4, 8, 64, 500])
        size = chance.choice([1, 2, 4, 8])
        integer = (chance.choice(INTEGERS) % 256 ** size).to_bytes(
            size, chance.choice(["little", "big"]))
        change = chance.randrange(7)
        if change == 0 and at < len(result):
            result[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            result[at:at + size] = integer
        elif change == 2:
            result[at:at + length] = chance.randbytes(length)
        elif change == 3:
            del result[at:at + length]
        elif change == 4:
            result[at:at] = result[chance.randrange(len(result) + 1):][:length]
        elif change == 5:
            result[at:at] = chance.randbytes(length)
        elif chance.random() < 0.3:
            del result[at:]
    return bytes(result)


def resealed_zip(data: bytes, chance: random.Random) -> bytes:
    """Change one member's header, numbers or JSON; sometimes its name, or compress it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice([*members, "checkpoint.npy", "checkpoint.npy", "checkpoint.npy"])
    content = members.pop(name)
    start = 10 + int.from_bytes(content[8:10], "little")
    if name == "checkpoint.npy" and chance.random() < 0.8:
        text = json.dumps(changed_json(json.loads(content[start:]), chance)).encode()
        array = io.BytesIO()
        np.save(array, np.frombuffer(text, np.uint8))
        content = array.getvalue()
    elif chance.random() < 0.5:
        content = damaged(content[:start], chance) + content[start:]
    else:
        content = damaged(content, chance)
    if chance.random() < 0.1:
        name = chance.choice([*members, "a", name[:-4], name * 2])
    result = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(result, "w") as archive:
        warnings.simplefilter("ignore")     # that two members have one name
        for other, its in [(name, content), *members.items()][:: chance.choice([1, -1])]:
            archive.writestr(other, its, chance.choice([0] * 9 + [zipfile.ZIP_DEFLATED]))
    return result.getvalue()


def changed_json(value: Any, chance: random.Random) -> Any:
    """Replace, remove or add an entry somewhere."""
    places = list(entries(value))
    for _ in range(chance.choice([1, 1, 2, 3])):
        holder, key = chance.choice(places)
        change = chance.randrange(4)
        try:
            if change == 0:
                del holder[key]
            elif change == 1 and isinstance(holder, list):
                holder.insert(key, chance.choice(VALUES))
            elif change == 2:
                other, its = chance.choice(places)
                holder[key] = json.loads(json.dumps(other[its]))
            else:
                holder[key] = chance.choice(VALUES)
        except (LookupError, RecursionError):       # a change before has removed it
            pass
    return value


def entries(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each list or dict with each of its keys."""
    if isinstance(value, (list, dict)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from entries(value[key])


# What is changed ----------------------------------------------------------------------------------

def subjects(directory: Path) -> list[Subject]:
    labels = np.arange(9000).reshape(30, 20, 15) % 251
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 30, 0, 0, 0, 20, 0, 0, 0, 15]) + labels.astype("u1").tobytes()

    def idx_size(data: bytes) -> int:
        ndim = data[3] if len(data) > 3 else 0
        return math.prod(int(n) for n in np.frombuffer(data[4:4 + 4 * ndim // 4 * 4], ">u4")
                         ) if len(data) >= 4 + 4 * ndim else 0

    def packed_size(data: bytes) -> int:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                size = idx_size(file.read(4 + 4 * 32))
        except Exception:
            size = 0
        return min(size, 1032 * len(data)) + len(data)
    return [
        Subject("checkpoint", a_checkpoint(directory / "a.npz"), read_checkpoint, CheckpointError,
                len, resealed_zip),
        Subject("model", a_model(directory / "a.npz"), read_model, CheckpointError, len,
                resealed_zip),
        Subject("idx", idx, read_idx, DataError, len, damaged, checksummed=False),
        Subject("idx.gz", gzip.compress(idx, mtime=0), read_idx, DataError, packed_size,
                lambda data, chance: gzip.compress(damaged(gzip.decompress(data), chance))),
    ]


def training() -> dict[str, Any]:
    params = [np.ones(3), np.ones((40, 50), np.float32)]
    optimizer = fm.Adam(params, lr=fm.schedules.Linear(0.1, 0.2, steps=5),
                        beta1=fm.schedules.Cosine(0.9, 0.5, steps=5))
    return {"params": params, "optimizer": optimizer,
            "rng": np.random.Generator(np.random.MT19937(0))}


def a_checkpoint(file: Path) -> bytes:
    objects = training()
    objects["optimizer"].step([np.full_like(p, 0.5) for p in objects["params"]])
    checkpoint.save(file, **objects, epoch=1, extra={"history": [0.5, 0.25], "name": "run"})
    return file.read_bytes()


def read_checkpoint(file: Path) -> Any:
    objects = training()
    checkpoint.load(file, **objects)
    return [*objects["params"], *(b for s in objects["optimizer"].state for b in s.values())]


def a_model(file: Path) -> bytes:
    model = fm.nn.Sequential([
        fm.nn.Rescaling(0.5, input_shape=(4, 5)), fm.nn.Flatten(), fm.nn.Dense(40, "leaky_relu"),
        fm.nn.BatchNorm(), fm.nn.Activation("tanh"), fm.nn.Dropout(0.2),
        fm.nn.Dense(3, activation="softmax")], seed=1)
    model.compile(fm.SGD(lr=fm.schedules.Linear(0.1, 0.2, steps=5), momentum=0.9), metrics=["acc"])
    model.fit(np.ones((8, 4, 5)), np.arange(8) % 3, epochs=1, verbose=0)
    model.save(file)
    return file.read_bytes()


def read_model(file: Path) -> Any:
    return fm.nn.Sequential.load(file).get_weights()


# Trying -------------------------------------------------------------------------------------------

class Tried(NamedTuple):
    """The outcome of a run: how many were refused, and the memory beyond the declared size."""

    counts: Counter[str]
    most_memory: int


def attempt(subject: Subject, number: int, directory: Path, seed: int = 0) -> Tried:
    """Change the file in so many ways; raise AssertionError, naming the seed, for the first fault.

    The changed file of a fault is left in the directory.
    """
    suffix = ".npz" if subject.name in ("checkpoint", "model") else f".{subject.name}"
    file = directory / f"{subject.name.replace('.', '-')}{suffix}"
    file.write_bytes(subject.data)
    expected, counts, most = subject.read(file), Counter[str](), 0
    for i in range(seed, seed + number):
        chance = random.Random(i)
        whole = chance.random() < 0.5
        data = (subject.resealed if whole else damaged)(subject.data, chance)
        file.write_bytes(data)
        outcome, result, memory = run(subject, file)
        assert outcome in ("read", subject.error.__name__), f"{subject.name} {i}: {outcome}"
        excess = memory - 2 * subject.declared(data)
        assert excess < CONSTANT, f"{subject.name} {i}: {memory} bytes for {len(data)}"
        if outcome == "read" and not whole and subject.checksummed:
            assert all(map(np.array_equal, result, expected)), f"{subject.name} {i}: other numbers"
        counts[outcome] += 1
        most = max(most, excess)
    return Tried(counts, most)


def run(subject: Subject, file: Path) -> tuple[str, Any, int]:
    """Return the outcome in a word, what was read, and the most bytes held at once."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    result = None
    timer = hasattr(signal, "alarm")
    if timer:
        signal.signal(signal.SIGALRM, hangs)
        signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # such as of a momentum of 1
            result = subject.read(file)
        outcome = "read"
    except Exception as error:
        right = isinstance(error, subject.error)
        outcome = subject.error.__name__ if right else f"{type(error).__name__}: {error}"
    finally:
        if timer:
            signal.alarm(0)
    return outcome, result, tracemalloc.get_traced_memory()[1] - before


class Hangs(BaseException):
    """A reader takes too long. No Exception: readers catch those."""


def hangs(*_: Any) -> None:
    raise Hangs


def main() -> None:
    number, seed = (int(word) for word in [*sys.argv[1:], "10000", "0"][:2])
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as directory:
        for subject in subjects(Path(directory)):
            begin = time.perf_counter()
            tried = attempt(subject, number, Path(directory), seed)
            seconds = time.perf_counter() - begin
            print(f"{subject.name}: {dict(tried.counts)}, at most {tried.most_memory:,} bytes "
                  f"beyond twice the declared size, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
