"""Federated optimization: fastmom's optimizers as the server of Flower, whose package is flwr.

The strategy is Flower's ``FedAvg`` of the message API (``flwr.serverapp``), but for what becomes of
the clients' parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from logging import WARNING
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.extras import need
from fastmom.kernels.sums import WeightedSum
from fastmom.optim import Optimizer

if not TYPE_CHECKING:
    need("flwr.serverapp.strategy", "flower", "its strategies", "'flwr>=1.22'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import FedAvg

__all__ = ["FedOptimizer"]

NPY = b"\x93NUMPY\x01\x00"      # how a file of NumPy's format 1.0 begins
# Arrays of these kinds are parameters of the optimizer, which keeps them so; others are averaged.
KEPT_AS = {np.dtype(np.float32): np.float32, np.dtype(np.float64): np.float64,
           np.dtype(np.float16): np.float32}


class FedOptimizer(FedAvg):
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
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, not {type(optimizer).__name__}")
        if optimizer._engine is not None:
            raise ValueError("optimizer has parameters already; give one without, such as "
                             "fm.SGD(lr=1.0, momentum=0.9)")
        super().__init__(**arguments)
        self.optimizer = optimizer
        self.params: dict[str, Any] = {}
        self.averaged: dict[str, Any] = {}
        self._sent_as: dict[str, np.dtype[Any]] = {}    # dtypes by key, in the record's order
        self._arrays: ArrayRecord | None = None         # what the server's arrays were last sent as

    def summary(self) -> None:
        """Log the configuration."""
        from logging import INFO
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
        found = {key: view(array) for key, array in arrays.items()}
        if self._sent_as:
            self._check(found, "arrays", ValueError)
            for key, own in self._own():
                own[...] = found[key]
        else:
            for key, a in found.items():
                if a.dtype.kind not in "biufc":
                    raise TypeError(f"arrays: {key!r} is {a.dtype}, which are no numbers")
            params = {key: np.array(a, KEPT_AS[a.dtype], order="C") for key, a in found.items()
                      if a.dtype in KEPT_AS}
            if not params:
                raise ValueError("arrays has no array of float32, float64 or float16 to optimize")
            self.optimizer.bind(list(params.values()))
            self.params = params
            self.averaged = {key: a.copy() for key, a in found.items() if key not in params}
            self._sent_as = {key: a.dtype for key, a in found.items()}
        self._arrays = arrays

    @property
    def arrays(self) -> ArrayRecord:
        """The server's arrays as they are now, to be sent."""
        if not self._sent_as:
            raise RuntimeError("this strategy has no arrays yet: bind them first")
        own = dict(self._own())
        with np.errstate(over="ignore"):        # beyond float16 is infinite
            self._arrays = ArrayRecord({key: record(own[key].astype(dtype, copy=False))
                                        for key, dtype in self._sent_as.items()})
        return self._arrays

    def _own(self) -> Iterator[tuple[str, Any]]:
        yield from self.params.items()
        yield from self.averaged.items()

    def _check(self, found: Mapping[str, Any], of: str, error: type[Exception]) -> None:
        """Raise if these arrays are other than the server's in keys, shapes or dtypes."""
        if found.keys() != self._sent_as.keys():
            odd = sorted(found.keys() ^ self._sent_as.keys())
            raise error(f"{of} must have the keys of the server's arrays; those of one alone: "
                        f"{', '.join(odd)}")
        for key, own in self._own():
            array, dtype = found[key], self._sent_as[key]
            if array.shape != own.shape or array.dtype != dtype:
                raise error(f"{of}: {key!r} is {array.dtype} {array.shape}, expected {dtype} "
                            f"{own.shape} as the server's")

    # The rounds -----------------------------------------------------------------------------------

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord,
                        grid: Grid) -> Iterable[Message]:
        """Take the arrays over, where they are not what the last round led to, and send them."""
        if arrays is not self._arrays:
            self.bind(arrays)
        messages: Iterable[Message] = super().configure_train(server_round, arrays, config, grid)
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message],
                        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Step the server's parameters by the replies."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        if not self._sent_as:
            raise AggregationError("the server has no arrays: configure_train comes first")
        valid = sorted(valid, key=lambda message: message.metadata.src_node_id)
        clients = [self._read(message) for message in valid]
        contents = [message.content for message in valid]
        weights = shares([next(iter(content.metric_records.values()))[self.weighted_by_key]
                          for content in contents])
        metrics = self.train_metrics_aggr_fn(contents, self.weighted_by_key)
        self._step(clients, weights)
        return self.arrays, metrics

    def _read(self, message: Message) -> dict[str, Any]:
        """Return the arrays of a reply, which fit the server's."""
        of = f"reply of node {message.metadata.src_node_id}"
        sent = next(iter(message.content.array_records.values()))
        try:
            found = {key: view(array) for key, array in sent.items()}
        except (TypeError, ValueError) as error:
            raise AggregationError(f"{of}: an array cannot be read: {error}") from error
        self._check(found, of, AggregationError)
        return found

    def _step(self, clients: list[dict[str, Any]], weights: list[float]) -> None:
        keys = list(self.params)
        grads = [WeightedSum([client[key] for client in clients], weights, relative=True)
                 for key in keys]
        try:
            stepped = self.optimizer.step(grads)
        except FloatingPointError as error:
            error.add_note(f"params are, in their order: {', '.join(keys)}")
            raise
        if not stepped:
            log(WARNING, "A value of the replies is not finite: the parameters stay as they are")
            return
        for key, own in self.averaged.items():
            mean = sum(w * client[key] for w, client in zip(weights, clients, strict=True))
            own[...] = mean if own.dtype.kind not in "biu" else np.rint(mean)


def shares(examples: list[Any]) -> list[float]:
    """Return each client's part of all examples."""
    if not all(math.isfinite(n) and n >= 0 for n in examples) or not sum(examples) > 0:
        raise AggregationError(f"the replies' weights are {examples}; they must be finite, >= 0 "
                               f"and not all 0")
    return [n / sum(examples) for n in examples]


# Arrays in messages -------------------------------------------------------------------------------
# Their data are files of NumPy's format. Those that can be are read in place.

def view(array: Array) -> Any:
    """Return the array without copying it, as a rule; it is not to be written."""
    data = array.data
    if array.stype == "numpy.ndarray" and data.startswith(NPY):
        start = len(NPY) + 2 + int.from_bytes(data[len(NPY):len(NPY) + 2], "little")
        shape, dtype = described(data[:start])
        if dtype is not None:
            result = np.frombuffer(data, dtype, int(np.prod(shape)), start).reshape(shape)
            return result if result.flags.aligned else result.copy()
    return np.ascontiguousarray(array.numpy()).reshape(array.shape)


@lru_cache(4096)
def described(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any] | None]:
    """Return shape and dtype by the first bytes of a file; None for one that takes a copy."""
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(BytesIO(header[len(NPY):]))
    simple = dtype.kind in "biuf" and dtype.isnative and not fortran and 0 not in shape
    return shape, dtype if simple else None


@lru_cache(4096)
def header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the first bytes of a file."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype),
                                                "fortran_order": False, "shape": shape})
    return file.getvalue()


def record(array: Any) -> Array:
    """Return a contiguous array for a message, copied once."""
    data = b"".join((header(array.shape, array.dtype), array.reshape(-1).view(np.uint8)))
    return Array(str(array.dtype), array.shape, "numpy.ndarray", data)
