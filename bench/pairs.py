"""Compare two installed versions of fastmom, in two interpreters: is the new one slower anywhere?

OLD and NEW are Python interpreters with a fastmom each. Two processes of each take turns, so that
the same code is compared with itself as well: "noise" is how far the two processes of one version
lie apart. Each imports a fresh copy of the package, as the same file at another place in memory can
be 40 ns a call faster or slower. Timed are a step of every optimizer, predictions, an epoch of the
network 784-128-10, and the import.

A row is SLOWER if the ratios new / old of minima and of medians are both above 1 by more than
--allowed and the noise: the row's own, or the 90 % quantile of all rows of its kind if that is
larger. Such rows are measured once more in new processes, and judged by both measurements together.
The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.epoch import setting_of, write_data
from bench.results import duration
from bench.timing import Call, Record, take_turns
from bench.worker import Worker
from bench.workloads import LISTS, Case
from fastmom.optim import OPTIMIZERS

SIZES = [10, 10**3, 10**5, 10**6]
LASTING = 0.003         # seconds of a measurement: short enough to escape other programs at times
SETTLE = 0.001          # seconds between turns
CALLS = {"predict": ["1 sample", "256 samples", "256 samples without zeros"]}   # variants by kind
SLOWER, FASTER = "SLOWER", "faster"
WHO = ["old", "new", "old again", "new again"]
QUANTILE = 0.9


class Row(NamedTuple):
    """Seconds of one case in each round, of each process in `WHO`."""

    kind: str
    name: str
    seconds: dict[str, list[float]]

    @property
    def title(self) -> str:
        return f"{self.kind}: {self.name}"

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
        return SLOWER if low > 1 + allowed else FASTER if high < 1 / (1 + allowed) else ""

    def joined(self, other: Row) -> Row:
        """Return the row with both measurements."""
        return self._replace(seconds={who: [*seconds, *other.seconds[who]]
                                      for who, seconds in self.seconds.items()})


def calls(optimizers: Iterable[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kind, name and what the workers prepare."""
    shapes = {f"{n:,}": [(n,)] for n in SIZES} | {name: LISTS[name]
                                                  for name in ("MNIST MLP", "200 x 1,000")}
    for name in optimizers:
        for size, of in shapes.items():
            case = Case(name, [list(shape) for shape in of])
            yield f"step, {size}", name, {"steps": case._asdict()}
    yield "predict", "", {"predictions": setting_of("article", Path())._asdict()}


def measure(pythons: Sequence[str], args: argparse.Namespace,
            wanted: Callable[[str], bool]) -> Iterator[Row]:
    """Measure the rows with wanted titles in new processes."""
    with started(pythons) as workers:
        for worker in workers.values():
            worker.ask("lasting", LASTING)
        for kind, name, content in calls(args.optimizers):
            variants = [variant for variant in CALLS.get(kind, [""])
                        if wanted(f"{kind}: {name or variant}")]
            if not variants:
                continue
            errors = {answer["error"] for answer in (worker.ask("prepare", content)
                                                     for worker in workers.values())
                      if "error" in answer}
            if errors:
                print(f"{kind}: {name}: left out, {'; '.join(sorted(errors))}")
                continue
            for variant in variants:
                yield from rows(kind, name or variant, workers, ("turn", variant), args.rounds)
            for worker in workers.values():
                worker.ask("drop", None)
    if wanted("epoch"):
        yield from measure_epochs(pythons, max(1, args.rounds // 4))
    if wanted("import"):
        yield from measure_imports(pythons, max(1, args.rounds // 4))


def measure_epochs(pythons: Sequence[str], rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        samples = len(write_data(Path(folder), "auto").x_train)
        setting = json.dumps(setting_of("article", Path(folder))._asdict())
        with started(pythons, setting) as workers:
            for variant in workers["old"].variants:
                yield from rows("epoch", f"{samples:,} samples, {variant}", workers,
                                ("epoch", variant), rounds)


def measure_imports(pythons: Sequence[str], rounds: int) -> Iterator[Row]:
    def start(python: str) -> None:
        subprocess.run([python, "-P", "-c", "import fastmom"], check=True)
    records = [Record(who, Call(partial(start, python)).turn)
               for who, python in zip(WHO, [*pythons, *pythons], strict=True)]
    take_turns(records, rounds, settle=SETTLE)
    yield Row("import", "fastmom", {record.name: record.seconds for record in records})


@contextmanager
def started(pythons: Sequence[str], *setting: str) -> Iterator[dict[str, Worker]]:
    """Start the processes in `WHO`, each with a copy of its version of fastmom."""
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for who, python in zip(WHO, [*pythons, *pythons], strict=True):
                shutil.copytree(package(python), Path(folder, who, "fastmom"))
                workers[who] = Worker.python(python, "on_fastmom", *setting, environment={
                    "PYTHONPATH": str(Path(folder, who))})
                if workers[who].missing:
                    raise SystemExit(f"{who}: {workers[who].missing}")
            yield workers
        finally:
            for worker in workers.values():
                worker.close()


def package(python: str) -> str:
    """Return the folder of an interpreter's fastmom."""
    found = subprocess.run([python, "-P", "-c", "import fastmom; print(fastmom.__path__[0])"],
                           capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"{python}: {found.stderr.strip().splitlines()[-1]}")
    return found.stdout.strip()


def rows(kind: str, name: str, workers: dict[str, Worker], request: tuple[str, str],
         rounds: int) -> Iterator[Row]:
    """Yield the row, unless a version fails."""
    records = [Record(who, partial(worker.ask, *request), worker)
               for who, worker in workers.items()]
    take_turns(records, rounds, settle=SETTLE)
    errors = {record.error for record in records if record.error}
    if errors:
        print(f"{kind}: {name}: left out, {'; '.join(sorted(errors))}")
    else:
        yield Row(kind, name, {record.name: record.seconds for record in records})


def judged(found: Sequence[Row], allowed: float) -> dict[str, str]:
    """Return the verdict on each row by its title."""
    verdicts = {}
    for row in found:
        mates = sorted(mate.noise for mate in found if mate.kind == row.kind)
        common = mates[math.ceil(QUANTILE * len(mates)) - 1]
        verdicts[row.title] = row.word(allowed + max(row.noise, common))
    return verdicts


def report(found: Sequence[Row], verdicts: dict[str, str]) -> None:
    width = max(len(row.title) for row in found)
    print(f"{'':{width}} {'old':>9} {'new':>9}  new / old: min median   noise")
    for row in found:
        print(f"{row.title:{width}} {duration(row.best('old')):>9} "
              f"{duration(row.best('new')):>9} {row.minima:15.3f} {row.medians:6.3f} "
              f"{row.noise:7.1%}  {verdicts[row.title]}".rstrip())
    words = list(verdicts.values())
    mean = statistics.geometric_mean(row.minima for row in found)
    noise = statistics.median(row.noise for row in found)
    print(f"{len(found)} rows: {words.count(SLOWER)} slower and {words.count(FASTER)} faster by "
          f"more than allowed and noise; new / old {mean:.3f} in the geometric mean of minima, "
          f"noise {noise:.1%} in the median")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("old", metavar="OLD_PYTHON")
    add("new", metavar="NEW_PYTHON")
    add("--rounds", type=int, default=60,
        help="measurements in each process; of epochs and imports a quarter (default: %(default)s)")
    add("--allowed", type=float, default=0.03, metavar="SHARE", help="default: %(default)s")
    add("--optimizers", nargs="+", metavar="NAME", help="these alone (default: all)",
        default=[cls.__name__ for cls in OPTIMIZERS.values()])
    add("--only", default="", metavar="TEXT", help="rows whose title has it, say 'step, 10:'")
    add("--json", type=Path, metavar="FILE", help="write all seconds there")


def run(args: argparse.Namespace) -> int:
    start, pythons = time.perf_counter(), [args.old, args.new]
    found = list(measure(pythons, args, lambda title: args.only in title))
    if not found:
        print(f"nothing to compare: no title contains {args.only!r}, or all was left out")
        return 2
    doubtful = [title for title, word in judged(found, args.allowed).items() if word == SLOWER]
    again = {row.title: row for row in measure(
        pythons, args, lambda title: any(name.startswith(title) for name in doubtful))
             } if doubtful else {}
    found = [row.joined(again[row.title]) if row.title in again else row for row in found]
    verdicts = judged(found, args.allowed)
    report(found, verdicts)
    print(f"took {time.perf_counter() - start:.0f} s; measured twice: {len(again)} rows")
    if args.json:
        args.json.write_text(json.dumps([row._asdict() for row in found], indent=1) + "\n")
    return int(SLOWER in verdicts.values())
