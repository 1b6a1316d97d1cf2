"""Test accuracy on MNIST with and without momentum: ``python -m bench.accuracy``.

Runs ``fastmom train --data mnist`` for seeds 0 to 4 and prints the table of the README.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from fastmom.cli import main as fastmom

SEEDS = range(5)
MOMENTA = 0.0, 0.9


def epochs(momentum: float, seed: int) -> list[dict[str, Any]]:
    """The figures of one run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.json")
        if fastmom(["train", "--data", "mnist", "--momentum", str(momentum), "--seed", str(seed),
                    "--json", str(file)]):
            raise SystemExit(2)
        result: list[dict[str, Any]] = json.loads(file.read_text())["epochs"]
        return result


def measure() -> list[dict[str, Any]]:
    """For each momentum, every epoch of every seed."""
    return [{"momentum": momentum, "runs": [epochs(momentum, seed) for seed in SEEDS]}
            for momentum in MOMENTA]


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| momentum | seed 0 | mean of seeds 0 to 4 | range | loss of epoch 1 | an epoch |",
             "|---|---|---|---|---|---|"]
    for row in rows:
        runs = row["runs"]
        final = [run[-1]["test_accuracy"] for run in runs]
        first = statistics.mean(run[0]["loss"] for run in runs)
        seconds = statistics.median(e["seconds"] for run in runs for e in run)
        lines.append(f"| {row['momentum']} | {final[0]:.2%} | {statistics.mean(final):.2%} | "
                     f"{min(final):.2%} to {max(final):.2%} | {first:.3f} | {seconds:.2f} s |")
    return "\n".join(lines)


def main() -> None:
    print(table(measure()))


if __name__ == "__main__":
    main()
