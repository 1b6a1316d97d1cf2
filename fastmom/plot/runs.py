"""The numbers of training runs, as arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastmom.nn.callbacks.aliased import Metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmom.nn.callbacks.history import History

    Doubles: TypeAlias = NDArray[np.float64]
    Run: TypeAlias = History | Mapping[str, Sequence[float | None]]
    Runs: TypeAlias = Run | Sequence[Run]

HELD_OUT = {"val_": "validation", "test_": "test"}      # prefixes, and what the axes say
CURVES = ("loss", "batch_loss", "accuracy",
          *(f"{prefix}{name}" for prefix in HELD_OUT for name in ("loss", "accuracy")))


def labelled(histories: Any) -> dict[str, list[Run]]:
    """Return the runs of each label. Runs without one get their optimizer's text, or none."""
    if is_run(histories):
        return {getattr(histories, "optimizer", ""): [histories]}
    if isinstance(histories, Mapping):
        return {label: [runs] if is_run(runs) else list(runs)
                for label, runs in histories.items()}
    if isinstance(histories, Sequence) and not isinstance(histories, str):
        return {getattr(next(iter(histories), None), "optimizer", ""): list(histories)}
    raise TypeError(f"histories must be a History, its dict, a list of them or a dict of label to "
                    f"them, not {histories!r}")


def is_run(given: Any) -> bool:
    """Return whether this is a history or its dict, and not runs by label."""
    if isinstance(given, Mapping):
        return bool(given) and not any(
            is_run(value) or (isinstance(value, Sequence) and any(map(is_run, value)))
            for value in given.values())
    return hasattr(given, "history")


def stacked(label: str, runs: Sequence[Any]) -> dict[str, Doubles]:
    """Return the curves of a label's runs by name, each of shape (runs, epochs or steps)."""
    of = f"of {label!r}" if label else "of the history"
    if not runs:
        raise ValueError(f"histories: {label!r} has no runs")
    found = [Metrics(getattr(run, "history", run)) for run in runs]
    names = [[name for name in CURVES if name in run] for run in found]
    if "loss" not in names[0] or any(other != names[0] for other in names):
        raise ValueError(f"histories: each run {of} must have 'loss', and all the same "
                         f"names; they have {', '.join(map(str, names))}")
    curves = {}
    for name in names[0]:
        lengths = {len(run[name]) for run in found}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"histories: the runs {of} must be equally long and not empty; "
                             f"{name!r} has {', '.join(map(str, sorted(lengths)))} numbers")
        curves[name] = np.array([run[name] for run in found], np.float64)
        curves[name][~np.isfinite(curves[name])] = np.nan
    return curves


def common_names(curves: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the names of the curves, which must be the same for all labels."""
    first, *others = curves
    for other in others:
        if curves[other].keys() != curves[first].keys():
            raise ValueError(f"histories: {other!r} has {', '.join(curves[other])}, but {first!r} "
                             f"has {', '.join(curves[first])}")
    return set(curves[first])


def held_out(names: Collection[str]) -> str:
    """Return the prefix of the held-out metrics."""
    found = [prefix for prefix in HELD_OUT if any(name.startswith(prefix) for name in names)]
    if len(found) > 1:
        raise ValueError(f"histories: there must be metrics of a validation or of a test set, not "
                         f"of both: {', '.join(sorted(names))}")
    return found[0] if found else "val_"


def diverged(curve: Doubles) -> int:
    """Return how many of the runs have no number at the end."""
    return int(np.isnan(curve[:, -1]).sum())


def mean_of(curves: Doubles) -> Doubles:
    """Return the mean over the runs that have a number there."""
    there = np.isfinite(curves)
    count = there.sum(axis=0)
    total = np.where(there, curves, 0.0).sum(axis=0)
    mean: Doubles = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def centred_mean(curves: Doubles, window: int, at: NDArray[np.intp]) -> Doubles:
    """Return the mean of the `window` numbers around each place of `at`; gaps are left out.

    A causal average lags behind a falling loss. This one is centred, and narrower at the start,
    where the loss falls fastest: no wider than the place's own distance from it.
    """
    reach = np.minimum(window, at) // 2
    stop = np.minimum(at + reach + 1, curves.shape[-1])
    edges = np.stack([at - reach, stop], axis=1).ravel()
    there = np.isfinite(curves)
    total, count = (np.add.reduceat(np.pad(part, ((0, 0), (0, 1))), edges, axis=1)[:, ::2]
                    for part in (np.where(there, curves, 0.0), there.astype(np.float64)))
    mean: Doubles = np.where(there[:, at], total / np.maximum(count, 1), np.nan)
    return mean
