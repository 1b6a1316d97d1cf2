"""`DivergenceGuard`: sees a training diverge, brings it back, and says so or gives up."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn
from fastmom.optim.lowering import lower

NAN = float("nan")


def parts(optimizer: Any) -> list[bytes]:
    """Return all bits that steps change."""
    arrays = [p for group in optimizer.param_groups for p in group["params"]]
    arrays += [a for own in optimizer._buffers() for a in own.values()]
    arrays += [a for own in optimizer._engine.state for a in own]
    return [a.tobytes() for a in arrays] + [bytes(str((
        optimizer.iterations, optimizer._engine.steps.tolist())), "ascii")]


def steps(optimizer: Any, n: int, rng: Any) -> None:
    for _ in range(n):
        optimizer.step([rng.standard_normal(p.shape).astype(p.dtype)
                        for group in optimizer.param_groups for p in group["params"]])


KINDS: list[tuple[type[fm.Optimizer], dict[str, Any], Any]] = [
    (fm.SGD, {"momentum": 0.99}, np.float32), (fm.SGD, {}, np.float64),
    (fm.SGD, {"momentum": 0.9}, np.float16), (fm.AdamW, {"state_dtype": "bfloat16"}, np.float32),
    (fm.AdamW, {"state_dtype": "float8"}, np.float32), (fm.AdamW, {"amsgrad": True}, np.float32),
    (fm.SGD, {"momentum": 0.9, "master": False, "rounding": "stochastic"}, np.float16),
    (fm.Adafactor, {}, np.float32), (fm.NovoGrad, {}, np.float32), (fm.Muon, {}, np.float32),
    (fm.AggMo, {}, np.float32), (fm.Rprop, {}, np.float32), (fm.Adadelta, {}, np.float32)]


@pytest.mark.parametrize(("kind", "hyper", "dtype"), KINDS, ids=str)
def test_all_is_restored(kind: Any, hyper: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape).astype(dtype) for shape in ((7, 600), (5,))]
    optimizer = kind(params, **hyper)
    if kind is not fm.Muon and optimizer._options["master"]:
        fm.EMA(params, optimizer=optimizer)
    steps(optimizer, 3, rng)
    moving = np.ones(3)
    guard = fm.DivergenceGuard(optimizer, also=[moving], verbose=0)
    before = parts(optimizer)
    steps(optimizer, 4, rng)
    moving += 1
    assert parts(optimizer) != before
    assert guard.watch(1.0)
    assert not guard.watch(float("inf"))
    assert parts(optimizer) == before
    assert moving.tolist() == [1, 1, 1]
    assert guard.nbytes >= 3 * sum(p.nbytes for p in params)


@pytest.mark.parametrize(("optimizer", "words"), [
    (fm.SGD(momentum=0.99), ["momentum 0.99 → 0.9", "momentum 0.9 → 0", "lr 0.01 → 0.001"]),
    (fm.SGD(momentum=1.0), ["momentum 1 → 0.9"]),
    (fm.SGD(momentum=0.5, lr=1), ["momentum 0.5 → 0, lr 1 → 0.2", "lr 0.2 → 0.02"]),
    (fm.SGD(momentum=0.9, dampening=0.5), ["lr 0.01 → 0.001"]),
    (fm.Adam(), ["beta1 0.9 → 0", "lr 0.001 → 0.0001"]),
    (fm.AggMo(), ["momenta 0, 0.9, 0.99 → 0, 0, 0.9"]),
    (fm.Adagrad(lr=1), ["lr 1 → 0.1"]),
    (fm.SGD([{"params": [np.ones(1)], "momentum": 0.99}, {"params": [np.ones(1)]}], lr=1),
     ["momentum 0.99 → 0.9, lr 1 → 0.1"])], ids=str)
def test_what_is_lowered(optimizer: Any, words: list[str]) -> None:
    assert [lower(optimizer) for _ in words] == words


def loop(guard_options: dict[str, Any], losses: list[float], far: bool = True) -> Any:
    """Watch these losses, with steps that move the parameters far or hardly."""
    w = np.ones(2, np.float32)
    optimizer = fm.SGD([w], lr=1.0, momentum=0.99)
    guard = fm.DivergenceGuard(optimizer, verbose=0, **guard_options)
    for loss in losses:
        optimizer.step([np.full(2, 1.0 if far else 1e-6, np.float32)])
        guard.watch(loss)
    return guard


def test_the_rule() -> None:
    assert [e["text"] for e in loop({}, [1.0] * 9 + [12.0]).events] == [
        "step 10: loss rose from 1 to 2.1; back to the start, momentum 0.99 → 0.9"]
    for options, losses, far in (({}, [1.0] * 9 + [12.0], False), ({}, [1.0] * 50, True),
                                 ({"rise": 2.0}, [1.0] * 9 + [12.0], True),
                                 ({"reach": 1e9}, [1.0] * 9 + [12.0], True),
                                 ({}, [0.0] * 50, True), ({}, [-1.0] * 50, True)):
        assert loop(options, losses, far).events == []
    late = loop({"every": 10}, [1.0] * 35 + [NAN], far=False).events[0]
    assert late["text"] == "step 36: loss became nan; back to step 20, momentum 0.99 → 0.9"
    assert (late["epoch"], late["step"], late["before"], late["loss"]) == (None, 36, 1.0, None)
    assert "crept from 1 to 1.9; back to the start" in loop(
        {"every": 10}, [2.0] * 10 + [1.0] * 10 + [1.9] * 30, far=False).events[0]["text"]


def test_it_gives_up() -> None:
    for retries in (0, 2):
        with pytest.raises(nn.Diverged, match="start with a low momentum and raise it") as error:
            loop({"retries": retries}, ([1.0] * 5 + [NAN]) * 9)
        assert ("after 2 retries" in str(error.value)) == (retries == 2)
    for losses in ([NAN], [1.0, NAN, NAN]):
        with pytest.raises(nn.Diverged, match="look at the data"):
            loop({}, losses)


def test_no_copies_where_nobody_goes_back() -> None:
    w = np.ones(4, np.float32)
    optimizer = fm.SGD([w], lr=1.0)
    guard = fm.DivergenceGuard(optimizer, retries=0)
    assert guard.nbytes == 0
    optimizer.step([np.full(4, -0.9, np.float32)])      # 1.9 times as long: within reach
    for loss in [1.0] + [2.0] * 9:
        assert guard.watch(loss)
    optimizer.step([np.full(4, -0.9, np.float32)])      # 2.8 times
    for _ in range(9):
        assert guard.watch(2.0)
    with pytest.raises(nn.Diverged, match="loss rose from 1 to 2"):
        guard.watch(2.0)
    assert w.tolist() == pytest.approx([2.8] * 4)


def test_parameters_that_are_not_finite() -> None:
    w = np.ones(2, np.float32)
    optimizer = fm.SGD([w], lr=1.0)
    guard = fm.DivergenceGuard(optimizer, every=2, verbose=0)
    optimizer.step([np.full(2, NAN, np.float32)])
    assert guard.watch(1.0)
    assert not guard.watch(1.0)
    assert w.tolist() == [1, 1]


def test_accumulation_and_skipped_steps() -> None:
    w = np.ones(2, np.float32)
    optimizer = fm.SGD([w], lr=1.0, nonfinite="skip")
    assert fm.DivergenceGuard(optimizer).watch(NAN)     # no step was taken
    batches = fm.GradientAccumulation(fm.SGD([w], lr=1.0), 2)
    guard = fm.DivergenceGuard(batches, verbose=0)
    guard.watch(1.0)
    batches.step([np.full(2, NAN, np.float32)])
    assert not guard.watch(NAN)
    assert batches.pending == 0
    assert [batches.step([np.ones(2, np.float32)]) for _ in range(2)] == [False, True]
    assert np.allclose(w, 0.9)                          # lr is a tenth now


def test_ctrl_c_while_restoring(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    optimizer = fm.SGD([np.ones(9), np.ones(9)], momentum=0.9)
    steps(optimizer, 2, rng)
    guard, before = fm.DivergenceGuard(optimizer, verbose=0), parts(optimizer)
    guard.watch(1.0)
    steps(optimizer, 2, rng)
    restore, calls = type(guard._good)._put_back, list[int]()

    def interrupted(self: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            self._live[0][...] = self._held[0]
            raise KeyboardInterrupt
        restore(self)
    monkeypatch.setattr(type(guard._good), "_put_back", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guard.watch(NAN)
    assert parts(optimizer) == before


def test_wrong_arguments() -> None:
    optimizer = fm.SGD([np.ones(2)])
    for options, error, message in (
            ({"every": 0}, ValueError, "every must be"), ({"retries": -1}, ValueError, "retries"),
            ({"rise": 0}, ValueError, "rise must be"), ({"reach": -1}, ValueError, "reach must"),
            ({"verbose": 2}, ValueError, "verbose"), ({"also": [1]}, TypeError, r"also\[0\]")):
        with pytest.raises(error, match=message):
            fm.DivergenceGuard(optimizer, **options)
    with pytest.raises(TypeError, match="optimizer must be an Optimizer"):
        fm.DivergenceGuard("sgd")       # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="has no parameters yet"):
        fm.DivergenceGuard(fm.SGD())
    with pytest.raises(RuntimeError, match="has no optimizer"):
        fm.DivergenceGuard().watch(1.0)
    with pytest.raises(ValueError, match="momentum of SGD must be a number"):
        fm.DivergenceGuard(fm.SGD([np.ones(2)], momentum=fm.schedules.Linear(0, 0.9, 10)))
    old, _ = fm.DivergenceGuard(optimizer), fm.DivergenceGuard(optimizer)
    with pytest.raises(RuntimeError, match="another DivergenceGuard"):
        old.watch(1.0)


# As a callback ------------------------------------------------------------------------------------

def digits_model(seed: int = 0, **hyper: Any) -> tuple[nn.Sequential, Any, Any]:
    (x, y), test = fm.data.load_digits(2000, 500, cache=False)
    model = nn.Sequential([nn.Rescaling(1 / 255, input_shape=(28, 28)), nn.Flatten(),
                           nn.Dense(32, activation="relu"), nn.BatchNorm(),
                           nn.Dense(10, activation="softmax")], seed=seed)
    model.compile("sgd", metrics=["accuracy"], **hyper)
    return model, (x, y), test


class Predicts(nn.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch % 20 == 0:
            self.model.predict(np.zeros((2, 28, 28)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(3))
def test_digits(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for _ in range(2):      # the same bits each time
        model, train, test = digits_model(seed, lr=100.0, momentum=0.99)
        guard = nn.DivergenceGuard(every=20)
        history = model.fit(*train, epochs=6, verbose=0, callbacks=[Predicts(), guard])
        out = capsys.readouterr().out
        assert out.splitlines() == [event["text"] for event in guard.events]
        assert 1 <= len(guard.events) <= 5
        assert np.isfinite(history.history["loss"]).all()
        found.append(model.evaluate(*test, verbose=0))
        assert all(np.isfinite(w).all() for w in model.weights)
    assert found[0] == found[1]
    assert found[0][1] > 0.8


def test_a_good_training_is_left_alone() -> None:
    found = []
    for callbacks in ([], [nn.DivergenceGuard(every=10)]):
        model, train, _ = digits_model(lr=0.05, momentum=0.9)
        model.fit(*train, epochs=3, verbose=0, callbacks=callbacks)
        found.append([w.tobytes() for w in model.weights])
    assert found[0] == found[1]
    assert callbacks[0].events == []
    state = copy.deepcopy(callbacks[0].state_dict())
    callbacks[0].load_state_dict(state)
    with pytest.raises(ValueError, match="events"):
        callbacks[0].load_state_dict({**state, "events": [1]})


def test_two_guards_are_refused() -> None:
    model, train, _ = digits_model()
    with pytest.raises(RuntimeError, match="another DivergenceGuard"):
        model.fit(*train, verbose=0, callbacks=[nn.DivergenceGuard(), nn.DivergenceGuard()])
