"""What a federation's server holds: its arrays by key, and the optimizer that steps them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastmom.kernels.sums import WeightedSum
from fastmom.optim import Optimizer

# Arrays of these kinds are parameters of the optimizer, which keeps them so; others are averaged.
KEPT_AS = {np.dtype(np.float32): np.float32, np.dtype(np.float64): np.float64,
           np.dtype(np.float16): np.float32}


class Served:
    """The part of a strategy that shows the arrays of its server."""

    _server: Server

    @property
    def params(self) -> dict[str, Any]:
        return self._server.params

    @property
    def averaged(self) -> dict[str, Any]:
        return self._server.averaged


class Server:
    """The server's arrays, and steps of them by those of clients.

    `error` is raised where the arrays of a client do not fit.
    """

    def __init__(self, optimizer: Optimizer, error: type[Exception]) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, not {type(optimizer).__name__}")
        if optimizer._engine is not None:
            raise ValueError("optimizer has parameters already; give one without, such as "
                             "fm.SGD(lr=1.0, momentum=0.9)")
        self.optimizer, self.error = optimizer, error
        self.params: dict[str, Any] = {}
        self.averaged: dict[str, Any] = {}
        self.sent_as: dict[str, np.dtype[Any]] = {}     # dtypes by key, in the order of messages

    def bind(self, found: Mapping[str, Any]) -> None:
        """Take these arrays, the first time as the optimizer's parameters."""
        if self.sent_as:
            self.check(found, "arrays", ValueError)
            for key, own in self.own():
                own[...] = found[key]
            return
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
        self.sent_as = {key: a.dtype for key, a in found.items()}

    def own(self) -> Iterator[tuple[str, Any]]:
        """Yield all arrays by key, in no order."""
        yield from self.params.items()
        yield from self.averaged.items()

    def to_send(self) -> dict[str, Any]:
        """Return all arrays of the dtypes and in the order that they came in."""
        own = dict(self.own())
        with np.errstate(over="ignore"):        # beyond float16 is infinite
            return {key: own[key].astype(dtype, copy=False) for key, dtype in self.sent_as.items()}

    def check(self, found: Mapping[str, Any], of: str,
              error: type[Exception] | None = None) -> None:
        """Raise if these arrays are other than the server's in keys, shapes or dtypes."""
        error = error or self.error
        if found.keys() != self.sent_as.keys():
            odd = sorted(found.keys() ^ self.sent_as.keys())
            raise error(f"{of} must have the keys of the server's arrays; those of one alone: "
                        f"{', '.join(odd)}")
        for key, own in self.own():
            array, dtype = found[key], self.sent_as[key]
            if array.shape != own.shape or array.dtype != dtype:
                raise error(f"{of}: {key!r} is {array.dtype} {array.shape}, expected {dtype} "
                            f"{own.shape} as the server's")

    def shares(self, examples: Sequence[Any]) -> list[float]:
        """Return each client's part of all examples."""
        if not all(math.isfinite(n) and n >= 0 for n in examples) or not sum(examples) > 0:
            raise self.error(f"the replies' weights are {examples}; they must be finite, >= 0 and "
                             f"not all 0")
        return [n / sum(examples) for n in examples]

    def step(self, clients: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> bool:
        """Step by clients' arrays that were checked; False if a value is not finite and skipped."""
        grads = [WeightedSum([client[key] for client in clients], weights, relative=True)
                 for key in self.params]
        try:
            if not self.optimizer.step(grads):
                return False
        except FloatingPointError as error:
            error.add_note(f"params are, in their order: {', '.join(self.params)}")
            raise
        for key, own in self.averaged.items():
            mean = sum(w * client[key] for w, client in zip(weights, clients, strict=True))
            own[...] = mean if own.dtype.kind not in "biu" else np.rint(mean)
        return True
