"""Federated optimization: fastmom's optimizers as the server of Flower, whose package is flwr.

The strategy is Flower's ``FedAvg`` of the message API (``flwr.serverapp``), but for what becomes of
the clients' parameters. `legacy` has the same for the API before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any

from fastmom.extras import need
from fastmom.integrations.flower.files import view, written
from fastmom.integrations.flower.server import Served, Server
from fastmom.optim import Optimizer

if not TYPE_CHECKING:
    need("flwr.serverapp.strategy", "flower", "its strategies", "'flwr>=1.22'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import FedAvg

__all__ = ["FedOptimizer"]


class FedOptimizer(Served, FedAvg):
    r"""Steps the server's parameters with any optimizer, by the clients' weighted mean.

    The gradient is the server's parameters minus the mean of the clients', weighted as in
    ``FedAvg`` [1]_. So ``fm.SGD(lr=1)`` is ``FedAvg`` itself, with ``momentum=0.9`` it is
    ``FedAvgM`` [2]_; ``fm.Adagrad``, ``fm.Adam`` and ``fm.Yogi`` make ``FedAdagrad``, ``FedAdam``
    and ``FedYogi``, and ``nesterov=True`` or any other optimizer what Flower has no name for.

    Parameters
    ----------
    optimizer : Optimizer
        Without parameters: it takes the server's at the first round. Its clipping and its policy
        for non-finite values see the gradient above.
    **arguments
        As of Flower's ``FedAvg``.

    Attributes
    ----------
    optimizer : Optimizer
    params : dict of ndarray
        The server's parameters, which the optimizer steps, by their keys; empty until the first
        round or `bind`.
    averaged : dict of ndarray
        The arrays that are no floating-point numbers, such as counters: they become the weighted
        mean, rounded.

    Raises
    ------
    TypeError, ValueError
        If `optimizer` is not an Optimizer or has parameters already.

    Notes
    -----
    The clients' arrays are neither copied nor averaged apart: they are read where they lie in the
    replies, by `fastmom.WeightedSum`, in one pass with the optimizer's step. They are matched by
    key, and added in the order of the nodes' ids, whoever answers first.

    float16 arrays are kept in float32 on the server and sent in float16.

    Flower's ``FedAdam`` corrects its means as if it were a round older, and adds `tau` before the
    correction: in round t it is ``fm.Adam(beta1=b1, beta2=b2)`` with ``lr = eta c(t + 1) / c(t)``,
    where ``c(t) = sqrt(1 - b2**t) / (1 - b1**t)``, and ``eps = tau / sqrt(1 - b2**t)``. Its
    ``FedYogi`` does not correct at all: ``lr = eta / c(t)``, the same `eps`, and
    ``initial_accumulator=0``. Schedules can say so; they are given ``t - 1``.

    To go on after an interruption, `bind` the same arrays, load the checkpoint, and start from
    `arrays`.

    References
    ----------
    .. [1] S. Reddi et al., "Adaptive federated optimization", 2021.
    .. [2] T.-M. H. Hsu et al., "Measuring the effects of non-identical data distribution for
       federated visual classification", 2019.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> from flwr.app import Array, ArrayRecord
    >>> strategy = FedOptimizer(fm.SGD(lr=1.0, momentum=0.9, nesterov=True), fraction_train=0.5)
    >>> strategy.bind(ArrayRecord({"w": Array(np.zeros(3, np.float32))}))
    >>> strategy.params
    {'w': array([0., 0., 0.], dtype=float32)}

    In a ServerApp, ``strategy.start(grid, initial_arrays, num_rounds=3)`` does all. A checkpoint
    holds what is needed to go on::

        fm.checkpoint.save("round.npz", params={**strategy.params, **strategy.averaged},
                           optimizer=strategy.optimizer)

        strategy.bind(initial_arrays)
        fm.checkpoint.load("round.npz", params={**strategy.params, **strategy.averaged},
                           optimizer=strategy.optimizer)
        strategy.start(grid, strategy.arrays, num_rounds=3)
    """

    def __init__(self, optimizer: Optimizer, **arguments: Any) -> None:
        self._server = Server(optimizer, AggregationError)
        super().__init__(**arguments)
        self.optimizer = optimizer
        self._sent: dict[str, bytes] = {}       # what the server's arrays were last sent as

    def summary(self) -> None:
        """Log the configuration."""
        log(INFO, "\t├──> Server optimizer: %r", self.optimizer)
        super().summary()

    # The server's arrays --------------------------------------------------------------------------

    def bind(self, arrays: ArrayRecord) -> None:
        """Take these arrays for the server's, and the optimizer's state to be of these.

        Parameters
        ----------
        arrays : ArrayRecord
            The first time, the optimizer takes copies of them for its parameters. After that only
            their values are taken over.

        Raises
        ------
        TypeError, ValueError
            If no array holds floating-point numbers, or their keys, shapes or dtypes are other than
            the first time. Nothing has changed then.
        """
        self._server.bind(read(arrays))
        self._sent = {key: array.data for key, array in arrays.items()}

    @property
    def arrays(self) -> ArrayRecord:
        """The server's arrays as they are now, to be sent."""
        if not self._server.sent_as:
            raise RuntimeError("this strategy has no arrays yet: bind them first")
        arrays = ArrayRecord({key: record(a) for key, a in self._server.to_send().items()})
        self._sent = {key: array.data for key, array in arrays.items()}
        return arrays

    # The rounds -----------------------------------------------------------------------------------

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord,
                        grid: Grid) -> Iterable[Message]:
        """Take the arrays over, where they are not what the last round led to, and send them."""
        if arrays.keys() != self._sent.keys() or any(array.data is not self._sent[key]
                                                     for key, array in arrays.items()):
            self.bind(arrays)
        messages: Iterable[Message] = super().configure_train(server_round, arrays, config, grid)
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message],
                        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Step the server's parameters by the replies."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        if not self._server.sent_as:
            raise AggregationError("the server has no arrays: configure_train comes first")
        valid = sorted(valid, key=lambda message: message.metadata.src_node_id)
        clients = [self._read(message) for message in valid]
        contents = [message.content for message in valid]
        weights = self._server.shares([
            next(iter(content.metric_records.values()))[self.weighted_by_key]
            for content in contents])
        metrics = self.train_metrics_aggr_fn(contents, self.weighted_by_key)
        if not self._server.step(clients, weights):
            log(WARNING, "A value of the replies is not finite: the parameters stay as they are")
        return self.arrays, metrics

    def _read(self, message: Message) -> dict[str, Any]:
        """Return the arrays of a reply, which fit the server's."""
        of = f"reply of node {message.metadata.src_node_id}"
        sent = next(iter(message.content.array_records.values()))
        try:
            found = read(sent)
        except (TypeError, ValueError) as error:
            raise AggregationError(f"{of}: an array cannot be read: {error}") from error
        self._server.check(found, of)
        return found


def read(arrays: ArrayRecord) -> dict[str, Any]:
    """Return the arrays of a message."""
    for key, array in arrays.items():
        if array.stype != "numpy.ndarray":
            raise TypeError(f"{key!r} is serialized as {array.stype}, expected numpy.ndarray")
    return {key: view(array.data) for key, array in arrays.items()}


def record(array: Any) -> Array:
    """Return a contiguous array for a message."""
    return Array(str(array.dtype), array.shape, "numpy.ndarray", written(array))
