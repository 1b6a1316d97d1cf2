"""The data, network and optimizer that `fastmom train` and `fastmom compare` make from options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from fastmom import data, nn
from fastmom.cli.options import option_of
from fastmom.extras import need
from fastmom.optim import Optimizer
from fastmom.optim.named import kind_of, make
from fastmom.optim.schedules import ReduceOnPlateau, Schedule

# Hyper-parameters that are options, and defaults that are not the optimizer's own.
HYPER = ("lr", "momentum", "nesterov", "decay", "weight_decay")
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.01, "momentum": 0.9, "nesterov": True, "decay": 1e-6},
}


def load_data(source: str) -> data.Dataset:
    """Load the data of ``--data``."""
    try:
        return data.load(source)
    except data.DownloadError as error:
        raise ValueError(f"--data {source}: {error}; set FASTMOM_DATA to a directory with its "
                         f"files, or give --data DIR or --data digits") from error
    except data.DataError as error:
        raise ValueError(f"--data {source}: {error}") from error


def make_optimizer(name: str, given: Mapping[str, Any]) -> Optimizer:
    """Make an optimizer from those options that were given.

    Raises
    ------
    ValueError
        Naming the option, if the optimizer has no such hyper-parameter or not with this value.
    """
    cls = kind_of(name)
    hyper = {name: given[name] for name in HYPER if name in given}
    for option, value in hyper.items():
        if not hasattr(cls, option):
            others = ", ".join(option_of(other) for other in HYPER if hasattr(cls, other))
            raise ValueError(f"{shown(option, value)}: {cls.__name__} has no {option}; its options "
                             f"are {others}")
    hyper |= {name: value.start for name, value in hyper.items()
              if isinstance(value, ReduceOnPlateau)}        # a callback sets the rest
    try:
        optimizer = make(name, DEFAULTS.get(name, {}) | hyper)
    except (TypeError, ValueError) as error:
        for option in hyper:
            if (said := re.sub(rf"\b{option} must", "must", str(error))) != str(error):
                raise ValueError(f"{shown(option, given[option])}: {said}") from error
        raise
    return optimizer


def shown(name: str, value: Any) -> str:
    """Return the option that has set a hyper-parameter to this value."""
    if value is False:
        return f"--no-{name}"
    return option_of(name) + "-schedule" * isinstance(value, Schedule)


def hyper_of(optimizer: Optimizer, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those hyper-parameters that the optimizer has, as data for JSON."""
    values = {name: given.get(name, getattr(optimizer, name)) for name in HYPER
              if hasattr(optimizer, name)}
    return {name: value.to_dict() if isinstance(value, Schedule) else value
            for name, value in values.items()}


def make_model(settings: Mapping[str, Any], image_shape: tuple[int, ...], seed: int,
               optimizer: Optimizer) -> nn.Sequential:
    """Make and compile the network of these hidden layers."""
    layers: list[nn.Layer] = [nn.Rescaling(1 / 255, input_shape=image_shape), nn.Flatten()]
    for units in settings["hidden"]:
        layers += [nn.Dense(units, activation="relu"), nn.Dropout(settings["dropout"])]
    model = nn.Sequential([*layers, nn.Dense(10, activation="softmax")], seed=seed)
    model.compile(optimizer, metrics=["accuracy"])
    return model


def shares(dataset: data.Dataset, split: float) -> tuple[int, int]:
    """Return how many of the training samples are trained on, and how many are held out.

    Raises
    ------
    ValueError
        If there are none of either, and there should be.
    """
    n = len(dataset.x_train)
    kept = int(n * (1 - split))     # as in `fit`
    if split and not 0 < kept < n:
        raise ValueError(f"--validation-split: {split} of {n:,} samples leaves {kept:,} to train "
                         f"on and {n - kept:,} to evaluate; both must be at least one")
    return kept, n - kept


def describe(dataset: data.Dataset, settings: Mapping[str, Any]) -> str:
    """Return the numbers of samples, the units of each layer and the number of parameters."""
    split = settings.get("validation_split", 0)
    kept, held_out = shares(dataset, split)
    samples = [f"{kept:,} training", *([f"{held_out:,} validation"] if split else []),
               f"{len(dataset.x_test):,} test"]
    pixels = dataset.x_train[0].size
    units = [pixels, *settings["hidden"], 10]
    parameters = sum((a + 1) * b for a, b in pairwise(units))
    return (f"{' + '.join(samples)} samples, layers {'-'.join(map(str, units))}, "
            f"{parameters:,} parameters")


def one_blas_thread() -> Any:
    """Limit BLAS to one thread: small products gain little from more, which change their bits."""
    return need("threadpoolctl", "cli", "trainings").threadpool_limits(1, user_api="blas")
