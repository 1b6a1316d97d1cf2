"""Find learning rate and momentum: a range test that gives up hopeless pairs early."""

from __future__ import annotations

import math
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.checks import flag, integer, number, wrong
from fastmom.nn.inputs import split
from fastmom.optim import SGD
from fastmom.progress import can_show_bars, progress_bar
from fastmom.threads import get_num_threads
from fastmom.tuning.curvature import sharpness, stability_edge
from fastmom.tuning.result import Tuning
from fastmom.tuning.trials import NAMES, Train, Trial, trainer

if TYPE_CHECKING:
    from fastmom.nn import Sequential

__all__ = ["LRS", "MOMENTA", "AllDiverged", "Trial", "Tuning", "sharpness", "stability_edge",
           "tune"]

LRS = tuple(round(10 ** (k / 2), 5) for k in range(-6, 1))      # 0.001, 0.00316, ... 1
MOMENTA = 0.0, 0.5, 0.9, 0.95, 0.99
KEEP = 3            # a third of the pairs goes on, for three times as long
SPARE = 0.7         # of the time budget is planned with: evaluations and starting take the rest


class AllDiverged(RuntimeError):
    """No pair of the grid can train the model."""


def tune(model: Sequential, x: Any, y: Any, *, lr: Sequence[float] = LRS,
         momentum: Sequence[float] = MOMENTA, epochs: float = 1.0, batch_size: int = 32,
         validation_split: float = 0.1, validation_data: tuple[Any, Any] | None = None,
         halving: bool = True, seconds: float | None = None, processes: int | None = None,
         seed: int = 0, verbose: bool = True) -> Tuning:
    """Search a grid of learning rates and momenta for the pair that trains the model best.

    By successive halving: all pairs begin with a ninth of the budget, the better third goes on to
    a third of it, and the better third of those to the end. Together they cost about a quarter of
    what the grid does. A pair whose loss explodes ends at once.

    Parameters
    ----------
    model : Sequential
        Every pair begins with its weights. Its optimizer, which must have lr and momentum, and its
        loss and metrics are those it was compiled with; one that was not is trained by `SGD`. It
        stays as it is.
    x, y : array-like
        As for `Sequential.fit`.
    lr, momentum : sequence of float
        The grid.
    epochs : float, default 1
        Budget of the best pairs, in passes over the training samples.
    batch_size : int, default 32
    validation_split : float, default 0.1
        Share of the samples, the last ones, to compare pairs with: by accuracy, if the model has
        that metric, else by loss.
    validation_data : (x, y), optional
        Compare with these instead.
    halving : bool, default True
        False trains all pairs to the end.
    seconds : float, optional
        Time budget. The budget of samples is cut to what seems to fit, and the search ends in time
        with the best so far.
    processes : int, optional
        By default as many as `fastmom.get_num_threads`, each with one thread. With 1 it is this
        process. A script that uses several must call below ``if __name__ == "__main__":``.
    seed : int, default 0
        Of the order of the samples, the same for all pairs.
    verbose : bool, default True
        Show a progress bar on a terminal, or else a line per round.

    Returns
    -------
    Tuning
        After Ctrl-C with the best so far.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong or the optimizer has no momentum.
    AllDiverged
        A RuntimeError: if all pairs did.
    RuntimeError
        If no pair was tried in time, or a process has died.
    KeyboardInterrupt
        After Ctrl-C before the first pair was tried.

    Notes
    -----
    The result is the same for any number of processes, as long as no time budget cuts it.

    References
    ----------
    K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
    optimization", AISTATS 2016.

    Examples
    --------
    >>> import numpy as np, fastmom as fm
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((400, 4)).astype(np.float32)
    >>> y = (x.sum(axis=1) > 0).astype(np.int64)
    >>> model = fm.nn.Sequential([fm.nn.Dense(2, activation="softmax", input_shape=(4,))])
    >>> model.compile("sgd", metrics=["accuracy"])
    >>> found = fm.tune(model, x, y, lr=[1e-4, 0.1], momentum=[0.0, 0.9], epochs=5,
    ...                 processes=1, verbose=False)
    >>> found.lr, found.cost < 1
    (0.1, True)
    """
    grid = [Trial(a, m) for a, m in product(checked("lr", lr, math.inf),
                                            checked("momentum", momentum, 1.0))]
    epochs = number("epochs", epochs, 0.0, open_low=True)
    size, seed = integer("batch_size", batch_size, 1), integer("seed", seed, 0)
    share = number("validation_split", validation_split, 0.0, 1.0, open_low=True, open_high=True)
    halving, verbose = flag("halving", halving), flag("verbose", verbose)
    limit = math.inf if seconds is None else number("seconds", seconds, 0.0, open_low=True)
    workers = (get_num_threads() if processes is None else integer("processes", processes, 1))
    start = time.monotonic()
    model = prepared(model)
    arrays = prepared_data(model, x, y, share, validation_data)
    budget = max(size, round(epochs * len(arrays["x"])))
    if limit < math.inf:
        budget = min(budget, affordable(model, arrays, size, limit, workers, len(grid), halving))
    rounds = plan(len(grid), budget, size, halving)
    workers = min(workers, len(grid))
    curvature = sharpness(model, arrays["x"], arrays["y"])
    search = Search(grid, seed)
    with trainer(pickled(model), arrays, size, seed, start + limit, workers) as train, \
            reporting(rounds, verbose) as report:
        search.run(train, rounds, report)
    if not any(trial.samples for trial in search.trials):
        if search.interrupted:
            raise KeyboardInterrupt
        raise RuntimeError(f"seconds={seconds} ended before the first pair was tried; give more")
    best = search.trials[0]
    if best.diverged:
        raise AllDiverged("all pairs that were tried diverged: give lower learning rates, or look "
                          "at the data (are the inputs scaled?)")
    after = sharpness(pickle.loads(best.saved), arrays["x"], arrays["y"])
    ended = "interrupted" if search.interrupted else "out of time" * search.cut
    return Tuning(search.trials, search.samples / (len(grid) * rounds[-1][1]), (curvature, after),
                  bool(getattr(model.optimizer, "nesterov", False)),
                  "accuracy" in model.evaluate(arrays["x_val"][:1], arrays["y_val"][:1], verbose=0,
                                               return_dict=True), rounds[-1][1], ended)


# Preparation --------------------------------------------------------------------------------------

def checked(name: str, values: Any, high: float) -> list[float]:
    """Return the distinct numbers from 0 to `high`, in order."""
    if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)) or not len(values):
        raise wrong(name, values, "a list of at least one number", TypeError)
    return sorted({number(f"each of {name}", value, 0.0, high, open_low=name == "lr")
                   for value in values})


def prepared(model: Any) -> Any:
    """Return a copy of the model, compiled with an optimizer that has lr and momentum."""
    from fastmom.nn import Sequential
    if not isinstance(model, Sequential):
        raise TypeError(f"model must be a Sequential, not {model!r}")
    model = pickle.loads(pickled(model))
    if model.optimizer is None:
        model.compile(SGD())
    hypers = model.optimizer._group_hypers
    if missing := [name for name in ("lr", "momentum") if name not in hypers]:
        raise ValueError(f"the model's optimizer must have lr and momentum; "
                         f"{type(model.optimizer).__name__} has no {missing[0]}")
    return model


def pickled(model: Any) -> bytes:
    """Return the model for other processes."""
    try:
        return pickle.dumps(model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(f"model must be one that pickle can copy: {error}") from error


def prepared_data(model: Any, x: Any, y: Any, share: float, given: Any) -> dict[str, Any]:
    """Return the arrays by name, checked as `fit` does; a model without weights gets them."""
    x, y = np.asarray(x), np.asarray(y)
    if given is not None and not (isinstance(given, (tuple, list)) and len(given) == 2):
        raise wrong("validation_data", given, "a tuple (x, y)", TypeError)
    logs = model.evaluate(x, y, verbose=0, return_dict=True) if len(x) else {}
    if not logs:
        raise ValueError("x has 0 samples; there must be some")
    if given is None:
        (x, y, _), held_out = split((x, y, None), share)
        assert held_out is not None
        x_val, y_val = held_out[:2]
    else:
        x_val, y_val = map(np.asarray, given)
        model.evaluate(x_val, y_val, verbose=0)
    return dict(zip(NAMES, (x, y, x_val, y_val), strict=True))


def plan(pairs: int, budget: int, size: int, halving: bool) -> list[tuple[int, int]]:
    """Return for each round how many pairs there are and until which sample, in whole batches."""
    rounds = []
    for shrink in (KEEP ** 2, KEEP, 1) if halving else (1,):
        count = max(1, math.ceil(pairs * shrink / KEEP ** 2)) if halving else pairs
        rounds.append((count, max(size, budget // shrink // size * size)))
    return rounds


def affordable(model: Any, arrays: dict[str, Any], size: int, seconds: float, workers: int,
               pairs: int, halving: bool) -> int:
    """Return the budget of samples that should fit into the time, after a few steps to measure."""
    twin, n = pickle.loads(pickle.dumps(model)), size * max(1, 2000 // size)
    begin = time.perf_counter()
    twin.fit(arrays["x"][:n], arrays["y"][:n], size, verbose=0)
    pace = min(n, len(arrays["x"])) / (time.perf_counter() - begin)
    samples = pace * workers * SPARE * seconds
    cost = plan_cost(plan(pairs, KEEP ** 2 * size, size, halving)) / (KEEP ** 2 * size)
    return max(size, int(samples / cost))


def plan_cost(rounds: Sequence[tuple[int, int]]) -> int:
    """Return how many samples all rounds take together."""
    done = [0, *(samples for _, samples in rounds)]
    return sum(count * (samples - before)
               for (count, samples), before in zip(rounds, done, strict=False))


# The search ---------------------------------------------------------------------------------------

class Search:
    """The pairs, the best first, and what has become of the search."""

    def __init__(self, grid: Sequence[Trial], seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(grid))      # if time cuts it short
        self.trials = [grid[i] for i in order]
        self.samples = 0
        self.interrupted = self.cut = False

    def run(self, train: Train, rounds: Sequence[tuple[int, int]],
            report: Callable[[int, Trial | None, Trial], object]) -> None:
        """Train the better pairs of each round in the next one, until the end or Ctrl-C."""
        try:
            for i, (count, samples) in enumerate(rounds):
                chosen = [t for t in self.trials[:count] if not t.diverged and t.samples < samples]
                found = {(t.lr, t.momentum): t for t in self.trials}
                before = {(t.lr, t.momentum): t.samples for t in chosen}
                for trial in train(chosen, samples):
                    key = trial.lr, trial.momentum
                    found[key] = trial
                    self.samples += trial.samples - before.pop(key)
                    self.trials = ranked(found.values())
                    report(i, trial, self.trials[0])
                report(i, None, self.trials[0])
                if before:          # the time is up
                    self.cut = True
                    return
        except KeyboardInterrupt:
            self.interrupted = True


def ranked(trials: Any) -> list[Trial]:
    """Return the trials, those that have come farthest first, and of these the best first."""
    return sorted(trials, reverse=True, key=lambda t: (
        not t.diverged, t.samples, t.score, -t.loss if t.samples else 0.0, -t.lr, -t.momentum))


@contextmanager
def reporting(rounds: Sequence[tuple[int, int]],
              verbose: bool) -> Iterator[Callable[[int, Trial | None, Trial], object]]:
    """Give the function to call with each trial and at the end of each round."""
    def text(best: Trial) -> str:
        return "" if best.loss != best.loss else (
            f"best so far: lr {best.lr:.3g}, momentum {best.momentum:g}, loss {best.loss:.4g}")

    if not verbose:
        yield lambda i, trial, best: None
    elif sys.stdout.isatty() and can_show_bars():
        with progress_bar(sys.stdout, sum(count for count, _ in rounds), "tune",
                          unit="run") as bar:
            def update(i: int, trial: Trial | None, best: Trial) -> None:
                bar.set_postfix_str(text(best), refresh=False)
                bar.update(trial is not None)
            yield update
    else:
        def line(i: int, trial: Trial | None, best: Trial) -> None:
            if trial is None:
                count, samples = rounds[i]
                print(f"round {i + 1} of {len(rounds)}: {count} pair{'s' * (count > 1)} to "
                      f"{samples:,} samples; {text(best)}", flush=True)
        yield line
