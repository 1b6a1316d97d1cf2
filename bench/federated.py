"""Compare a federation's server with Flower's own, on a ResNet-50's arrays.

The strategies take the same replies in turns: from the clients' arrays, as they lie in messages, to
the arrays that are sent next. What Flower's optimizers take is the time of their strategy less that
of its FedAvg; beside it stand the step of ours alone and what makes the message. Ends with status 1
if a whole round gains less than 1.5 times or a step less than 3 times. Needs flwr.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

import fastmom as fm
from bench.results import duration, table
from bench.timing import interleaved
from bench.workloads import resnet50

CLIENTS, ROUNDS = 4, 5
WHOLE, STEP = 1.5, 3.0


def replies(clients: int) -> list[Any]:
    """Return what so many clients answer, of one to so many examples."""
    from flwr.app import MetricRecord, RecordDict
    return [SimpleNamespace(
        has_error=lambda: False, metadata=SimpleNamespace(src_node_id=node),
        content=RecordDict({"arrays": arrays(node),
                            "metrics": MetricRecord({"num-examples": node})}))
        for node in range(1, clients + 1)]


def arrays(seed: int) -> Any:
    from flwr.app import Array, ArrayRecord
    rng = np.random.default_rng(seed)
    return ArrayRecord({str(i): Array(rng.standard_normal(shape, dtype=np.float32))
                        for i, shape in enumerate(resnet50())})


def servers() -> dict[str, Any]:
    """Return Flower's FedAvg, and pairs of its strategies and ours, all with the same arrays."""
    from flwr.serverapp import strategy

    from fastmom.integrations.flower import FedOptimizer
    made = {"FedAvg": strategy.FedAvg(), "FedAvgM": strategy.FedAvgM(server_momentum=0.9),
            "SGD": FedOptimizer(fm.SGD(lr=1.0, momentum=0.9)),
            "FedAdam": strategy.FedAdam(), "Adam": FedOptimizer(fm.Adam(lr=0.1))}
    start = arrays(0)
    made["FedAvgM"].current_arrays = start
    made["FedAdam"].current_arrays = {key: array.numpy() for key, array in start.items()}
    for ours in ("SGD", "Adam"):
        made[ours].bind(start)
    return made


def candidates(made: dict[str, Any], clients: int) -> dict[str, Callable[[], object]]:
    """Return what is timed: whole rounds, and the parts of ours."""
    received = replies(clients)
    found: dict[str, Callable[[], object]] = {
        name: partial(server.aggregate_train, 1, received) for name, server in made.items()}
    for name in ("SGD", "Adam"):
        grads = [np.full_like(p, 1e-3) for p in made[name].params.values()]
        found[f"{name}, step"] = partial(made[name].optimizer.step, grads)
        found[f"{name}, message"] = partial(getattr, made[name], "arrays")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)


def run(args: argparse.Namespace) -> int:
    try:
        made = servers()
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    import logging
    logging.getLogger("flwr").setLevel(logging.ERROR)
    timed = interleaved(candidates(made, args.clients), args.rounds)
    seconds = {name: statistics.median(times) for name, times in timed.items()}
    rows, least = [], []
    for theirs, ours in (("FedAvgM", "SGD"), ("FedAdam", "Adam")):
        own = seconds[theirs] - seconds["FedAvg"]
        parts = [seconds[f"{ours}, step"], seconds[f"{ours}, message"]]
        whole, step = seconds[theirs] / seconds[ours], own / sum(parts)
        least += [whole >= WHOLE, step >= STEP]
        rows += [[f"{theirs}, a round of {args.clients} clients", duration(seconds[theirs]),
                  duration(seconds[ours]), f"{whole:.1f}"],
                 [f"{theirs}, step and message", duration(own), " + ".join(map(duration, parts)),
                  f"{step:.1f}"]]
    print(table(["", "Flower", f"fastmom, {fm.get_num_threads()} threads", "ratio"], rows))
    return int(not all(least))
