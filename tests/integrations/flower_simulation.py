"""Print the losses of Flower's own strategies and of ours as JSON, from Flower's simulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp, strategy
from flwr.simulation import run_simulation

import fastmom as fm
from fastmom.integrations.flower import FedOptimizer

NODES, ROUNDS = 3, 4
ALL = {f"min_{what}_nodes": NODES for what in ("train", "evaluate", "available")}
client = ClientApp()


def answer(message: Message, context: Context, steps: int) -> Message:
    """Take steps of linear regression on this node's examples; without any only tell the loss."""
    node = int(context.node_config["partition-id"])
    x = np.random.default_rng(node).standard_normal((10 * (node + 1), 4)).astype(np.float32)
    y = x @ np.array([1, -2, 3, 0.5], np.float32)
    w = message.content["arrays"]["w"].numpy().copy()
    for _ in range(steps):
        w -= np.float32(0.05 / len(x)) * x.T @ (x @ w - y)
    content: dict[str, Any] = {"metrics": MetricRecord({
        "num-examples": len(x), "loss": float(np.mean((x @ w - y) ** 2))})}
    if steps:
        content["arrays"] = ArrayRecord({"w": Array(w)})
    return Message(RecordDict(content), reply_to=message)


@client.train()         # type: ignore[untyped-decorator]
def train(message: Message, context: Context) -> Message:
    return answer(message, context, 5)


@client.evaluate()      # type: ignore[untyped-decorator]
def evaluate(message: Message, context: Context) -> Message:
    return answer(message, context, 0)


def share(b: float, t: int) -> float:
    return float(1 - b ** t)


STRATEGIES: dict[str, Callable[[], Any]] = {
    "FedAvgM": lambda: strategy.FedAvgM(server_learning_rate=0.5, server_momentum=0.7, **ALL),
    "SGD": lambda: FedOptimizer(fm.SGD(lr=0.5, momentum=0.7), **ALL),
    "FedAdam": lambda: strategy.FedAdam(eta=0.3, tau=0.01, beta_1=0.8, beta_2=0.9, **ALL),
    "Adam": lambda: FedOptimizer(fm.Adam(
        lr=lambda t: 0.3 * (share(0.9, t + 2) / share(0.9, t + 1)) ** 0.5
        * share(0.8, t + 1) / share(0.8, t + 2),
        eps=lambda t: 0.01 / share(0.9, t + 1) ** 0.5, beta1=0.8, beta2=0.9), **ALL),
}


def losses(make: Callable[[], Any]) -> list[float]:
    app, found = ServerApp(), []

    @app.main()         # type: ignore[untyped-decorator]
    def main(grid: Grid, context: Context) -> None:
        initial = ArrayRecord({"w": Array(np.zeros(4, np.float32))})
        result = make().start(grid, initial, num_rounds=ROUNDS)
        found.extend([result.evaluate_metrics_clientapp[r + 1]["loss"] for r in range(ROUNDS)])

    run_simulation(app, client, num_supernodes=NODES)
    return found


if __name__ == "__main__":
    print(json.dumps({name: losses(make) for name, make in STRATEGIES.items()}))
