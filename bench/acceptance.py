"""Targets and what was measured: ``python -m bench.acceptance [results.json]``.

The figures are those of `bench.engine`, `bench.optimizers` and `bench.epoch`, which name the
targets, as `bench.peers` stored them: ``python -m bench.peers --output DIR --sections engine
optimizers epoch`` measures them and prints this table.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from bench import optimizers, results as stored
from bench.engine import Row
from bench.results import Results

RESULTS = Path(__file__).with_name("results") / "results.json"


def engine_rows(results: Results) -> list[Row]:
    rows = results.get("engine", {}).get("rows", [])
    return [Row(**row | {"target": math.nan if row["target"] is None else row["target"]})
            for row in rows]


def optimizer_rows(results: Results) -> list[Row]:
    rows = results.get("optimizers", {}).get("rows", [])
    return [row for r in rows
            for row in optimizers.rows_of(r["optimizer"], r["workload"], r["seconds"])]


def epoch_rows(results: Results) -> list[Row]:
    """The fastest variant of each system that has a target."""
    rows = []
    for model, content in results.get("epoch", {}).get("models", {}).items():
        ours = fastest(content["rows"]).get("fastmom")
        rows += [Row(f"epoch, {model}: {row['system']}", ours["seconds"], row["seconds"],
                     row["target"]) for row in content["rows"] if ours and "target" in row]
    return rows


def fastest(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of the rows of an epoch, one for each system, the fastest first."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted((row for row in rows if "min" in row), key=lambda row: row["min"]):
        best.setdefault(row["system"], row)
    return best


def rows_with_targets(results: Results) -> list[Row]:
    return [row for rows in (engine_rows, optimizer_rows, epoch_rows) for row in rows(results)
            if row.met is not None]


def summary(rows: list[Row]) -> str:
    return f"{sum(bool(row.met) for row in rows)} of {len(rows)} targets are met"


def print_table(results: Results) -> None:
    print(f"\n{'':58} {'fastmom':>12} {'peer':>12} {'ratio':>7} {'target':>11}  met")
    rows = rows_with_targets(results)
    print(*rows, summary(rows), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    print_table(stored.load(parser.parse_args().results))


if __name__ == "__main__":
    main()
