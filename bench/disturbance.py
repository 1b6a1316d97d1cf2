"""Tell what the choice between one thread and a team costs where other programs run.

Makes the load itself: processes that do nothing but count. Under each load the same work is done
by one thread, by a team that is never given up, and as fastmom chooses, in turns; the time of each
turn is the mean over its steps, as lost time slices are rare and long. The best in hindsight is
the better of the medians of the first two. Ends with status 1 if fastmom's choice takes more than
1.15 times the best in the median of all cases, or more than twice in any round.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastmom as fm
from bench.results import duration, table
from bench.workloads import Case
from fastmom import nn
from fastmom.kernels import team

ROUNDS = 5
MEDIAN, WORST = 1.15, 2.0
LASTING = 0.5       # seconds of a turn
SAMPLES = 20_000    # of the epoch
CANDIDATES = {"one thread": (1, True), "team": (None, False), "as chosen": (None, True)}
Work = Callable[[], object]


def step(elements: int) -> Work:
    params, grads = Case("SGD", [[elements]]).tensors()
    optimizer = fm.SGD(params, lr=1e-9, momentum=0.9)
    return lambda: optimizer.step(grads)


def epoch() -> Work:
    """Return an epoch of the article's network on images that are mostly zero."""
    (x, y), _ = fm.data.load_digits(SAMPLES, 10)
    model = nn.Sequential([nn.Flatten(input_shape=(28, 28)), nn.Rescaling(1 / 255),
                           nn.Dense(128, activation="relu"), nn.Dropout(0.2),
                           nn.Dense(10, activation="softmax")])
    model.compile("sgd", lr=0.01, momentum=0.9, nesterov=True)
    return lambda: model.fit(x, y, verbose=0)


WORK: dict[str, Callable[[], Work]] = {
    "a step of 10^5": lambda: step(10**5), "a step of 10^7": lambda: step(10**7),
    f"an epoch of {SAMPLES:,} images": epoch}


def loads() -> dict[str, int]:
    """Return how many programs keep the cores busy, by name."""
    cores = fm.get_num_threads()
    return {"quiet": 0, "one busy core": 1, "all cores busy": cores,
            "twice as many programs as cores": 2 * cores}


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """Keep so many cores busy with programs of one thread."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
               for _ in range(programs)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for program in started:
            program.kill()
            program.wait()


def turn(work: Work, candidate: str) -> float:
    """Return the seconds per call over a turn."""
    threads, watched = CANDIDATES[candidate]
    team.watch(watched)
    try:
        with fm.num_threads(threads):
            start, calls = time.perf_counter(), 0
            while (seconds := time.perf_counter() - start) < LASTING or calls == 0:
                work()
                calls += 1
            return seconds / calls
    finally:
        team.watch(True)


def measure(rounds: int, only: str = "") -> Iterator[dict[str, Any]]:
    """Yield a row per load and work: the seconds of each candidate in each round."""
    for load, programs in loads().items():
        for name, make in WORK.items():
            if only not in f"{load}: {name}":
                continue
            works = {candidate: make() for candidate in CANDIDATES}
            seconds: dict[str, list[float]] = {candidate: [] for candidate in CANDIDATES}
            with busy(programs):
                for _ in range(rounds):
                    for candidate, work in works.items():
                        seconds[candidate].append(turn(work, candidate))
            yield {"load": load, "work": name, "seconds": seconds}


def ratios(row: dict[str, Any]) -> list[float]:
    """Return how many times the best in hindsight the choice has taken in each round."""
    medians = {name: statistics.median(times) for name, times in row["seconds"].items()}
    best = min(medians["one thread"], medians["team"])
    return [times / best for times in row["seconds"]["as chosen"]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", metavar="TEXT",
                        help='only rows with this text, such as "quiet: a step"')


def run(args: argparse.Namespace) -> int:
    rows, medians, worst = [], [], 0.0
    for row in measure(args.rounds, args.only):
        each = ratios(row)
        medians.append(statistics.median(each))
        worst = max(worst, *each)
        rows.append([row["load"], row["work"], *(duration(statistics.median(row["seconds"][name]))
                                                 for name in CANDIDATES),
                     f"{medians[-1]:.2f}", f"{min(each):.2f} to {max(each):.2f}"])
        print("; ".join(rows[-1]), flush=True)
    print()
    print(table(["load", "work", *CANDIDATES, "as chosen over the best", "single rounds"], rows))
    median = statistics.median(medians)
    print(f"\nmedian {median:.2f} (at most {MEDIAN}), worst {worst:.2f} (at most {WORST})")
    return int(median > MEDIAN or worst > WORST)
