"""Checkpoints: what goes in comes out, killed writers do no harm, damage is told."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_child
import numpy as np
import pytest
from checkpoint_child import EVERY, Training, small, snapshot, written

import fastmom as fm
from fastmom import checkpoint
from fastmom.checkpoint import CheckpointError

KILLS = int(os.environ.get("FASTMOM_KILLS", "50"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """50 times SIGKILL, in steps and in writes; the result is that of an uninterrupted run.

    FASTMOM_KILLS is another number. What a killed writer left is removed by the next process.
    """
    chance = random.Random(0)
    reached = [numbers(tmp_path)]
    cut_writes, left = 0, set[str]()
    for _ in range(KILLS):
        assert kill_after(chance, tmp_path) == -signal.SIGKILL
        reached.append(numbers(tmp_path))
        unfinished = {file.name for file in tmp_path.glob(".*")}
        assert not unfinished & left or reached[-1] == reached[-2]      # it did not write
        cut_writes += bool(unfinished - left)
        left = unfinished
    assert reached == sorted(reached)                       # never back
    assert len(set(reached)) > KILLS // 4                   # many processes got on
    assert cut_writes >= 3                              # some died while they wrote

    resumed, straight = Training(), Training()
    resumed.resume(tmp_path)
    assert resumed.optimizer.iterations == reached[-1] > 0
    for _ in range(20):
        resumed.step()
    for _ in range(resumed.optimizer.iterations):
        straight.step()
    assert resumed.everything() == straight.everything()
    resumed.save(tmp_path)
    assert not list(tmp_path.glob(".*"))


def numbers(directory: Path) -> int:
    """The steps of the newest checkpoint, by its name alone."""
    return max((int(file.stem[-8:]) for file in directory.glob("checkpoint-*.npz")), default=0)


def kill_after(chance: random.Random, directory: Path) -> int:
    """Let the training take some steps, every other time until it saves; return how it ended."""
    steps, saving = chance.randrange(1, 12), chance.random() < 0.5
    home = os.pathsep.join([str(Path(fm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen([sys.executable, checkpoint_child.__file__, str(directory)],
                          stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": home}) as child:
        assert child.stdout is not None
        lines = iter(child.stdout.readline, b"")
        assert next(lines) == b"ready\n"
        for i, line in enumerate(lines):
            if i >= steps and (line == b"saving\n" or not saving):
                break
        time.sleep(chance.uniform(0.0, 0.003))
        child.kill()
        return child.wait()


@pytest.mark.parametrize("at", [0, 1, EVERY, 40])
def test_resumed_equals_uninterrupted(at: int, tmp_path: Path) -> None:
    straight, resumed = Training(), Training()
    lr = resumed.lr
    for _ in range(at):
        straight.step()
    straight.save(tmp_path)
    resumed.resume(tmp_path)
    assert resumed.everything() == straight.everything()
    assert resumed.lr is resumed.optimizer.param_groups[0]["lr"] is lr
    for training in (straight, resumed):
        for _ in range(10):
            training.step()
    assert resumed.everything() == straight.everything()


def averaged() -> tuple[list[Any], fm.SGD, fm.EMA]:
    params = [np.ones(5), np.ones((2, 3), np.float32)]
    optimizer = fm.SGD(params, lr=0.1, momentum=0.9)
    return params, optimizer, fm.EMA(params, 0.9, optimizer=optimizer)


def test_averages_are_saved_beside_the_parameters(tmp_path: Path) -> None:
    params, optimizer, ema = averaged()
    others, other, others_ema = averaged()
    for _ in range(3):
        optimizer.step([np.ones_like(p) for p in params])
    checkpoint.save(tmp_path / "a.npz", params=[*params, *ema.averages], optimizer=optimizer)
    checkpoint.load(tmp_path / "a.npz", params=[*others, *others_ema.averages], optimizer=other)
    for own in (optimizer, other):
        own.step([np.ones_like(p) for p in params])
    for a, b in zip([*params, *ema.averages], [*others, *others_ema.averages], strict=True):
        np.testing.assert_array_equal(a, b)
    with ema.swapped():
        for use in (checkpoint.save, checkpoint.load):
            with pytest.raises(RuntimeError, match="hold their averages"):
                use(tmp_path / "a.npz", optimizer=optimizer)


BIT_GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox,
                  np.random.SFC64]


@pytest.mark.parametrize("kind", BIT_GENERATORS)
def test_random_state(kind: Any, tmp_path: Path) -> None:
    rng, other = np.random.Generator(kind(1)), np.random.Generator(kind(2))
    rng.standard_normal(3, np.float32)          # leaves half a number in some of them
    checkpoint.save(tmp_path / "a.npz", rng=rng)
    checkpoint.load(tmp_path / "a.npz", rng=other)
    for draw in ("standard_normal", "random"):
        np.testing.assert_array_equal(*(getattr(r, draw)(99, np.float32) for r in (rng, other)))


PARAMS: list[Any] = [
    [np.arange(6.0).reshape(2, 3), np.float32([1.5]), np.array(7), np.zeros((0, 2))],
    {"a": np.ones(2), "a.npy": np.zeros(3), "../b/": np.array([True]), "": np.array([1j])},
    [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(9)[::2], np.ones(2, ">f4")],
    [],
]


@pytest.mark.parametrize("params", PARAMS, ids=["list", "dict", "layouts", "empty"])
def test_params_into_existing_arrays(params: Any, tmp_path: Path) -> None:
    """Of any name, shape and layout; the file is an ordinary one of NumPy's."""
    file = tmp_path / "new" / "a.npz"
    checkpoint.save(file, params=params, epoch=3, extra={"loss": [0.5, None], "big": 2 ** 80})
    named = isinstance(params, dict)
    keys = list(params) if named else range(len(params))
    targets: Any = {k: np.ones_like(params[k]) for k in keys}
    found = checkpoint.load(file, params=targets if named else list(targets.values()))
    assert (found.epoch, found.extra) == (3, {"loss": [0.5, None], "big": 2 ** 80})
    assert found.optimizer is found.rng is None
    assert type(found.params) is type(params)
    assert list(found.params) == list(params) if named else len(found.params or []) == len(params)
    for k in keys:
        np.testing.assert_array_equal(targets[k], params[k], strict=True)
    with np.load(file, allow_pickle=False) as plain:
        assert len(plain.files) == 1 + len(params)


UNSTORABLE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"params": np.ones(3)}, TypeError, "params must be a list or dict of arrays"),
    ({"params": [[1.0]]}, TypeError, "params[0] must be a NumPy array, not list"),
    ({"params": {"w": np.ones(2, object)}}, TypeError, "params['w'] has dtype object"),
    ({"params": [np.ma.masked_array([1.0])]}, TypeError, "params[0] must be"),
    ({"params": {1: np.ones(2)}}, TypeError, "params must have strings as names"),
    ({"optimizer": fm.SGD()}, RuntimeError, "has no parameters yet"),
    ({"rng": 1}, TypeError, "rng must be a numpy.random.Generator, not int"),
    ({"rng": np.random.RandomState(0)}, TypeError, "rng must be"),
    ({"epoch": -1}, ValueError, "epoch must be an integer >= 0"),
    ({"epoch": 1.5}, TypeError, "epoch must be"),
    ({"extra": {"a": [(1, 2)]}}, TypeError, "extra/a/0 cannot be stored: (1, 2)"),
    ({"extra": {1: 2}}, TypeError, "extra cannot be stored"),
    ({"extra": np.ones(2)}, TypeError, "extra cannot be stored: array"),
    ({"extra": [{"__array__": "x"}]}, TypeError, "keys other than '__array__'"),
]


@pytest.mark.parametrize(("given", "error", "message"), UNSTORABLE, ids=[r[2] for r in UNSTORABLE])
def test_what_cannot_be_saved(given: Any, error: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    before = written(file)
    with pytest.raises(error, match=re.escape(message)):
        checkpoint.save(file, **given)
    assert os.listdir(tmp_path) == ["a.npz"]
    assert file.read_bytes() == before


def test_saving_needs_the_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("path must end in .npz")):
        checkpoint.save(tmp_path / "a.pt", epoch=1)
    assert not os.listdir(tmp_path)


def test_forced_to_the_disk_before_it_counts(tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name, call in (("fsync", os.fsync), ("replace", os.replace)):
        def noted(*args: Any, name: str = name, call: Any = call) -> None:
            calls.append(name)
            call(*args)
        monkeypatch.setattr(os, name, noted)
    written(tmp_path / "a.npz")
    assert calls == ["fsync", "replace", *(["fsync"] if os.name == "posix" else [])]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written(tmp_path / "a.npz")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "a.npz")
    assert os.listdir(tmp_path) == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == before


def locked() -> Any:
    array = np.ones((2, 2), np.float32)
    array.flags.writeable = False
    return array


MISFITS: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    ("too few", lambda o: {**o, "params": o["params"][:1]},
     "it holds params[0], params[1]; given are params[0]"),
    ("names", lambda o: {**o, "params": dict(zip("ab", o["params"], strict=True))},
     "given are params['a'], params['b']"),
    ("dtype", lambda o: {**o, "params": [o["params"][0], np.ones((2, 2))]},
     "params[1] has dtype float32, expected float64"),
    ("shape", lambda o: {**o, "params": [np.ones(4), o["params"][1]]},
     "params[0] has shape (3,), expected (4,)"),
    ("read-only", lambda o: {**o, "params": [o["params"][0], locked()]}, "params[1] is read-only"),
    ("optimizer", lambda o: {**o, "optimizer": fm.Adam(o["params"])},
     "optimizer is 'SGD', expected 'Adam'"),
    ("rng", lambda o: {**o, "rng": np.random.Generator(np.random.SFC64(1))},
     "random state of 'PCG64', not of 'SFC64'"),
    ("no rng", lambda o: {**o, "rng": 5}, "rng must be a numpy.random.Generator"),
]


@pytest.mark.parametrize(("spoil", "message"), [r[1:] for r in MISFITS],
                         ids=[r[0] for r in MISFITS])
def test_what_does_not_fit(spoil: Any, message: str, tmp_path: Path) -> None:
    """Whichever of the three it is, none of them changes."""
    file = tmp_path / "a.npz"
    written(file)
    objects = small()
    before = snapshot(objects)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        checkpoint.load(file, **spoil(objects))
    assert snapshot(objects) == before


def test_a_missing_file_is_no_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        checkpoint.latest(tmp_path / "no")
