"""The same server for Flower's older API, whose strategies are in ``flwr.server.strategy``."""

from __future__ import annotations

from logging import WARNING
from typing import Any

from flwr.common import FitIns, FitRes, Parameters, Scalar
from flwr.common.logger import log
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from fastmom.integrations.flower.files import view, written
from fastmom.integrations.flower.server import Served, Server
from fastmom.optim import Optimizer

__all__ = ["FedOptimizer"]


class FedOptimizer(Served, FedAvg):
    """Steps the server's parameters with any optimizer, by the clients' weighted mean.

    As `fastmom.integrations.flower.FedOptimizer`, but arrays have no keys: their places are the
    keys of `params` and `averaged`.

    Parameters
    ----------
    optimizer : Optimizer
        Without parameters.
    **arguments
        As of Flower's ``FedAvg`` of ``flwr.server.strategy``.

    Attributes
    ----------
    optimizer : Optimizer
    params, averaged : dict of ndarray
        By ``"0"``, ``"1"``, and so on.

    Raises
    ------
    TypeError, ValueError
        If `optimizer` is not an Optimizer or has parameters already.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> from flwr.common import ndarrays_to_parameters
    >>> start = ndarrays_to_parameters([np.zeros(3, np.float32)])
    >>> strategy = FedOptimizer(fm.SGD(lr=1.0, momentum=0.9), initial_parameters=start)
    >>> strategy.bind(start)
    >>> strategy.params
    {'0': array([0., 0., 0.], dtype=float32)}
    """

    def __init__(self, optimizer: Optimizer, **arguments: Any) -> None:
        self._server = Server(optimizer, ValueError)
        super().__init__(**arguments)
        self.optimizer = optimizer
        self._sent: list[bytes] = []    # what the server's arrays were last sent as

    def __repr__(self) -> str:
        return f"FedOptimizer({self.optimizer!r}, accept_failures={self.accept_failures})"

    def bind(self, parameters: Parameters) -> None:
        """Take these arrays for the server's: see `fastmom.integrations.flower.FedOptimizer.bind`.

        Raises
        ------
        TypeError, ValueError
            If no array holds floating-point numbers, or they are others than the first time.
        """
        self._server.bind(read(parameters))
        self._sent = list(parameters.tensors)

    @property
    def parameters(self) -> Parameters:
        """The server's arrays as they are now, to be sent."""
        if not self._server.sent_as:
            raise RuntimeError("this strategy has no parameters yet: bind them first")
        self._sent = [written(array) for array in self._server.to_send().values()]
        return Parameters(list(self._sent), "numpy.ndarray")

    def configure_fit(self, server_round: int, parameters: Parameters,
                      client_manager: ClientManager) -> list[tuple[ClientProxy, FitIns]]:
        """Take the arrays over, where they are not what the last round led to, and send them."""
        if list(map(id, parameters.tensors)) != list(map(id, self._sent)):
            self.bind(parameters)
        found: list[tuple[ClientProxy, FitIns]] = super().configure_fit(server_round, parameters,
                                                                        client_manager)
        return found

    def aggregate_fit(self, server_round: int, results: list[tuple[ClientProxy, FitRes]],
                      failures: list[Any]) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Step the server's parameters by the results."""
        if not results or (failures and not self.accept_failures):
            return None, {}
        if not self._server.sent_as:
            raise RuntimeError("the server has no arrays: configure_fit comes first")
        results = sorted(results, key=lambda result: result[0].cid)
        clients = [read(result.parameters) for _, result in results]
        for (client, _), found in zip(results, clients, strict=True):
            self._server.check(found, f"result of client {client.cid}")
        weights = self._server.shares([result.num_examples for _, result in results])
        metrics: dict[str, Scalar] = {}
        if self.fit_metrics_aggregation_fn:
            metrics = self.fit_metrics_aggregation_fn([(result.num_examples, result.metrics)
                                                       for _, result in results])
        if not self._server.step(clients, weights):
            log(WARNING, "A value of the results is not finite: the parameters stay as they are")
        return self.parameters, metrics


def read(parameters: Parameters) -> dict[str, Any]:
    """Return the arrays of a message by their places."""
    if parameters.tensor_type != "numpy.ndarray":
        raise ValueError(f"parameters are {parameters.tensor_type}, expected numpy.ndarray")
    return {str(i): view(data) for i, data in enumerate(parameters.tensors)}
