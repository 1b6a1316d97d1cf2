"""Write the numbers of stored results into the README.

Rewrites what stands between ``<!-- bench:NAME -->`` and ``<!-- /bench -->``. With ``--check`` it
changes nothing, and ends with status 1 if README and results disagree.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import accuracy, results
from bench.epoch import sizes, with_one_thread
from bench.peers import PEERS, peer_of
from bench.results import Results, Seconds, duration, number, ratio, table, typical
from bench.steps import SAME
from bench.worker import ROOT

BLOCK = re.compile(r"(<!-- bench:(\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
OURS = "fastmom"
EVEN = 0.97     # a peer's time over fastmom's: below, the README tells the cause
# Why a peer is faster, with the measurement that shows it, by case and peer as `below` names them
CAUSES: dict[str, str] = {
    "GPT-2, clipped: numba": "The pass for the norm took 27.1 ms, Numba's 18.6 (clipped less "
                             "plain): fastmom adds squares in float64, in a fixed order.",
}
Rows = dict[tuple[str, bool], Seconds]
CLIPPED = "the same, clipped by global norm"
# Case of the steps, whether it is clipped, and what the README calls it
CASES = [("1 x 10^1", False, "1 tensor of 10"), ("1 x 10^4", False, "1 of 10,000"),
         ("1 x 10^6", False, "1 of 1,000,000"), ("1 x 10^8", False, "1 of 100,000,000"),
         ("MNIST MLP", False, "MNIST network: 4 tensors, 101,770"), ("MNIST MLP", True, CLIPPED),
         ("200 x 1,000", False, "200 tensors of 1,000"),
         ("ResNet-50", False, "ResNet-50: 161 tensors, 25.6 million"), ("ResNet-50", True, CLIPPED),
         ("GPT-2", False, "GPT-2: 148 tensors, 124 million"), ("GPT-2", True, CLIPPED)]


def of_accuracy(results: Results) -> str:
    part = results["accuracy"]
    return "\n".join([accuracy.table_of(part["rows"]), "",
                      f"(`python -m bench peers accuracy` on {machine(part)}.)"])


def steps_of(results: Results) -> Rows:
    """Return the seconds of SGD's steps, by list and whether it is clipped."""
    return {(row["workload"], row["clip"] is not None): row["seconds"]
            for row in results["steps"]["rows"]
            if row["optimizer"] == "SGD" and row["seconds"].get(OURS)}


def of_speed(results: Results) -> str:
    part, rows = results["steps"], steps_of(results)
    peers = [name for name in PEERS if name != OURS
             and any(peer_of(who) == name for seconds in rows.values() for who in seconds)]
    lines = []
    for workload, clipped, name in CASES:
        if (workload, clipped) in rows:
            seconds = rows[workload, clipped]
            lines.append([name, duration(typical(seconds[OURS])),
                          *(cell(seconds, who) for who in peers)])
    shown = table(["parameters", OURS, *(PEERS[name].title for name in peers)], lines)
    reasons = "".join(f"{text} " for text in below(rows, peers).values())
    return f"{shown}\n\n{reasons}({how(part, ', '.join(versions(part)))})"


def best_form(seconds: Seconds, peer: str) -> list[float]:
    """Return the seconds of the peer's fastest form, with new gradients."""
    return min((of_one for who, of_one in seconds.items()
                if of_one and peer_of(who) == peer and not who.endswith(SAME)),
               key=typical, default=[])


def cell(seconds: Seconds, peer: str) -> str:
    times = best_form(seconds, peer)
    if not times:
        return ""
    return f"{duration(typical(times))} ({number(ratio(times, seconds[OURS]).value)})"


def below(rows: Rows, peers: list[str]) -> dict[str, str]:
    """Return what is said of each peer that is faster than fastmom, by case and peer."""
    texts = {}
    for workload, clipped, name in CASES:
        for peer in peers:
            seconds = rows.get((workload, clipped), {})
            times = best_form(seconds, peer)
            if times and (found := ratio(times, seconds[OURS])).value < EVEN:
                key = f"{workload}{', clipped' if clipped else ''}: {peer}"
                low, high = map(number, found.range)
                texts[key] = (f"{PEERS[peer].title} at {name}: {number(found.value, 3)}, "
                              f"{low} to {high} from run to run. {CAUSES.get(key, '')}").strip()
    return texts


def unexplained(results: Results) -> list[str]:
    """Return the cases and peers that are surely faster, and of which no cause is told."""
    rows = steps_of(results)
    return [key for key, text in below(rows, list(PEERS)).items() if key not in CAUSES]


def versions(part: dict[str, Any]) -> list[str]:
    each = (version for text in part["versions"].values() for version in text.split(", "))
    return [version for version in dict.fromkeys(each)
            if not version.startswith(("fastmom", "numpy"))]


def of_memory(results: Results) -> str:
    """Return a sentence about the largest arrays."""
    part = results["threads"]
    largest = max(row["elements"] for row in part["rows"])
    rows = [row for row in part["rows"] if row["elements"] == largest]
    one, most = rows[0], rows[-1]
    step, scale = typical(most["step"]), typical(most["scale"])
    rates = [row["bytes"] / typical(row["step"]) / 1e9 for row in (one, most)]
    return (f"With {largest:,} parameters a step moves {rates[0]:.0f} GB/s with one thread and "
            f"{rates[1]:.0f} GB/s with {most['threads']}, {number(scale / step)} times as fast as "
            "an in-place scale of as many bytes in C.")


def of_epoch(results: Results) -> str:
    part = results["epoch"]
    best = {model: with_one_thread(content) for model, content in part["models"].items()}
    heads = ["", *(f"{sizes(content)}, batch {content['batch']}"
                   f"{', every pixel noisy' if model == 'dense' else ''}"
                   for model, content in part["models"].items())]
    names = dict.fromkeys(name for rows in best.values() for name in rows if name != "sgemm")
    lines = [[name.replace(peer_of(name), PEERS[peer_of(name)].title),
              *(epoch_cell(rows, name) for rows in best.values())] for name in names]
    return f"{table(heads, lines)}\n\n({how(part, '')})"


def epoch_cell(rows: dict[str, dict[str, Any]], name: str) -> str:
    if name not in rows:
        return ""
    seconds = rows[name]["typical"]
    return f"{duration(seconds)} ({number(seconds / rows[OURS]['typical'])})"


def machine(part: dict[str, Any]) -> str:
    about = part["machine"]
    cache = about["caches"][-1] if about["caches"] else "unknown cache"
    return (f"{about['cores']} cores of {about['cpu']}, {cache}, "
            f"Python {about['python'].split()[0]}, NumPy {about['numpy']}")


def how(part: dict[str, Any], libraries: str) -> str:
    """Say how it was measured, and what may have spoilt it."""
    others = [cores for row in rows_of(part) for cores in cores_of(row)]
    busy = (f" Other programs used {statistics.median(others):.2f} cores meanwhile, in the median."
            if others else "")
    quick = " A quick run, not for comparison." if part["quick"] else ""
    return (f"`python -m bench peers`, medians of rounds that take turns, on "
            f"{machine(part)}{'; ' + libraries if libraries else ''}.{busy}{quick}")


def rows_of(part: dict[str, Any]) -> list[dict[str, Any]]:
    models = part.get("models")
    return part["rows"] if models is None else [r for m in models.values() for r in m["rows"]]


def cores_of(row: dict[str, Any]) -> list[float]:
    cores = row.get("cores_of_others", [])
    return cores if isinstance(cores, list) else [cores]


BLOCKS: dict[str, Callable[[Results], str]] = {
    "accuracy": of_accuracy, "speed": of_speed, "memory": of_memory, "epoch": of_epoch}


def rewritten(text: str, results: Results) -> str:
    """Return the README with the numbers of these results."""
    found = [match[2] for match in BLOCK.finditer(text)]
    if sorted(found) != sorted(BLOCKS):
        raise SystemExit(f"README.md must have the blocks {', '.join(BLOCKS)}, each once, and has "
                         f"{', '.join(found) or 'none'}")
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]](results)}\n{match[3]}", text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=results.FILE, metavar="FILE")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", metavar="FILE")
    parser.add_argument("--check", action="store_true")


def run(args: argparse.Namespace) -> int:
    text, found = args.readme.read_text(encoding="utf-8"), results.load(args.results)
    made = rewritten(text, found)
    if args.check and made != text:
        print(f"{args.readme} disagrees with {args.results}: python -m bench readme")
        return 1
    if made != text:
        args.readme.write_text(made, encoding="utf-8")
    for key in unexplained(found):
        print(f"a peer is faster, tell the cause in CAUSES of {Path(__file__).name}: {key}")
    return 0
