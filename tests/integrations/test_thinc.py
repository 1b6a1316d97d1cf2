"""fastmom behind thinc's interface: beside thinc's own optimizers, and in its own tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

thinc = pytest.importorskip("thinc.api")
if not pytest.importorskip("thinc.about").__version__.startswith("8."):
    pytest.skip("needs thinc 8", allow_module_level=True)
import thinc.tests.test_optimizers as of_thinc  # noqa: E402

from fastmom.integrations.thinc import Optimizer  # noqa: E402
from fastmom.optim import OPTIMIZERS  # noqa: E402

of_thinc.Optimizer = Optimizer
from thinc.tests.test_optimizers import *  # noqa: E402, F403

SHAPES = [(30, 20), (7,), (2, 3, 4)]


def train(optimizer: Any, steps: int = 20, dtype: Any = np.float32, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    for _ in range(steps):
        for i, w in enumerate(weights):
            gradient = rng.standard_normal(w.shape).astype(dtype)
            out, zeros = optimizer((i, "W"), w, gradient, **options)
            assert np.shares_memory(out, w)
            assert np.shares_memory(zeros, gradient)
            assert not gradient.any()
        optimizer.step_schedules()
    return weights


def halving() -> Iterator[float]:
    rate = 0.1
    while True:
        yield rate
        rate /= 2


# Arguments, and how far the order of update and decay leaves them apart; so would a larger eps
CASES: dict[str, tuple[Any, dict[str, Any], float]] = {
    "sgd": (thinc.SGD, {"learn_rate": 0.1}, 1e-6),
    "sgd, decay": (thinc.SGD, {"learn_rate": 0.1, "L2": 0.01}, 2e-2),
    "sgd, L2": (thinc.SGD, {"learn_rate": 0.1, "L2": 0.01, "L2_is_weight_decay": False,
                            "grad_clip": 0.0}, 1e-5),
    "sgd, not clipped": (thinc.SGD, {"learn_rate": 0.1, "grad_clip": 0.0}, 1e-5),
    "sgd, no averages": (thinc.SGD, {"learn_rate": 0.1, "use_averages": False}, 1e-6),
    "adam": (thinc.Adam, {"learn_rate": 0.01, "eps": 1e-12}, 1e-5),
    "adam, betas": (thinc.Adam, {"learn_rate": 0.01, "beta1": 0.5, "beta2": 0.9,
                                  "eps": 1e-12}, 1e-5)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("options", [{}, {"lr_scale": 0.5}], ids=str)
def test_like_thinc(name: str, options: dict[str, Any]) -> None:
    make, arguments, tolerance = CASES[name]
    theirs = make(**arguments)
    given = arguments if name.startswith("adam") else arguments | {"beta1": 0.0, "beta2": 0.0}
    ours = Optimizer(**given)
    for a, b in zip(train(theirs, **options), train(ours, **options), strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)
    assert dict(ours.nr_update) == dict(theirs.nr_update)
    assert (ours.averages is None) == (theirs.averages is None)
    for key in theirs.averages or ():
        np.testing.assert_allclose(ours.averages[key], theirs.averages[key], rtol=1e-2, atol=1e-3)


def test_schedules() -> None:
    pair = [kind(learn_rate=halving(), beta1=0.0, beta2=0.0) for kind in (thinc.Optimizer,
                                                                          Optimizer)]
    for a, b in zip(*map(train, pair), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), [
    ("YellowFin", {}), ("SGD", {"momentum": 0.9, "restart": True})])
def test_what_needs_all_gradients_together_is_refused(name: str, arguments: Any) -> None:
    config = {"@optimizers": f"fastmom.{name}.v1", "learn_rate": 0.03, **arguments}
    with pytest.raises(Exception, match=f"{name} needs the gradients of all parameters together"):
        thinc.registry.resolve({"it": config})


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"yellowfin"}))
def test_every_optimizer_from_a_config(name: str) -> None:
    config = {"@optimizers": f"fastmom.{OPTIMIZERS[name].__name__}.v1", "learn_rate": 0.03}
    optimizer = thinc.registry.resolve({"it": config})["it"]
    assert isinstance(optimizer, thinc.Optimizer)
    assert optimizer.learn_rate == 0.03
    kind: Any = OPTIMIZERS[name]
    params = train(thinc.SGD(0.0, use_averages=False), 0)
    own = kind(params, lr=0.03, clip_norm_per_tensor=None if name == "rprop" else 1.0)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        rng.standard_normal(shape)
    for _ in range(20):
        own.step([rng.standard_normal(p.shape).astype(np.float32) for p in params])
    for a, b in zip(params, train(optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_hyper_parameters_from_a_config() -> None:
    config = {"@optimizers": "fastmom.SGD.v1", "learn_rate": {"@schedules": "constant.v1",
                                                              "rate": 0.1},
              "momentum": 0.9, "nesterov": True, "use_averages": False}
    optimizer = thinc.registry.resolve({"it": config})["it"]
    train(optimizer, 1)
    assert repr(optimizer._own[0, "W"].optimizer).startswith("SGD(lr=0.1, momentum=0.9")
    for wrong in ({"momentun": 0.9}, {"beta1": 0.9}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            thinc.registry.resolve({"it": {**config, **wrong}})


def test_replaced_weights_go_on() -> None:
    one, other = (Optimizer(0.1, optimizer="sgd", momentum=0.9) for _ in range(2))
    a, b, gradient = np.ones(3), np.ones(3), np.arange(3.0)
    for _ in range(5):
        b = b.copy()
        one((0, "W"), a, gradient.copy())
        other((0, "W"), b, gradient.copy())
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(one.averages[0, "W"], other.averages[0, "W"])


def test_bytes() -> None:
    whole, first = (Optimizer(0.01) for _ in range(2))
    rng = np.random.default_rng(3)
    a, gradients = np.ones((4, 5)), rng.standard_normal((6, 4, 5))
    b = a.copy()
    for g in gradients:
        whole((0, "W"), a, g.copy())
    for g in gradients[:3]:
        first((0, "W"), b, g.copy())
    second = Optimizer(0.01).from_bytes(Optimizer(0.01).from_bytes(first.to_bytes()).to_bytes())
    for g in gradients[3:]:
        second((0, "W"), b, g.copy())
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(whole.averages[0, "W"], second.averages[0, "W"])
    data = first.to_bytes()
    for damaged in (b"", data[:50], data[:-30], b"x" + data[1:]):
        with pytest.raises(ValueError, match="data hold no state"):
            second.from_bytes(damaged)
    with pytest.raises(ValueError, match="data are the state of Adam, not of SGD"):
        Optimizer(0.1, optimizer="sgd").from_bytes(data)
    assert second.nr_update[0, "W"] == 6


@pytest.mark.parametrize(("arguments", "message"), [
    ({"optimizer": "adamm"}, "optimizer"), ({"momentum": 0.9}, "momentum"),
    ({"learn_rate": -1.0}, "lr"), ({"beta1": 1.5}, "beta1"), ({"grad_clip": -1.0}, "clip_norm"),
    ({"use_averages": 1}, "use_averages"), ({"optimizer": "rprop", "L2": 0.1}, "L2")], ids=str)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Optimizer(**{"learn_rate": 0.1} | arguments)


def test_wrong_gradients_change_nothing() -> None:
    optimizer, weights = Optimizer(0.1), np.ones(3)
    optimizer((0, "W"), weights, np.ones(3))
    before = weights.copy()
    for gradient in (np.ones(4), np.ones(3, np.int64), np.ones(6)[::2]):
        with pytest.raises((TypeError, ValueError), match=r"grads\[0\]"):
            optimizer((0, "W"), weights, gradient)
    with pytest.raises(ValueError, match="lr_scale"):
        optimizer((0, "W"), weights, np.ones(3), lr_scale=-1.0)
    np.testing.assert_array_equal(weights, before)
