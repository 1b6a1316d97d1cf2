"""What the tests of `fastmom.integrations.mpi` run on each rank: ``mpi_child.py CASE ...``."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

import fastmom as fm
from fastmom import checkpoint
from fastmom.integrations.mpi import Replicated, Sharded

WORLD = MPI.COMM_WORLD
SHAPES = [(40, 30), (), (7,), (0,), (3, 500), (12, 300)]


def params(dtype: Any = np.float32, shapes: Any = SHAPES) -> list[Any]:
    rng = np.random.default_rng(1)
    return [np.asarray(0.3 + rng.random(shape), dtype) for shape in shapes]


def gradient(rank: int, step: int, dtype: Any = np.float32, shapes: Any = SHAPES) -> list[Any]:
    """Gradients that differ between ranks, and whose mean is not near 0."""
    sign, own = np.random.default_rng(step), np.random.default_rng([step, rank])
    return [np.asarray((sign.integers(0, 2, shape) * 2 - 1) * (0.5 + own.random(shape)), dtype)
            for shape in shapes]


def mean(step: int, dtype: Any = np.float32, ranks: int = WORLD.size) -> list[Any]:
    every = [gradient(rank, step, np.float64) for rank in range(ranks)]
    return [np.asarray(sum(own) / ranks, dtype) for own in zip(*every, strict=True)]


def close(got: list[Any], expected: list[Any], name: str) -> None:
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        rough = a.dtype != np.float64
        np.testing.assert_allclose(a, b, rtol=2e-5 if rough else 1e-11,
                                   atol=2e-6 if rough else 1e-12, err_msg=f"{name}: params[{i}]")


def alone(make: Any, dtype: Any = np.float32, steps: int = 3) -> tuple[list[Any], Any]:
    """The same training in one process."""
    own = params(dtype)
    optimizer = make()
    optimizer.bind(own)
    for step in range(steps):
        optimizer.step(mean(step, dtype))
    return own, optimizer


def same_everywhere(arrays: list[Any]) -> None:
    data = b"".join(a.tobytes() for a in arrays)
    assert len(set(WORLD.allgather(data))) == 1


def optimizers(kind: str, per_node: str) -> None:
    """Every optimizer, against the single process and its state, in float32 and float64."""
    from cases import COMMON, OPTIMIZERS, label
    kinds: Any = {"sharded": Sharded, "replicated": Replicated}[kind]
    for dtype in (np.float32, np.float64):
        cases = OPTIMIZERS + [(fm.AdamW, common) for common in COMMON]
        for cls, hyper in cases:
            if kind == "sharded" and cls(**hyper)._needs_whole_gradients():
                raises(ValueError, "needs the gradients of all parameters in one process",
                       lambda cls=cls, hyper=hyper: Sharded(WORLD, params(), cls(**hyper)))
                continue
            name = f"{label((cls, hyper))} {np.dtype(dtype)}"
            expected, single = alone(lambda cls=cls, hyper=hyper: cls(**hyper), dtype)
            own = params(dtype) if WORLD.rank == 0 else [*map(np.zeros_like, params(dtype))]
            with kinds(WORLD, own, cls(**hyper), ranks_per_node=int(per_node) or None) as opt:
                for step in range(3):
                    assert opt.step(gradient(WORLD.rank, step, dtype))
                close(own, expected, name)
                same_everywhere(own)
                state = opt.state_dict() if kind == "sharded" else opt.optimizer.state_dict()
                if state is not None:
                    check_state(state, single.state_dict(), name)


def check_state(state: dict[str, Any], expected: dict[str, Any], name: str) -> None:
    for part in ("iterations", "steps", "options", "groups", "optimizer"):
        assert state[part] == expected[part], (name, part)
    for own, other in zip(state["state"], expected["state"], strict=True):
        assert own.keys() == other.keys()
        for key in own:
            np.testing.assert_allclose(own[key], other[key], rtol=1e-4, atol=1e-5,
                                       err_msg=f"{name}: {key}")


def bits(file: str) -> None:
    """Write the parameters after some steps, for comparison between runs."""
    own = params()
    with Sharded(WORLD, own, fm.AdamW(clip_norm=1.0, weight_decay=0.1), mirror=False) as opt:
        for step in range(5):
            for place, g in zip(opt.grads, gradient(WORLD.rank, step), strict=True):
                place[...] = g
            opt.step(opt.grads)
        same_everywhere(opt.params)
        if WORLD.rank == 0:
            np.savez(file, *opt.params)
    for before, after in zip(own, params(), strict=True):
        assert (before == after).all()          # those given are left alone


def single_bits() -> None:
    """On one rank, the bits are the optimizer's own."""
    own, other = params(), params()
    optimizer = fm.AdamW(other, clip_norm=1e9)
    with Sharded(WORLD, own, fm.AdamW(clip_norm=1e9)) as opt:
        for step in range(3):
            opt.step(gradient(0, step))
            optimizer.step(gradient(0, step))
    assert all((a == b).all() for a, b in zip(own, other, strict=True))


def features() -> None:
    """Groups, schedules, accumulation, averages, gradients that are None, low precision."""
    size, rank = WORLD.size, WORLD.rank

    def groups(arrays: list[Any]) -> list[Any]:
        return [{"params": arrays[:3], "lr": 0.1, "momentum": 0.5}, {"params": arrays[3:]}]

    def sgd() -> Any:
        return fm.SGD(lr=fm.optim.schedules.Linear(0.5, 0.1, 4), momentum=0.9)
    own, other = params(), params()
    single = sgd()
    single.bind(groups(other))
    ema = fm.EMA(other, 0.5, optimizer=single)
    with Sharded(WORLD, groups(own), sgd()) as opt:
        opt.average(0.5)
        for step in range(3):
            grads, whole = gradient(rank, step), mean(step)
            grads[4] = whole[4] = None          # type: ignore[call-overload]
            assert opt.step(grads)
            assert single.step(whole)
        close(own, other, "groups")
        close(opt.averages(), ema.averages, "averages")
        opt.param_groups[1]["lr"] = single.param_groups[1]["lr"] = 0.01
        assert opt.step(gradient(rank, 7))
        assert single.step(mean(7))
        close(own, other, "lr")
        assert opt.step([None] * len(own)) is False
        state = opt.state_dict()
        assert state is None or state["steps"] == single.state_dict()["steps"]

    own, other = params(), params()
    several = fm.GradientAccumulation(fm.AdamW(other, clip_norm=0.1), 2)
    with Sharded(WORLD, own, fm.AdamW(clip_norm=0.1), accumulate=2) as opt:
        taken = [opt.step(gradient(rank, step)) for step in range(4)]
        assert taken == [several.step(mean(step)) for step in range(4)] == [False, True] * 2
        close(own, other, "accumulation")

    half = [a.astype(np.float16) for a in params()]
    own, other = [a.copy() for a in half], [a.copy() for a in half]
    single = fm.AdamW(other, state_dtype="int8")
    with Sharded(WORLD, own, fm.AdamW(state_dtype="int8")) as opt:
        for step in range(3):
            opt.step([g.astype(np.float16) for g in gradient(rank, step)])
            single.step([np.asarray(sum(g) / size, np.float16) for g in zip(*(
                [g.astype(np.float16) for g in gradient(r, step)] for r in range(size)),
                strict=True)])
        for a, b in zip(own, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=4e-3)
        opt.load_state_dict(WORLD.bcast(opt.state_dict()))


def resident() -> int:
    """Return this process's own memory in bytes, without what it shares with others."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def overlap(kind: str, per_node: str) -> None:
    """Gradients that are said to be ready travel at once, and give the same bits."""
    kinds: Any = {"sharded": Sharded, "replicated": Replicated}[kind]
    results = []
    for early in ([], range(len(SHAPES)), [5, 4], [0, 2]):
        own = params()
        with kinds(WORLD, own, fm.AdamW(), ranks_per_node=int(per_node)) as opt:
            for step in range(4):
                for place, g in zip(opt.grads, gradient(WORLD.rank, step), strict=True):
                    place[...] = g
                for i in reversed(early):
                    opt.ready(i)
                    raises(ValueError, f"i={i}", lambda i=i: opt.ready(i))
                if len(early) == len(SHAPES):       # the last rank of a node finds all ready
                    nodes = WORLD.size // int(per_node)
                    assert sum(WORLD.allgather(len(opt._between._unsent))) <= (
                        WORLD.size - nodes) * nodes
                if step == 2 and early:             # refused, after some of it has travelled
                    i = early[0]
                    raises(ValueError, f"grads[{i}] is not the array",
                           lambda i=i: opt.step([None if k == i else g
                                                 for k, g in enumerate(opt.grads)]))
                    continue
                assert step == 2 or opt.step(opt.grads)
            raises(ValueError, "i must be", lambda: opt.ready(len(SHAPES)))
        results.append(b"".join(a.tobytes() for a in own))
    assert len(set(results)) == 1
    same_everywhere(own)


def wire(kind: str, per_node: str) -> None:
    """Sums of each node's gradients travel in bfloat16, and are added up in float32."""
    import ml_dtypes
    kinds: Any = {"sharded": Sharded, "replicated": Replicated}[kind]
    n, size = int(per_node), WORLD.size
    own, other = params(), params()
    single = fm.SGD(other, lr=0.5)
    with kinds(WORLD, own, fm.SGD(lr=0.5), wire="bfloat16", ranks_per_node=n) as opt:
        for step in range(3):
            opt.step(gradient(WORLD.rank, step))
            every = [gradient(rank, step) for rank in range(size)]
            nodes = [[sum(gs).astype(ml_dtypes.bfloat16).astype(np.float32)
                      for gs in zip(*every[k:k + n], strict=True)] for k in range(0, size, n)]
            single.step([np.asarray(sum(gs) / size, np.float32)
                         for gs in zip(*nodes, strict=True)])
    close(own, other, "bfloat16")
    same_everywhere(own)


def memory() -> None:
    """State is divided; what each rank uses of it is its part."""
    n = 9_000_000
    own = [np.ones(n, np.float32), np.ones((1000, 1000), np.float32)]
    total = 2 * 4 * (n + 1_000_000)
    # one rank's windows are its own memory; only Linux tells what is shared
    before = resident() if WORLD.size > 1 and sys.platform == "linux" else None
    with Sharded(WORLD, own, fm.AdamW(), mirror=False) as opt:
        opt.step(opt.grads)
        told = opt.memory()
        assert abs(told["state"] - total / WORLD.size) <= 8 * 2 * 256
        assert told["shared"] == told["gradients"] == 4 * (n + 1_000_000)
        if before is not None:
            assert 0 < resident() - before - told["state"] < 8e6    # huge pages, and MPI's own
    shapes = [(300, 300)] * 3 + [(100, 100)] * 9
    with Sharded(WORLD, params(shapes=shapes), fm.Muon()) as opt:
        states = WORLD.allgather(opt.memory()["state"])
        assert max(states) <= sum(states) / WORLD.size + 2 * 4 * 300 * 300


def checkpoints(action: str, directory: str, cls: str) -> None:
    """Write after two steps, on any number of ranks go on, and compare with no break at all."""
    file = f"{directory}/checkpoint-00000001.npz"
    own = params()
    hyper: dict[str, Any] = {} if cls == "Muon" else {"clip_norm": 0.5}
    with Sharded(WORLD, own, getattr(fm, cls)(**hyper)) as opt:
        if action == "save":
            for step in range(2):
                opt.step(gradient(0, step))
            opt.save(file, extra={"step": 2})
            return
        assert opt.load(file) == {"step": 2}
        opt.step(gradient(0, 2))
    other = params()
    single = getattr(fm, cls)(other, **hyper)
    for step in range(3):
        single.step(gradient(0, step))
    close(own, other, "resumed")
    checkpoint.load(file).apply(params=other, optimizer=single)     # as one of a single process
    single.step(gradient(0, 2))
    close(own, other, "resumed alone")


# What goes wrong ----------------------------------------------------------------------------------

def raises(kind: Any, words: str, function: Any) -> None:
    """Assert that it raises on this rank too, and says so."""
    with pytest.raises(kind, match=re.escape(words)):
        function()


def different() -> None:
    """What differs between ranks is refused on each of them, and named."""
    odd = WORLD.rank == WORLD.size - 1
    for words, make in [
        ("params[1] of shape (2,)", lambda: [np.zeros(3), np.zeros(2 + odd)]),
        ("params[1] of shape (2,)", lambda: [np.zeros(3), *[np.zeros(2)] * (not odd)]),
        ("float64", lambda: [np.zeros(3, np.float32 if odd else np.float64)]),
        ("group 1 with", lambda: [{"params": [np.zeros(1)], "lr": 1.0},
                                {"params": [np.zeros(2)]}][:1 + (not odd)]),
    ]:
        for kind in (Sharded, Replicated):
            raises(ValueError, words, lambda kind=kind, make=make: kind(WORLD, make(), fm.SGD()))
    for words, rule in [("momentum=0.5", lambda: fm.SGD(momentum=0.5 * odd)),
                        ("AdamW", lambda: fm.AdamW() if odd else fm.Adam())]:
        raises(ValueError, words, lambda rule=rule: Sharded(WORLD, [np.zeros(1)], rule()))
    raises(ValueError, "mirror", lambda: Sharded(WORLD, [np.zeros(1)], fm.SGD(), mirror=odd))
    own = [np.zeros(2), np.zeros((2, 2)).T if odd else np.zeros((2, 2))]
    raises(ValueError if odd else RuntimeError, "params[1]",
           lambda: Sharded(WORLD, own, fm.SGD()))
    raises(ValueError, "wire", lambda: Sharded(WORLD, [np.zeros(1)], fm.SGD(), wire="bfloat16"))
    raises(ValueError, "wire", lambda: Sharded(WORLD, [np.zeros(1)], fm.SGD(), wire="float16"))
    raises(TypeError, "comm", lambda: Sharded("world", own, fm.SGD()))
    raises(TypeError, "accumulate=", lambda: Sharded(
        WORLD, own, fm.GradientAccumulation(fm.SGD([np.zeros(1)]), 2)))
    raises(ValueError, "without", lambda: Sharded(WORLD, own[:1], fm.SGD(own[:1])))


def refused(kind: str) -> None:
    """A step that one rank refuses changes nothing on any."""
    odd, own = WORLD.rank == WORLD.size - 1, params()
    before = [a.copy() for a in own]
    kinds: Any = {"sharded": Sharded, "replicated": Replicated}[kind]
    with kinds(WORLD, own, fm.AdamW(nonfinite="raise")) as opt:
        good = gradient(WORLD.rank, 0)
        for i, bad in ((2, np.zeros(8, np.float32)), (2, good[2].astype(np.float64)), (2, "no")):
            given = [bad if odd and i == k else g for k, g in enumerate(good)]
            raises((TypeError, ValueError) if odd else RuntimeError, "grads[2]",
                   lambda given=given: opt.step(given))
        raises(ValueError, "which gradients are None",
               lambda: opt.step([None if odd else good[0], *good[1:]]))
        infinite = [g.copy() for g in good]
        if odd:
            infinite[4][1, 2] = np.inf
        raises(FloatingPointError, "grads[4]", lambda: opt.step(infinite))
        opt.nonfinite = "skip"
        assert opt.step(infinite) is False
        if odd:
            opt.lr = 0.5
        raises(ValueError, "hyper-parameters", lambda: opt.step(good))
        opt.lr = 1e-3
        assert all((a == b).all() for a, b in zip(own, before, strict=True))
        raises(TypeError, "lr", lambda: setattr(opt, "learning_rate", 1.0))
        assert opt.step(good)
        expected, _ = alone(fm.AdamW, steps=1)
        close(own, expected, "after refusals")
        if kind == "sharded":
            opt.clip_norm_per_tensor = 1.0
            raises(ValueError, "whole tensors", lambda: opt.step(good))
    raises(RuntimeError, "closed", lambda: opt.step(good))


def late(how: str) -> None:
    """One rank does not come, or all raise; the timeout is 2 seconds."""
    odd = WORLD.rank == WORLD.size - 1
    if odd and how == "missing":
        time.sleep(100)
    with Sharded(WORLD, params(), fm.SGD(), timeout=2) as opt:
        for step in range(1000):
            if odd and step == 3:
                print("now", flush=True)
                if how == "stopped":
                    os.kill(os.getpid(), signal.SIGSTOP)
                elif how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                elif how == "raised":
                    raise ZeroDivisionError("of this rank")
                elif how != "all":
                    time.sleep(100)
            if how == "all" and step == 3:
                opt.step([])
            opt.step(gradient(WORLD.rank, step))


def main() -> None:
    name, *arguments = sys.argv[1:]
    if name == "late":      # and see what its errors do
        return late(*arguments)
    try:
        globals()[name](*arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        WORLD.Abort(1)


if __name__ == "__main__":
    main()
