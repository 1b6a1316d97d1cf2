"""Tell whether two runs of ``python -m bench peers`` agree.

Prints each number that both files have: its value in both, B's over A's, and whether the ranges
that the reports state overlap. A number is the ratio of a peer's median to fastmom's, and its
range the middle 80 % of the ratios of a time of the one to a time of the other; that of a
bandwidth, whose value is the median's, reaches from the worst round's to the best's. Ends with
status 1 if less than 90% agree.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bench import results
from bench.epoch import fastest
from bench.results import Ratio, Results, Seconds, memory_size, number, plural, ratio
from bench.steps import of_same, title

ENOUGH = 0.9        # of the numbers


def numbers(found: Results) -> dict[str, Ratio]:
    """Return all that a report states with a spread, by name."""
    made: dict[str, Ratio] = {}
    for section in ("steps", "optimizers"):
        for row in found.get(section, {}).get("rows", []):
            made |= of_peers(f"{section}, {title(row)}", row["seconds"])
    for model, content in found.get("epoch", {}).get("models", {}).items():
        best = fastest(content["rows"])
        made |= of_peers(f"epoch, {model}", {name: row["seconds"] for name, row in best.items()})
    for row in found.get("penalties", {}).get("rows", []):
        made[row["what"]] = ratio(row["with"], row["without"])
    for row in found.get("bandwidth", {}).get("kernels", []):
        name = f"GB/s, {row['kernel']}, {plural(row['threads'])}, {memory_size(row['working_set'])}"
        rates = row["bytes"] / np.array(row["seconds"]) / 1e9
        made[name] = Ratio(float(np.median(rates)), rates.min(), rates.max())
    return made


def of_peers(what: str, seconds: Seconds) -> dict[str, Ratio]:
    return {f"{what}: {who}": ratio(theirs, of_same(seconds, who))
            for who, theirs in seconds.items() if theirs and of_same(seconds, who)
            and who != "fastmom"}


def agree(a: Ratio, b: Ratio) -> bool:
    (a_low, a_high), (b_low, b_high) = a.range, b.range
    return a_low <= b_high and b_low <= a_high


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A.json")
    parser.add_argument("b", type=Path, metavar="B.json")


def run(args: argparse.Namespace) -> int:
    a, b = (numbers(results.load(path)) for path in (args.a, args.b))
    both = [name for name in a if name in b]
    if not both:
        print("the files have no number in common")
        return 1
    width = max(map(len, both))
    for name in both:
        print(f"{name:{width}}  {a[name]!s:28} {b[name]!s:28} "
              f"{number(b[name].value / a[name].value, 3):>8}  "
              f"{'yes' if agree(a[name], b[name]) else 'NO'}")
    within = sum(agree(a[name], b[name]) for name in both)
    print(f"{within} of {len(both)} numbers agree within their spread ({within / len(both):.0%}); "
          f"{len(a) - len(both)} are in A alone, {len(b) - len(both)} in B alone")
    return int(within < ENOUGH * len(both))
