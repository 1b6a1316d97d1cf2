"""Compare two installed versions of fastmom, in two interpreters: is the new one slower anywhere?

OLD and NEW are Python interpreters with a fastmom each. Two processes of each take turns, so that
the same code is compared with itself as well: "noise" is how far the two processes of one version
lie apart. Timed are a step of every optimizer, predictions, and an epoch of the network 784-128-10.

A row is SLOWER if the ratios new / old of minima and of medians are both above 1 by more than
--allowed and the noise: the row's own, or the 90 % quantile of all rows of its kind if that is
larger. The exit status is 1 if there is such a row.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.epoch import setting_of, write_data
from bench.results import duration
from bench.timing import Record, Worker, take_turns
from bench.workloads import LISTS, Case
from fastmom.optim import OPTIMIZERS

SIZES = [10, 10**3, 10**5, 10**6]
WHO = ["old", "new", "old again", "new again"]
QUANTILE = 0.9


class Row(NamedTuple):
    """Seconds of one case in each round, of each process in `WHO`."""

    kind: str
    name: str
    seconds: dict[str, list[float]]

    def best(self, version: str) -> float:
        """Return the minimum of both processes of a version."""
        return min(min(self.seconds[who]) for who in (version, f"{version} again"))

    def median(self, version: str) -> float:
        return statistics.median([*self.seconds[version], *self.seconds[f"{version} again"]])

    @property
    def minima(self) -> float:
        return self.best("new") / self.best("old")

    @property
    def medians(self) -> float:
        return self.median("new") / self.median("old")

    @property
    def noise(self) -> float:
        """Return by how much the minima of the same code differ, the mean of both versions."""
        return statistics.mean(
            abs(math.log(min(self.seconds[version]) / min(self.seconds[f"{version} again"])))
            for version in ("old", "new"))

    def word(self, allowed: float) -> str:
        low, high = sorted((self.minima, self.medians))
        return "SLOWER" if low > 1 + allowed else "faster" if high < 1 / (1 + allowed) else ""


def calls(optimizers: Iterable[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kind, name and what the workers prepare."""
    shapes = {f"{n:,}": [(n,)] for n in SIZES} | {name: LISTS[name]
                                                  for name in ("MNIST MLP", "200 x 1,000")}
    for name in optimizers:
        for size, of in shapes.items():
            case = Case(name, [list(shape) for shape in of])
            yield f"step, {size}", name, {"steps": case._asdict()}
    yield "predict", "", {"predictions": setting_of("article", Path())._asdict()}


def measure_calls(pythons: Sequence[str], optimizers: Iterable[str], rounds: int) -> Iterator[Row]:
    workers = start(pythons)
    try:
        for kind, name, content in calls(optimizers):
            answers = {who: worker.ask("prepare", content) for who, worker in workers.items()}
            errors = {answer["error"] for answer in answers.values() if "error" in answer}
            if errors:
                print(f"{kind} {name}: left out, {'; '.join(sorted(errors))}")
                continue
            for variant in answers["old"]["variants"]:
                records = [Record(who, partial(worker.ask, "turn", variant), worker)
                           for who, worker in workers.items()]
                yield from rows(kind, name or variant, records, rounds)
            for worker in workers.values():
                worker.ask("drop", None)
    finally:
        for worker in workers.values():
            worker.close()


def measure_epochs(pythons: Sequence[str], rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        digits = write_data(Path(folder), "auto")
        workers = start(pythons, json.dumps(setting_of("article", Path(folder))._asdict()))
        try:
            for variant in workers["old"].variants:
                records = [Record(who, partial(worker.ask, "epoch", variant), worker)
                           for who, worker in workers.items()]
                yield from rows("epoch", f"{variant}, {len(digits.x_train):,} samples", records,
                                rounds)
        finally:
            for worker in workers.values():
                worker.close()


def start(pythons: Sequence[str], *setting: str) -> dict[str, Worker]:
    """Start the processes in `WHO`."""
    workers = {who: Worker.python(python, "on_fastmom", *setting)
               for who, python in zip(WHO, [*pythons, *pythons], strict=True)}
    missing = {worker.missing for worker in workers.values() if worker.missing}
    if missing:
        for worker in workers.values():
            worker.close()
        raise SystemExit("; ".join(missing))
    return workers


def rows(kind: str, name: str, records: Sequence[Record], rounds: int) -> Iterator[Row]:
    take_turns(records, rounds, settle=0.002)
    errors = {record.error for record in records if record.error}
    if errors:
        print(f"{kind} {name}: left out, {'; '.join(sorted(errors))}")
    else:
        yield Row(kind, name, {record.name: record.seconds for record in records})


def report(found: Sequence[Row], allowed: float) -> list[Row]:
    """Print the table, and return the rows that are slower."""
    width = max(len(f"{row.kind}: {row.name}") for row in found)
    print(f"{'':{width}} {'old':>9} {'new':>9}  new / old: min median   noise")
    slower = []
    for row in found:
        mates = sorted(mate.noise for mate in found if mate.kind == row.kind)
        common = mates[math.ceil(QUANTILE * len(mates)) - 1]
        word = row.word(allowed + max(row.noise, common))
        if word == "SLOWER":
            slower.append(row)
        print(f"{row.kind + ': ' + row.name:{width}} {duration(row.best('old')):>9} "
              f"{duration(row.best('new')):>9} {row.minima:15.3f} {row.medians:6.3f} "
              f"{row.noise:7.1%}  {word}".rstrip())
    ratios = [math.log(row.minima) for row in found]
    print(f"{len(found)} rows: new / old is {math.exp(statistics.mean(ratios)):.3f} in the "
          f"geometric mean of the minima; noise {statistics.median(r.noise for r in found):.1%} in "
          f"the median; {len(slower)} slower by more than {allowed:.0%} and the noise")
    return slower


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("old", metavar="OLD_PYTHON")
    add("new", metavar="NEW_PYTHON")
    add("--rounds", type=int, default=25, help="of each process (default: %(default)s)")
    add("--allowed", type=float, default=0.03, metavar="SHARE", help="default: %(default)s")
    add("--optimizers", nargs="+", metavar="NAME", help="these alone (default: all)",
        default=[cls.__name__ for cls in OPTIMIZERS.values()])
    add("--json", type=Path, metavar="FILE", help="write all seconds there")


def run(args: argparse.Namespace) -> int:
    start, pythons = time.perf_counter(), [args.old, args.new]
    found = [*measure_calls(pythons, args.optimizers, args.rounds),
             *measure_epochs(pythons, args.rounds)]
    if args.json:
        args.json.write_text(json.dumps([row._asdict() for row in found], indent=1) + "\n")
    slower = report(found, args.allowed)
    print(f"took {time.perf_counter() - start:.0f} s")
    return int(bool(slower))
