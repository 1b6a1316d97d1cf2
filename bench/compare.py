"""Compare two runs of ``pytest bench``: is anything slower?

Reads files of ``pytest bench --benchmark-json=FILE`` or ``--benchmark-autosave``. Rows that do
not use fastmom, the controls, do not change with it: how their times differ is the machine's doing.

- Benchmarks with the same limit are disturbed alike: the processor's own cache, the memory
  that all processes share, a team of threads that waits for its last, or files.
- The drift is the median ratio of the controls of that limit that ran nearest (of any limit where
  there are too few). It is divided out of a benchmark's ratio of minima and of medians.
- The noise is twice the 95 % quantile of how far those controls' ratios are from the drift, or the
  same of all controls with that limit if it is larger. Where a limit has too few controls (no
  control has a team of threads), all benchmarks with it are taken instead, and how far they are
  from their own median. To either is added how far the benchmark's own lower quartile lies above
  its minimum, in the run where it is farther.

A benchmark is slower if both of its ratios are above 1 by more than the noise, and than 5 %; faster
likewise. Exit status: 0; 1 if one is slower; 2 if the runs cannot be compared, or if none is slower
but the noise would hide a quarter.

A disturbance that lasts as long as a benchmark looks like a slower fastmom in two runs.
Where others use the machine, take three of each in turns; their best times are compared:
``OLD1.json NEW1.json OLD2.json NEW2.json OLD3.json NEW3.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

FLOOR = 0.05        # smaller differences are not reported however quiet the machine is
NEAREST = 10        # controls
HIDDEN = 0.25       # the noise that is too much for an "all is well"
FEWEST = 5          # no more benchmarks than these tell nothing about the machine
TAIL, MARGIN = 0.95, 2.0
INFO = ("cpu", "node", "threads", "numpy", "python_version", "mode")     # should be equal


class Times(NamedTuple):
    """Seconds of one benchmark."""

    minimum: float
    median: float
    spread: float       # of its rounds, relative: the lower quartile above the minimum
    control: bool
    limit: str
    label: str


class Verdict(NamedTuple):
    """Natural logarithms of ratios new / old, without the drift."""

    label: str
    minima: float
    medians: float
    noise: float
    control: bool
    limit: str

    @property
    def word(self) -> str:
        low, high = sorted((self.minima, self.medians))
        if self.control:
            return ""
        return "SLOWER" if low > self.noise else "faster" if high < -self.noise else ""

def read(paths: Sequence[Path]) -> tuple[dict[str, Times], dict[str, Any]]:
    """Return the best times of these runs by benchmark, in order, and the machine's data."""
    best: dict[str, Times] = {}
    info: dict[str, Any] = {}
    for path in paths:
        run = json.loads(path.read_text())
        info = run["machine_info"]
        info["cpu"] = info.get("cpu", {}).get("brand_raw")
        for bench in run["benchmarks"]:
            stats, name, extra = bench["stats"], bench["fullname"], bench["extra_info"]
            times = Times(stats["min"], stats["median"], stats["q1"] / stats["min"] - 1,
                          extra["control"], extra["limit"], f"{bench['group']}: {extra['row']}")
            best[name] = merged(best[name], times) if name in best else times
    return best, info


def merged(one: Times, other: Times) -> Times:
    """Return the lower minimum, with its spread, and the lower median."""
    quieter = min(one, other)
    return quieter._replace(median=min(one.median, other.median))


def compare(old: dict[str, Times], new: dict[str, Times]) -> list[Verdict]:
    """Return the verdicts, the worst first, with the controls among them.

    Raises
    ------
    ValueError
        If there are too few controls that both runs have.
    """
    names = [name for name in new if name in old]
    kinds = [new[name] for name in names]
    controls = [i for i, kind in enumerate(kinds) if kind.control]
    if len(controls) <= FEWEST:
        raise ValueError(f"only {len(controls)} controls are in both runs: time NumPy too")
    alike = {limit: [i for i, kind in enumerate(kinds) if kind.limit == limit]
             for limit in {kind.limit for kind in kinds}}
    pools = {limit: [i for i in controls if i in of] for limit, of in alike.items()}
    around = [nearest(i, pools[kind.limit] if len(pools[kind.limit]) > FEWEST else controls)
              for i, kind in enumerate(kinds)]
    minima, medians = ([math.log(getattr(new[name], of) / getattr(old[name], of))
                        for name in names] for of in ("minimum", "median"))
    minima = [ratio - middle(minima, near) for ratio, near in zip(minima, around, strict=True)]
    medians = [ratio - middle(medians, near) for ratio, near in zip(medians, around, strict=True)]
    verdicts = []
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        pool = pools[kind.limit]
        noise = (MARGIN * max(tail(minima, pool), tail(minima, around[i])) if len(pool) > FEWEST
                 else MARGIN * tail(minima, alike[kind.limit], centred=True))
        noise = max(FLOOR, noise) + max(old[name].spread, new[name].spread)
        verdicts.append(Verdict(kind.label, minima[i], medians[i], noise, kind.control,
                                kind.limit))
    return sorted(verdicts, key=lambda verdict: -verdict.minima)


def nearest(i: int, controls: Sequence[int]) -> list[int]:
    """Return the controls that ran around this benchmark, without itself."""
    return sorted((j for j in controls if j != i), key=lambda j: abs(j - i))[:NEAREST]


def middle(ratios: Sequence[float], of: Sequence[int]) -> float:
    return statistics.median(ratios[i] for i in of)


def tail(ratios: Sequence[float], of: Sequence[int], centred: bool = False) -> float:
    """Return the 95 % quantile of the distances from the drift, or from their own median."""
    if len(of) <= FEWEST:
        return math.inf
    center = middle(ratios, of) if centred else 0.0
    distances = sorted(abs(ratios[i] - center) for i in of)
    return distances[math.ceil(TAIL * len(distances)) - 1]


def report(verdicts: Sequence[Verdict], every: bool) -> str:
    """Return the table of changes, or of everything, and the noise it was judged by."""
    shown = [v for v in verdicts if every or v.word]
    width = max([len(v.label) for v in shown], default=0)
    lines = [f"{'new / old':{width}}  minima medians  noise limit"]
    lines += [f"{v.label:{width}} {math.exp(v.minima):7.2f} {math.exp(v.medians):7.2f} "
              f"{percent(v.noise):>6} {v.limit:8}"
              f"{'control' if v.control else v.word}".rstrip() for v in shown]
    ours = [v for v in verdicts if not v.control]
    words = [v.word for v in ours]
    lines.append(f"{len(ours)} benchmarks, {len(verdicts) - len(ours)} controls: "
                 f"{words.count('SLOWER')} slower, {words.count('faster')} faster")
    lines.append("taken for noise, by what limits the benchmark (median):")
    lines += [f"  {limit:8}{percent(noise):>5}" for limit, noise in noises(verdicts).items()]
    return "\n".join(lines)


def noises(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Return the median noise of our benchmarks, by what limits them."""
    ours = [v for v in verdicts if not v.control]
    return {limit: statistics.median(v.noise for v in ours if v.limit == limit)
            for limit in sorted({v.limit for v in ours})}


def percent(logarithm: float) -> str:
    return f"{math.expm1(logarithm):.0%}" if logarithm < 3 else "any"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="OLD.json NEW.json")
    parser.add_argument("--all", action="store_true", help="show all rows, not what changed alone")


def run(args: argparse.Namespace) -> int:
    if len(args.runs) % 2:
        print("as many new runs as old ones are needed, in turns: OLD NEW OLD NEW", file=sys.stderr)
        return 2
    try:
        (old, before), (new, after) = read(args.runs[::2]), read(args.runs[1::2])
        verdicts = compare(old, new)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot compare: {error!r}")
        return 2
    for name in INFO:
        if before.get(name) != after.get(name):
            print(f"the runs differ in {name}: {before.get(name)} and {after.get(name)}")
    for what, names in (("old", old.keys() - new.keys()), ("new", new.keys() - old.keys())):
        if names:
            print(f"only in the {what} run: {len(names)} benchmarks")
    print(report(verdicts, args.all))
    if any(v.word == "SLOWER" for v in verdicts):
        return 1
    if min(noises(verdicts).values(), default=math.inf) > HIDDEN:
        print("too noisy to say that nothing is slower: take three runs of each, in turns")
        return 2
    return 0
