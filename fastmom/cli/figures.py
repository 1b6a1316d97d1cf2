"""The figures of ``fastmom train --plot`` and ``fastmom compare``, and what stands above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastmom import plot
from fastmom.optim import Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = {"mnist": "MNIST", "digits": "synthetic digits"}
ALWAYS = "lr", "momentum"                           # shown whatever they are
OTHERS = "nesterov", "decay", "weight_decay"        # shown if they have an effect


def figure_of_training(curves: Mapping[str, Any], optimizer: Optimizer, data: str,
                       settings: Mapping[str, Any], *, momentum: float | None = None) -> Figure:
    """Draw the curves of ``fastmom train``."""
    above = title(data, settings, f"seed {settings['seed']}")
    return plot.plot_history({repr(optimizer): [curves]}, momentum=momentum, title=above,
                             dropout=settings["dropout"] > 0)


def figure_of_comparison(histories: Mapping[str, Sequence[Mapping[str, Any]]],
                         optimizers: Mapping[str, Optimizer], data: str,
                         settings: Mapping[str, Any], *, momentum: float | None = None) -> Figure:
    """Draw the curves of ``fastmom compare``; labels and title say what differs and what not."""
    hyper = {label: hyper_of(optimizers[label]) for label in histories}
    first = next(iter(hyper.values()))
    shared = [text for text in first.values() if all(text in of.values() for of in hyper.values())]
    labelled = {", ".join([label, *(of[name] for name in ALWAYS if name in of
                                    and of[name] not in (label, *shared))]): histories[label]
                for label, of in hyper.items()}
    seeds = max(map(len, histories.values()))
    above = title(data, settings, f"seeds 0 to {seeds - 1}" if seeds > 1 else "seed 0")
    if shared:
        above += f"\nall with {', '.join(shared)}"
    return plot.plot_history(labelled, momentum=momentum, title=above,
                             dropout=settings["dropout"] > 0)


def title(data: str, settings: Mapping[str, Any], seeds: str) -> str:
    """Return data, batch and network as one line."""
    hidden = "-".join(map(str, settings["hidden"]))
    return (f"{DATA.get(data, data)}, batch {settings['batch_size']}, hidden layers {hidden}, "
            f"dropout {settings['dropout']:g}, {seeds}")


def hyper_of(optimizer: Optimizer) -> dict[str, str]:
    """Return the hyper-parameters by name, as text."""
    values = {name: getattr(optimizer, name) for name in (*ALWAYS, *OTHERS)
              if hasattr(optimizer, name)}
    return {name: "Nesterov" if value is True else f"{name.replace('_', ' ')} {value:g}"
            for name, value in values.items() if name in ALWAYS or value}
