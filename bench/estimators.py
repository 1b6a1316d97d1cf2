"""Compare fastmom's MLPClassifier with scikit-learn's, by default and at batches of 32.

Both fit float32 data in turns, in this process, with the same seeds. scikit-learn does so with one
thread of BLAS and with all, and counts by the faster. A fit lasts so many epochs, whatever the
loss. Ends with status 1 if a fit of ours is not 4 times as fast, or if the mean accuracy over the
seeds is lower than theirs by more than twice the standard error of the difference.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from statistics import mean, median, stdev
from typing import Any

import numpy as np

import fastmom as fm
from bench.results import duration, plural, table
from bench.timing import until_asleep

TARGET = 4.0    # scikit-learn's time over ours, at least
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {}, "SGD, batch 32": {"solver": "sgd", "batch_size": 32,
                                      "learning_rate_init": 0.01}}


def digits() -> Any:
    """Return samples and labels to train on, and others."""
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return x[:1300], y[:1300], x[1300:], y[1300:]


def mnist() -> Any:
    """Return samples and labels to train on, and others."""
    (x, y), (x_test, y_test) = fm.data.load_mnist()
    flat = [a.reshape(len(a), -1) / np.float32(255) for a in (x, x_test)]
    return flat[0], y, flat[1], y_test


DATA = {"digits": (digits, 60), "MNIST": (mnist, 5)}    # and epochs


def fits(data: Any, epochs: int, seeds: int, setting: dict[str, Any]) -> dict[str, Any]:
    """Return by name the seconds of each fit, and the accuracies."""
    from sklearn.neural_network import MLPClassifier as Theirs
    from threadpoolctl import threadpool_limits

    from fastmom.integrations.sklearn import MLPClassifier as Ours
    x, y, x_test, y_test = data
    most = fm.get_num_threads()
    whose = {f"scikit-learn, {plural(n)}": (Theirs, n) for n in sorted({1, most})}
    whose["fastmom"] = (Ours, most)
    found: dict[str, Any] = {name: ([], []) for name in whose}
    for seed in range(-1, seeds):       # the first does not count
        for name, (kind, threads) in whose.items():
            model = kind(max_iter=epochs, tol=0, n_iter_no_change=epochs, random_state=max(seed, 0),
                         **setting)
            until_asleep()
            with threadpool_limits(threads, user_api="blas"):
                start = time.perf_counter()
                model.fit(x, y)
                seconds = time.perf_counter() - start
                if seed >= 0:
                    found[name][0].append(seconds)
                    found[name][1].append(model.score(x_test, y_test))
    return found


def judge(found: dict[str, Any]) -> tuple[list[list[str]], bool]:
    """Return rows of name, time, ratio and accuracy, and whether ours meets the targets."""
    *theirs, _ = sorted(found, key=lambda name: name == "fastmom")
    seconds = {name: median(times) for name, (times, _) in found.items()}
    best = min(theirs, key=lambda name: seconds[name])
    (_, own), (_, other) = found["fastmom"], found[best]
    error = math.hypot(stdev(own), stdev(other)) / math.sqrt(len(own))
    rows = [[name, duration(seconds[name]), f"{seconds[name] / seconds['fastmom']:.1f}",
             f"{mean(scores):.2%} ± {stdev(scores):.2%}"] for name, (_, scores) in found.items()]
    good = seconds[best] >= TARGET * seconds["fastmom"] and mean(own) >= mean(other) - 2 * error
    return rows, good


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="fits of each, at least 2")
    parser.add_argument("--only", choices=DATA, help="one of the data sets")


def run(args: argparse.Namespace) -> int:
    try:
        import fastmom.integrations.sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    rows, failed = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # they stop at the last epoch before they converge
        for name in [args.only] if args.only else DATA:
            load, epochs = DATA[name]
            data = load()
            for title, setting in SETTINGS.items():
                measured, good = judge(fits(data, epochs, max(2, args.seeds), setting))
                failed += not good
                rows += [[name, title, *row] for row in measured]
    print(table(["data", "setting", "by", "fit", "over fastmom", "accuracy"], rows))
    return int(failed > 0)
