"""Test accuracy on MNIST with and without momentum: ``python -m bench.accuracy``.

Runs ``fastmom train --data mnist`` for seeds 0 to 4, and Keras on the same network where it is
installed (``--python keras=/path/to/python``), and prints the table of the README.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench import epoch
from bench.timing import Worker
from fastmom.cli import main as fastmom

SEEDS = range(5)
MOMENTA = 0.0, 0.9
EPOCHS = 5


Epochs = list[dict[str, Any]]


def ours(momentum: float, seed: int) -> Epochs:
    """The figures of one run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.json")
        if fastmom(["train", "--data", "mnist", "--momentum", str(momentum), "--seed", str(seed),
                    "--json", str(file)]):
            raise SystemExit(2)
        result: Epochs = json.loads(file.read_text())["epochs"]
        return result


def in_keras(momentum: float, seed: int, folder: Path, args: argparse.Namespace) -> Epochs:
    """The same in Keras on TensorFlow; nothing where it is missing."""
    setting = epoch.setting_of("article", folder)._replace(momentum=momentum, seed=seed)
    worker = Worker(epoch.command("keras-tensorflow", json.dumps(setting._asdict()), args),
                    epoch.ROOT, epoch.TENSORFLOW | epoch.ONE_TF_THREAD)
    if worker.missing:
        print(f"no Keras: {worker.missing}")
        return []
    variant, = worker.variants
    run: Epochs = [worker.ask("epoch", variant) for _ in range(EPOCHS)]
    run[-1]["test_accuracy"] = worker.ask("accuracy", variant)["accuracy"]
    worker.close()
    print(f"Keras, momentum {momentum}, seed {seed}: {run[-1]['test_accuracy']:.2%}", flush=True)
    return run


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """For each momentum and system, every epoch of every seed."""
    with tempfile.TemporaryDirectory() as name:
        epoch.write_data(Path(name))
        rows = []
        for momentum in MOMENTA:
            rows.append({"system": "fastmom", "momentum": momentum,
                         "runs": [ours(momentum, seed) for seed in SEEDS]})
            runs = [in_keras(momentum, seed, Path(name), args) for seed in SEEDS]
            if all(runs):
                rows.append({"system": "Keras", "momentum": momentum, "runs": runs})
        return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| momentum | | seed 0 | mean of seeds 0 to 4 | range | loss of epoch 1 | an epoch |",
             "|---|---|---|---|---|---|---|"]
    for row in rows:
        runs = row["runs"]
        final = [run[-1]["test_accuracy"] for run in runs]
        first = statistics.mean(run[0]["loss"] for run in runs)
        seconds = statistics.median(e["seconds"] for run in runs for e in run)
        lines.append(f"| {row['momentum']} | {row['system']} | {final[0]:.2%} | "
                     f"{statistics.mean(final):.2%} | {min(final):.2%} to {max(final):.2%} | "
                     f"{first:.3f} | {seconds:.2f} s |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=epoch.pair, action="append", default=[],
                        metavar="keras=PATH", help="its interpreter (default: this one)")
    args = parser.parse_args()
    args.python = dict(args.python)
    print(table(measure(args)))


if __name__ == "__main__":
    main()
