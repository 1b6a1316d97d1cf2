"""Do two runs agree? ``python -m bench.agree A.json B.json``, of `bench.peers`.

For each figure that both files have: its value in both, B's over A's, and whether the ranges that
the reports state overlap. A figure is the ratio of a peer's minimum to fastmom's, and its range
reaches over the ratios of single rounds; that of a bandwidth, whose value is the best round's,
reaches down to the worst's. Ends with status 1 if less than 90% agree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from bench import results as results as stored
from bench.acceptance import fastest
from bench.results import Ratio, Results, figure, ratio
from bench.tables import plural, size, title_of

ENOUGH = 0.9        # of the figures


def figures(results: Results) -> dict[str, Ratio]:
    """All that a report states with a spread, by name."""
    found: dict[str, Ratio] = {}
    for row in results.get("steps", {}).get("rows", []):
        found |= peers(title_of(row), row.get("seconds", {}))
    for row in results.get("optimizers", {}).get("rows", []):
        found |= peers(f"{row['optimizer']}, {row['workload']}", row["seconds"])
    for model, content in results.get("epoch", {}).get("models", {}).items():
        best = fastest(content["rows"])
        found |= peers(f"epoch, {model}", {name: row["seconds"] for name, row in best.items()})
    for row in results.get("engine", {}).get("rows", []):
        if row["peer"]:
            found[row["what"]] = ratio(row["peer"], row["ours"])
    for row in results.get("bandwidth", {}).get("kernels", []):
        name = f"GB/s, {row['kernel']}, {plural(row['threads'])}, {size(row['working_set'])}"
        rates = row["bytes"] / np.array(row["seconds"]) / 1e9
        found[name] = Ratio(rates.max(), rates.min(), rates.max())
    return found


def peers(what: str, seconds: dict[str, list[float]]) -> dict[str, Ratio]:
    ours = seconds.get("fastmom")
    return {f"{what}: {who}": ratio(theirs, ours) for who, theirs in seconds.items()
            if ours and theirs and who != "fastmom"}


def agree(a: Ratio, b: Ratio) -> bool:
    (a_low, a_high), (b_low, b_high) = a.range, b.range
    return a_low <= b_high and b_low <= a_high


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    args = parser.parse_args()
    a, b = (figures(stored.load(path)) for path in (args.a, args.b))
    both = [name for name in a if name in b]
    if not both:
        print("the files have no figure in common")
        return 1
    width = max(map(len, both))
    for name in both:
        print(f"{name:{width}}  {a[name]!s:28} {b[name]!s:28} "
              f"{figure(b[name].value / a[name].value, 3):>8}  "
              f"{'yes' if agree(a[name], b[name]) else 'NO'}")
    within = sum(agree(a[name], b[name]) for name in both)
    print(f"{within} of {len(both)} figures agree within their spread ({within / len(both):.0%}); "
          f"{len(a) - len(both)} are in A alone, {len(b) - len(both)} in B alone")
    return int(within < ENOUGH * len(both))


if __name__ == "__main__":
    sys.exit(main())
