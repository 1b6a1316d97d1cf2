"""Test that peers step the same memory, that NumPy's network trains, and what ranges say."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from bench import readme, timing
from bench.agree import agree
from bench.epoch import write_data
from bench.peers import on_numpy, together
from bench.peers.numpy_network import Network, Training
from bench.results import ratio
from bench.timing import Step
from bench.workloads import Case
from fastmom.optim.reference import Reference


@pytest.mark.parametrize(("optimizer", "clip"), [("SGD", None), ("SGD", 1.0), ("AdamW", None),
                                                 ("AdamW", 1.0), ("RAdam", None)])
def test_every_candidate_steps_the_same_arrays(optimizer: str, clip: float | None,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.workloads.LR", 0.01)     # of the steps: as it is, nothing moves
    case = Case(optimizer, [[3, 4], [50]], clip)
    memories: list[together.Memory] = []

    class Memory(together.Memory):
        def __init__(self, case: Case) -> None:
            super().__init__(case)
            memories.append(self)

    monkeypatch.setattr(together, "Memory", Memory)
    steps = together.steps(case)
    memory, = memories
    assert {"fastmom", "fastmom, same gradients", "NumPy reference"} <= steps.keys()
    state = [array for of_one in memory.state for array in of_one.values() if array.any()]
    for name, step in steps.items():
        before = [a.copy() for a in (*memory.params, *state)]
        step._seconds(1)
        changed = [not np.array_equal(a, b) for a, b in
                   zip((*memory.params, *state), before, strict=True)]
        assert all(changed), name


def test_candidates_take_the_same_step() -> None:
    case = Case("AdamW", [[3, 4], [50]], 1.0)
    memory = together.Memory(case)
    grads = memory.lists[0]
    expected = Reference(memory.optimizer)
    of_numpy = on_numpy.steps_of(memory)
    for _ in range(2):
        memory.optimizer.step(grads)
        expected.step(grads)
    of_numpy[" reference"].step(grads)      # counts from its own first step: state alone compares
    expected.ages = [0] * 2
    expected.step(grads)
    for mine, theirs in zip(memory.state, expected.state, strict=True):
        for name in ("mean", "square"):
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-5)


@pytest.mark.parametrize(("elements", "lists"), [(10, together.SEVERAL), (10**5, together.FEW)])
def test_gradients_are_new_objects(elements: int, lists: int) -> None:
    memory = together.Memory(Case("SGD", [[elements]]))
    objects = {id(g) for grads in memory.lists for g in grads}
    assert len(objects) == len(memory.lists) == lists
    assert all(g.base is None and np.array_equal(g, memory.lists[0][0])
               for g, in memory.lists)


def test_large_gradients_are_the_same_memory() -> None:
    memory = together.Memory(Case("SGD", [[together.OWN_UPTO + 1]]))
    first, *others = (grads[0] for grads in memory.lists)
    assert all(g is not first and np.shares_memory(g, first) for g in others)


def test_a_step_is_handed_lists_in_turn() -> None:
    told: list[Any] = []

    @contextmanager
    def within() -> Any:
        told.append("in")
        yield
        told.append("out")

    step = Step(lambda grads: told.append(grads), ["a", "b"], lambda grads: told.append(grads * 2),
                within)
    step._seconds(3)
    assert told == ["aa", "a", "bb", "b", "aa", "a"]
    told.clear()
    step.lasting = 0.0
    answer = step.turn()
    assert told[0] == "in"
    assert told[-1] == "out"
    assert answer["seconds"] >= 0
    assert answer["spinning"] < timing.ASLEEP


def test_the_network_takes_fastmoms_step() -> None:
    """One batch, whose order does not matter: the parameters are those of `Sequential.fit`."""
    rng = np.random.default_rng(0)
    x, y = rng.random((24, 30), np.float32), rng.integers(0, 5, 24)
    model = fm.nn.Sequential([fm.nn.Dense(7, activation="relu", input_shape=(30,)),
                              fm.nn.Dense(5, activation="softmax")])
    model.compile(fm.SGD(lr=0.1, momentum=0.9, nesterov=True))
    network = Network([(30, 7), (7, 5)], Training(24, 0.1, 0.9))
    for p, of_model in zip(network.params, model.params, strict=True):
        p[...] = of_model
    for _ in range(5):
        history = model.fit(x, y, batch_size=24, verbose=0)
        loss, _ = network.train(x, y)
        assert loss == pytest.approx(history.history["loss"][-1], rel=1e-4)
    for p, of_model in zip(network.params, model.params, strict=True):
        np.testing.assert_allclose(p, of_model, rtol=1e-3, atol=1e-5)


def test_dropout_drops_and_a_short_batch_trains() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((50, 30), np.float32), rng.integers(0, 5, 50)
    network = Network([(30, 64), (64, 5)], Training(32, 0.1, 0.9, dropout=0.5))
    losses = [network.train(x, y)[0] for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    network.gather(x, np.arange(32))
    network.forward(32)
    assert 0.5 < (network.inputs[1] == 0).mean() < 0.95


def test_noisy_images_have_no_zero(tmp_path: Path) -> None:
    write_data(tmp_path / "plain", "digits")
    write_data(tmp_path / "noisy", "digits", noise=True)
    plain, noisy = (np.fromfile(tmp_path / name / "x_train", np.uint8)
                    for name in ("plain", "noisy"))
    assert (plain == 0).mean() > 0.5
    assert noisy.min() > 0
    assert (noisy.astype(int) - plain.clip(0, 200) > -60).all()


def test_a_range_is_the_middle_of_all_ratios() -> None:
    found = ratio([2.0] * 9 + [200.0], [1.0] * 10)
    assert found.value == found.low == 2.0
    assert found.high < 200
    assert ratio([1.0, 3.0], [1.0]).range == pytest.approx((1.2, 2.8))
    assert agree(ratio([1.0, 3.0], [1.0]), ratio([2.5, 5.0], [1.0]))
    assert not agree(ratio([1.0, 3.0], [1.0]), ratio([2.7, 5.0], [1.0]))


def test_a_faster_peer_is_told_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(of_numba: float) -> dict[str, Any]:
        seconds = {"fastmom": [1.0, 1.0], "numba prange": [of_numba] * 2, "numba serial": [3.0] * 2}
        return {"workload": "1 x 10^8", "clip": None, "optimizer": "SGD", "seconds": seconds}

    assert readme.unexplained({"steps": {"rows": [row(0.98)]}}) == []
    slower = {"steps": {"rows": [row(0.9)]}}
    assert readme.unexplained(slower) == ["1 x 10^8: numba"]
    monkeypatch.setattr(readme, "CAUSES", {"1 x 10^8: numba": "It is so."})
    assert readme.unexplained(slower) == []
    told = readme.below(readme.steps_of(slower), ["numba"])
    assert told["1 x 10^8: numba"].endswith("It is so.")
