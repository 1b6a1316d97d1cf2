"""``mpiexec -n N fastmom train --distributed``."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mpi4py")
pytest.importorskip("tqdm")

import commands
from integrations.test_mpi import MPIEXEC, segments

from fastmom import checkpoint
from fastmom.integrations.mpi.ranks import sweep

KILLS = int(os.environ.get("FASTMOM_MPI_KILLS", "2"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return commands.write(tmp_path_factory.mktemp("data") / "digits")


@contextmanager
def start(ranks: int, digits: Path, *args: object,
          stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Start a training, which ends if the test fails meanwhile."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [MPIEXEC, "-n", ranks, sys.executable, "-m", "fastmom", "train", "--distributed",
               "--data", digits, "--hidden", 16, "--batch-size", 24, "--dropout", 0, *args]
    with subprocess.Popen([*map(str, command)], env=environment, text=True, stdout=stdout,
                          stderr=subprocess.PIPE) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def train(ranks: int, digits: Path, *args: object) -> tuple[int, str, str]:
    with start(ranks, digits, *args) as process:
        out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def weights(directory: Path) -> list[Any]:
    saved = checkpoint.load_latest(directory)
    assert saved is not None
    return list(saved.params or [])


def test_equals_one_process_on_the_whole_batch(digits: Path, tmp_path: Path) -> None:
    assert commands.run("--data", digits, "--hidden", 16, "--batch-size", 24, "--dropout", 0,
                        "--epochs", 2, "--checkpoint", tmp_path / "1", "--json",
                        tmp_path / "1.json") == 0
    single = json.loads((tmp_path / "1.json").read_text())
    for ranks in (2, 3):
        code, out, error = train(ranks, digits, "--epochs", 2, "--checkpoint",
                                 tmp_path / f"d{ranks}", "--json", tmp_path / f"{ranks}.json")
        assert code == 0, error
        assert out.count("epoch 1/2") == out.count("epoch 2/2") == 1
        assert out.count("test accuracy 0.") == 2
        assert f"{ranks} ranks" in out
        content = json.loads((tmp_path / f"{ranks}.json").read_text())
        for own, other in zip(content["epochs"], single["epochs"], strict=True):
            for name in ("loss", "accuracy", "test_loss"):
                assert own[name] == pytest.approx(other[name], rel=1e-4)
        for a, b in zip(weights(tmp_path / f"d{ranks}"), weights(tmp_path / "1"), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_resumes_with_other_numbers_of_ranks(digits: Path, tmp_path: Path) -> None:
    code, _, error = train(2, digits, "--epochs", 3, "--checkpoint", tmp_path / "whole")
    assert code == 0, error
    for ranks, epochs, more in ((3, 1, ()), (1, 2, ("--resume",)), (2, 3, ("--resume",))):
        code, _, error = train(ranks, digits, "--epochs", epochs, "--checkpoint",
                               tmp_path / "parts", *more)
        assert code == 0, error
    for a, b in zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_errors_are_told_once(digits: Path, tmp_path: Path) -> None:
    for args, words in ((("--batch-size", 25), "--batch-size: 25 cannot be shared out"),
                        (("--optimizer", "lion", "--nesterov"), "has no nesterov"),
                        (("--resume", "--checkpoint", tmp_path / "none"), "no whole checkpoint")):
        code, out, error = train(2, digits, *args)
        assert code == 2
        assert out == ""
        assert (out + error).count(words) == 1, error


def test_distributed_options_need_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run("--timeout", 3) == 2
    assert "--timeout needs --distributed" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_terminal_shows_one_bar(digits: Path) -> None:
    ours, theirs = os.openpty()
    with start(2, digits, "--epochs", 1, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 4096):
                shown += more
        except OSError:         # how a terminal ends
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    assert b"/13 |" in shown                # steps of 24 of the 300 samples
    assert shown.count(b"test accuracy 0.") == 1


def until(process: subprocess.Popen[str], directory: Path) -> None:
    """Wait for the first checkpoint."""
    end = time.monotonic() + 40
    while not list(directory.glob("checkpoint-*.npz")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the ranks that an mpiexec has started, once there are some."""
    def below(pid: int) -> list[int]:
        with suppress(OSError):         # it has ended
            own = [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
            return own + [rank for child in own for rank in below(child)]
        return []

    def of_python(pid: int) -> bool:
        with suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_text().startswith(sys.executable)
        return False
    end = time.monotonic() + 20
    while not (ranks := [*filter(of_python, below(process.pid))]):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)
    return ranks


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_a_checkpoint(number: int, digits: Path, tmp_path: Path) -> None:
    with start(2, digits, "--epochs", 100000, "--checkpoint", tmp_path / "c") as process:
        until(process, tmp_path / "c")
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    assert "interrupted after" in out, error
    assert "go on with: mpiexec -n N fastmom train" in out
    assert "Traceback" not in error
    assert checkpoint.load_latest(tmp_path / "c") is not None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("run", range(KILLS))
def test_a_killed_rank_loses_nothing_but_the_steps_since(run: int, digits: Path,
                                                         tmp_path: Path) -> None:
    draw, before = random.Random(run), segments()
    args = ["--checkpoint", tmp_path / "c"]
    with start(3, digits, "--epochs", 100000, *args) as process:
        if run % 3:                     # else it may be while they start
            until(process, tmp_path / "c")
        ranks = ranks_of(process)
        time.sleep(draw.random())
        killed = time.monotonic()
        os.kill(draw.choice(ranks), signal.SIGKILL)
        out, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert time.monotonic() - killed < 30
    while [rank for rank in ranks if Path(f"/proc/{rank}/cmdline").exists()]:
        assert time.monotonic() - killed < 30
        time.sleep(0.1)
    if "layers" in out:                 # else they may not have taken the names off yet
        assert segments() <= before
    sweep(age=0)
    assert segments() <= before
    last = checkpoint.load_latest(tmp_path / "c") if (tmp_path / "c").exists() else None
    epochs = 1 if last is None else int(last.epoch or 0) + 1
    code, out, error = train(2, digits, *args, *["--resume"] * bool(last), "--epochs", epochs)
    assert code == 0, error
    assert out.count("epoch ") == 2     # the line of the one that was left, and the last
