"""Test accuracy on MNIST with and without momentum.

Runs ``fastmom train --data mnist`` for five seeds, and Keras on the same network where it is
installed.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from bench.epoch import setting_of, write_data
from bench.peers import start
from bench.results import Results, table
from fastmom.cli import main as fastmom

SEEDS = range(5)
MOMENTA = 0.0, 0.9
EPOCHS = 5
Epochs = list[dict[str, Any]]       # of one run


def measure(args: Namespace) -> Results:
    """Return every epoch of every seed for each momentum and system."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        for momentum in MOMENTA:
            rows.append({"system": "fastmom", "momentum": momentum,
                         "runs": [ours(momentum, seed) for seed in SEEDS]})
            runs = in_keras(momentum, Path(folder), args)
            if runs:
                rows.append({"system": "Keras", "momentum": momentum, "runs": runs})
    return {"rows": rows}


def ours(momentum: float, seed: int) -> Epochs:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.json")
        if fastmom(["train", "--data", "mnist", "--momentum", str(momentum), "--seed", str(seed),
                    "--json", str(file)]):
            raise SystemExit(2)
        epochs: Epochs = json.loads(file.read_text())["epochs"]
        return epochs


def in_keras(momentum: float, folder: Path, args: Namespace) -> list[Epochs]:
    """Train the same in Keras on JAX with each seed; return nothing where it is missing."""
    settings = [setting_of("article", folder)._replace(momentum=momentum, seed=seed)._asdict()
                for seed in SEEDS]
    worker = start("keras-jax", args, {"KERAS_BACKEND": "jax"}, json.dumps(settings[0]))
    if worker.missing:
        print(f"no Keras: {worker.missing}")
        return []
    runs: list[Epochs] = []
    for setting in settings:
        variant, = worker.ask("again", setting)["variants"]
        runs.append([worker.ask("epoch", variant) for _ in range(EPOCHS)])
        runs[-1][-1]["test_accuracy"] = worker.ask("accuracy", variant)["accuracy"]
    worker.close()
    print(f"Keras, momentum {momentum}, last epochs: "
          f"{', '.join(format(run[-1]['test_accuracy'], '.2%') for run in runs)}", flush=True)
    return runs


def table_of(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        runs = row["runs"]
        final = [run[-1]["test_accuracy"] for run in runs]
        first = statistics.mean(run[0]["loss"] for run in runs)
        seconds = statistics.median(epoch["seconds"] for run in runs for epoch in run)
        lines.append([str(row["momentum"]), row["system"], f"{final[0]:.2%}",
                      f"{statistics.mean(final):.2%}", f"{min(final):.2%} to {max(final):.2%}",
                      f"{first:.3f}", f"{seconds:.2f} s"])
    return table(["momentum", "", "seed 0", f"mean of seeds 0 to {len(SEEDS) - 1}", "range",
                  "loss of epoch 1", "an epoch"], lines)


def chapter(part: Results) -> str:
    return table_of(part["rows"])
