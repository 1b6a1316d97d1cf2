"""fastmom's optimizers as the server of federations that use Flower's older API."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr.serverapp.strategy")

from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import strategy

import fastmom as fm
from fastmom.integrations.flower.legacy import FedOptimizer

logging.getLogger("flwr").setLevel(logging.ERROR)

F = np.float32
START = [np.ones((3, 2), F), np.zeros(3)]
MANAGER: Any = SimpleNamespace(num_available=lambda: 3,
                               sample=lambda num_clients, min_num_clients: [*"abc"])


def answers(parameters: Any, change: Any = lambda arrays: arrays) -> list[Any]:
    """What three clients send back, of other targets and numbers of examples."""
    found = []
    for i, cid in enumerate("bca"):
        arrays = [a - (a - a.dtype.type(i)) / 4 for a in parameters_to_ndarrays(parameters)]
        found.append((SimpleNamespace(cid=cid), FitRes(
            Status(Code.OK, ""), ndarrays_to_parameters(change(arrays)), 10 + i, {"loss": i})))
    return found


def trained(server: Any, rounds: int = 5) -> list[Any]:
    parameters = ndarrays_to_parameters(START)
    for r in range(1, rounds + 1):
        server.configure_fit(r, parameters, MANAGER)
        parameters, metrics = server.aggregate_fit(r, answers(parameters), [])
        assert metrics == {"loss": 3}
    return parameters_to_ndarrays(parameters)


def total(metrics: list[Any]) -> dict[str, Any]:
    return {"loss": sum(own["loss"] for _, own in metrics)}


def test_like_flowers_own() -> None:
    start = ndarrays_to_parameters(START)
    theirs = strategy.FedAvgM(server_learning_rate=0.5, server_momentum=0.7,
                              initial_parameters=start, fit_metrics_aggregation_fn=total)
    ours = FedOptimizer(fm.SGD(lr=0.5, momentum=0.7), initial_parameters=start,
                        fit_metrics_aggregation_fn=total)
    assert ours.initialize_parameters(MANAGER) is start
    for a, b, before in zip(trained(ours), trained(theirs), START, strict=True):
        assert (a.dtype, a.shape) == (before.dtype, before.shape)
        assert (a != before).any()
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_changes_nothing() -> None:
    server = FedOptimizer(fm.SGD(lr=1.0), accept_failures=False)
    start = ndarrays_to_parameters(START)
    with pytest.raises(RuntimeError, match="configure_fit comes first"):
        server.aggregate_fit(1, answers(start), [])
    server.configure_fit(1, start, MANAGER)
    assert server.aggregate_fit(1, [], []) == (None, {})
    assert server.aggregate_fit(1, answers(start), [RuntimeError()]) == (None, {})
    for change, message in ((lambda arrays: arrays[:1], "client a must have the keys"),
                            (lambda arrays: [arrays[0].T, arrays[1]], "client a: '0' is float32"),
                            (lambda arrays: [arrays[0], arrays[1].astype(F)], "'1' is float32")):
        with pytest.raises(ValueError, match=message):
            server.aggregate_fit(1, answers(start, change), [])
    for array, before in zip(server.params.values(), START, strict=True):
        np.testing.assert_array_equal(array, before)


def test_going_on() -> None:
    kwargs: dict[str, Any] = {"fit_metrics_aggregation_fn": total}
    first, second = (FedOptimizer(fm.Adam(lr=0.1), **kwargs) for _ in range(2))
    wanted = trained(FedOptimizer(fm.Adam(lr=0.1), **kwargs), 4)
    trained(first, 2)
    second.bind(first.parameters)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    parameters = second.parameters
    for r in (3, 4):
        second.configure_fit(r, parameters, MANAGER)
        parameters, _ = second.aggregate_fit(r, answers(parameters), [])
    for a, b in zip(parameters_to_ndarrays(parameters), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
