"""fastmom's optimizers as the server of Flower's federations."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr.serverapp.strategy")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, strategy
from flwr.serverapp.exception import AggregationError

import fastmom as fm
from fastmom.integrations.flower import FedOptimizer, record
from fastmom.integrations.flower.files import view

logging.getLogger("flwr").setLevel(logging.ERROR)

F = np.float32
NODES = 5


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of newer versions ask whose they are."""
    try:
        from flwr.supercore.task_identity import TaskIdentity
    except ImportError:
        return
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 0)


def problem(node: int) -> tuple[Any, Any]:
    """A linear regression, other examples on each node; 10 to 50 of them."""
    rng = np.random.default_rng(node)
    x = rng.standard_normal((10 * node, 4)).astype(F)
    return x, x @ np.array([1, -2, 3, 0.5], F) + F(0.5) + F(0.1) * rng.standard_normal(len(x), F)


def loss(node: int, arrays: dict[str, Any]) -> float:
    x, y = problem(node)
    return float(np.mean((x @ arrays["w"] + arrays["b"] - y) ** 2))


def train(node: int, arrays: dict[str, Any]) -> dict[str, Any]:
    """Ten steps of plain descent."""
    x, y = problem(node)
    w, b = arrays["w"].copy(), arrays["b"].copy()
    for _ in range(10):
        error = x @ w + b - y
        w -= F(0.05) * x.T @ error / F(len(x))
        b -= F(0.05) * error.mean(dtype=F)
    return {"w": w, "b": b}


class InProcess(Grid):      # type: ignore[misc]
    """Answers what strategies send at once; `change` may alter the replies' arrays."""

    def __init__(self, change: Callable[[int, dict[str, Any]], Any] = lambda _, a: a,
                 backward: bool = False) -> None:
        self.change, self.backward = change, backward

    def get_node_ids(self) -> list[int]:
        return [*range(1, NODES + 1)]

    def send_and_receive(self, messages: Iterable[Message], *,
                         timeout: float | None = None) -> list[Message]:
        replies = [self.reply(message) for message in messages]
        return replies[::-1] if self.backward else replies

    def reply(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        arrays = {k: a.numpy() for k, a in message.content["arrays"].items()}
        content: dict[str, Any] = {}
        if message.metadata.message_type == "train":
            arrays |= train(node, arrays)
            changed = {k: Array(np.asarray(a)) for k, a in self.change(node, arrays).items()}
            content["arrays"] = ArrayRecord(changed)
        content["metrics"] = MetricRecord({"loss": loss(node, arrays), "num-examples": 10 * node})
        return Message(RecordDict(content), reply_to=message)

    set_run = run = create_message = push_messages = pull_messages = None


def initial(dtype: Any = F, **more: Any) -> ArrayRecord:
    return ArrayRecord({"w": Array(np.zeros(4, dtype)), "b": Array(np.zeros(1, dtype)),
                        **{key: Array(value) for key, value in more.items()}})


def losses(server: Any, rounds: int = 8, grid: Any = None) -> tuple[list[float], dict[str, Any]]:
    """The clients' losses after each round, and the last arrays."""
    result = server.start(grid or InProcess(), initial(), num_rounds=rounds)
    return ([result.evaluate_metrics_clientapp[r]["loss"] for r in range(1, rounds + 1)],
            {k: a.numpy() for k, a in result.arrays.items()})


def share(b: float, t: int) -> float:
    return float(1 - b ** t)


ETA, TAU, B1, B2 = 0.3, 1e-2, 0.8, 0.9
# Flower's strategy, and the optimizer that equals it
SAME: list[tuple[Callable[[], Any], Callable[[], fm.Optimizer]]] = [
    (lambda: strategy.FedAvg(), lambda: fm.SGD(lr=1.0)),
    (lambda: strategy.FedAvgM(server_learning_rate=0.5, server_momentum=0.7),
     lambda: fm.SGD(lr=0.5, momentum=0.7)),
    (lambda: strategy.FedAdagrad(eta=ETA, tau=TAU), lambda: fm.Adagrad(lr=ETA, eps=TAU)),
    (lambda: strategy.FedAdam(eta=ETA, tau=TAU, beta_1=B1, beta_2=B2),
     lambda: fm.Adam(lr=lambda t: ETA * (share(B2, t + 2) / share(B2, t + 1)) ** 0.5
                     * share(B1, t + 1) / share(B1, t + 2),
                     eps=lambda t: TAU / share(B2, t + 1) ** 0.5, beta1=B1, beta2=B2)),
    (lambda: strategy.FedYogi(eta=ETA, tau=TAU, beta_1=B1, beta_2=B2),
     lambda: fm.Yogi(lr=lambda t: ETA * share(B1, t + 1) / share(B2, t + 1) ** 0.5,
                     eps=lambda t: TAU / share(B2, t + 1) ** 0.5, beta1=B1, beta2=B2,
                     initial_accumulator=0.0)),
]


@pytest.mark.parametrize(("theirs", "ours"), SAME, ids=lambda make: type(make()).__name__)
def test_like_flowers_own(theirs: Callable[[], Any], ours: Callable[[], fm.Optimizer]) -> None:
    wanted, last = losses(theirs())
    got, own = losses(FedOptimizer(ours()))
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert got[-1] < 0.5 * got[0]
    for key, array in last.items():
        assert own[key].dtype == F      # Flower's own make float64 of some
        np.testing.assert_allclose(own[key], array, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_like_flowers_own_in_its_simulation() -> None:
    pytest.importorskip("ray")
    script = Path(__file__).with_name("flower_simulation.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for theirs, ours in (("FedAvgM", "SGD"), ("FedAdam", "Adam")):
        assert len(found[theirs]) == 4
        np.testing.assert_allclose(found[ours], found[theirs], rtol=1e-5)


def test_nesterov_is_not_momentum() -> None:
    plain, nesterov = (losses(FedOptimizer(fm.SGD(lr=0.5, momentum=0.7, nesterov=n)))[0]
                       for n in (False, True))
    assert plain != nesterov
    assert nesterov[-1] < nesterov[0]


def test_the_order_of_answers_does_not_count() -> None:
    results = [losses(FedOptimizer(fm.SGD(lr=1.0, momentum=0.5)), grid=InProcess(backward=s))[1]
               for s in (False, True)]
    for key in ("w", "b"):
        np.testing.assert_array_equal(results[0][key], results[1][key])


def test_going_on(tmp_path: Path) -> None:
    def fresh() -> FedOptimizer:
        return FedOptimizer(fm.Adam(lr=0.1))

    _, wanted = losses(fresh(), 6)
    first = fresh()
    losses(first, 3)
    path = tmp_path / "round.npz"
    fm.checkpoint.save(path, params=first.params, optimizer=first.optimizer)
    second = fresh()
    second.bind(initial())
    fm.checkpoint.load(path, params=second.params, optimizer=second.optimizer)
    result = second.start(InProcess(), second.arrays, num_rounds=3)
    for key, array in wanted.items():
        np.testing.assert_array_equal(result.arrays[key].numpy(), array)


def test_other_arrays_are_taken_over() -> None:
    """A strategy around this one may send other arrays than this one returned."""
    server = FedOptimizer(fm.SGD(lr=1.0, momentum=0.9))
    losses(server, 2)
    velocity = server.optimizer.state[0]["velocity"].copy()
    assert velocity.any()
    server.configure_train(1, initial(), ConfigRecord(), InProcess())
    assert not server.params["w"].any()
    np.testing.assert_array_equal(server.optimizer.state[0]["velocity"], velocity)


def test_counters_are_averaged_and_halves_kept_in_float32() -> None:
    server = FedOptimizer(fm.SGD(lr=1.0))
    arrays = initial(np.float16, count=np.array([3, 4], np.int64), flag=np.array(True))
    grid = InProcess(lambda node, a: {**a, "w": a["w"].astype(np.float16),
                                      "b": a["b"].astype(np.float16),
                                      "count": a["count"] + np.array([3, 3 * node])})
    result = server.start(grid, arrays, num_rounds=1)
    assert {k: a.dtype for k, a in result.arrays.items()} == {
        "w": "float16", "b": "float16", "count": "int64", "flag": "bool"}
    assert server.params["w"].dtype == F
    assert [*result.arrays] == ["w", "b", "count", "flag"]
    # 3 (1 + 4 + 9 + 16 + 25) / 15 = 11
    np.testing.assert_array_equal(result.arrays["count"].numpy(), [6, 15])
    assert result.arrays["flag"].numpy()
    sent = [train(n, {"w": np.zeros(4, np.float16), "b": np.zeros(1, np.float16)})["w"]
            for n in range(1, NODES + 1)]
    mean = sum(F(n / 15) * w.astype(np.float16).astype(F) for n, w in enumerate(sent, 1))
    np.testing.assert_allclose(server.params["w"], mean, rtol=1e-6)


WRONG: list[tuple[str, Callable[[int, dict[str, Any]], Any], str]] = [
    ("a key less", lambda n, a: {"w": a["w"]}, "reply of node 1 must have the keys .*: b"),
    ("another key", lambda n, a: {**a, "c": a["b"]}, "of one alone: c"),
    ("shape", lambda n, a: {**a, "w": a["w"][n > 2:]}, r"node 3: 'w' is float32 \(3,\), expected"),
    ("axes", lambda n, a: {**a, "b": a["b"].reshape(())}, "node 1: 'b' is float32"),
    ("dtype", lambda n, a: {**a, "w": a["w"].astype(float)}, "'w' is float64"),
    ("byte order", lambda n, a: {**a, "w": a["w"].astype(">f4")}, "'w' is >f4"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in WRONG],
                         ids=[row[0] for row in WRONG])
def test_wrong_replies_change_nothing(change: Any, message: str) -> None:
    server = FedOptimizer(fm.SGD(lr=1.0, momentum=0.9))
    losses(server, 2)
    before = {k: p.copy() for k, p in server.params.items()}
    with pytest.raises(AggregationError, match=message):
        server.start(InProcess(change), server.arrays, num_rounds=1)
    for key, p in server.params.items():
        np.testing.assert_array_equal(p, before[key])
    assert server.optimizer.iterations == 2


def test_values_that_are_not_finite() -> None:
    def spoil(node: int, arrays: dict[str, Any]) -> dict[str, Any]:
        return {**arrays, "w": arrays["w"] * F(np.nan if node == 2 else 1)}

    server = FedOptimizer(fm.SGD(lr=1.0, nonfinite="skip"))
    result = server.start(InProcess(spoil), initial(), num_rounds=1)
    assert not result.arrays["w"].numpy().any()
    server = FedOptimizer(fm.SGD(lr=1.0, nonfinite="raise"))
    with pytest.raises(FloatingPointError, match=r"arrays\[1\] is nan") as raised:
        server.start(InProcess(spoil), initial(), num_rounds=1)
    assert "w, b" in raised.value.__notes__[0]
    server = FedOptimizer(fm.SGD(lr=1.0, clip_norm=0.1))
    server.start(InProcess(), initial(), num_rounds=1)
    length = np.sqrt(sum((p ** 2).sum() for p in server.params.values()))
    np.testing.assert_allclose(length, 0.1, rtol=1e-5)


def test_no_replies_and_weights() -> None:
    server = FedOptimizer(fm.SGD(lr=1.0))
    assert server.aggregate_train(1, []) == (None, None)
    message = Message(RecordDict({"arrays": initial(), "config": ConfigRecord()}), 1, "train")
    with pytest.raises(AggregationError, match="configure_train comes first"):
        server.aggregate_train(1, [InProcess().reply(message)])
    server.bind(initial())
    for weights in ([0], [-1, 2], [float("nan")]):
        replies = []
        for node, weight in enumerate(weights, 1):
            message = Message(RecordDict({"arrays": initial(), "config": ConfigRecord()}), node,
                              "train")
            replies.append(InProcess().reply(message))
            replies[-1].content["metrics"]["num-examples"] = weight
        with pytest.raises(AggregationError, match="weights are"):
            server.aggregate_train(1, replies)
    assert not server.params["w"].any()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: FedOptimizer("sgd"), "optimizer must be an Optimizer, not str"),
    (lambda: FedOptimizer(fm.SGD([np.zeros(3)])), "optimizer has parameters already"),
    (lambda: FedOptimizer(fm.SGD(), fraction=1), "fraction"),
    (lambda: FedOptimizer(fm.SGD()).bind(ArrayRecord([np.arange(3)])), "no array of float32"),
    (lambda: FedOptimizer(fm.SGD()).bind(ArrayRecord([np.ones(3), np.array("x")])), "no numbers"),
    (lambda: FedOptimizer(fm.SGD()).arrays, "bind them first"),
])
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        make()


def test_arrays_that_were_changed_in_place() -> None:
    server = FedOptimizer(fm.SGD(lr=1.0))
    arrays = server.start(InProcess(), initial(), num_rounds=1).arrays
    arrays["w"] = Array(np.full(4, 7, F))
    server.configure_train(2, arrays, ConfigRecord(), InProcess())
    np.testing.assert_array_equal(server.params["w"], np.full(4, 7, F))


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=F).reshape(2, 3), np.array(1.5), np.zeros((0, 3), F), np.array([True]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(3, dtype=">f8"),
    np.arange(4, dtype=np.float16)], ids=str)
def test_arrays_in_messages(array: Any) -> None:
    seen = view(Array(array).data)
    np.testing.assert_array_equal(seen, array)
    assert (seen.dtype, seen.shape) == (array.dtype, array.shape)
    assert seen.flags.c_contiguous
    assert seen.flags.aligned
    again = record(np.ascontiguousarray(array).reshape(array.shape))
    np.testing.assert_array_equal(again.numpy(), array)
    assert (again.dtype, again.shape, again.stype) == (str(array.dtype), array.shape,
                                                       "numpy.ndarray")
    damaged = Array(again.dtype, again.shape, again.stype, again.data[:-1])
    if array.size:
        with pytest.raises(ValueError, match=r"buffer|read|EOF|size"):
            view(damaged.data)
