"""Metrics by name, under their older names too."""

from __future__ import annotations

from typing import Any, TypeVar

from fastmom.nn.callbacks.base import ALIASES

Value = TypeVar("Value")


class Metrics(dict[str, Value]):
    """A dict of loss and metrics in which ``"acc"`` also finds ``"accuracy"``, and the reverse.

    The same holds with ``val_``. ``in``, ``[]`` and `get` agree; the keys are the real names.

    >>> metrics = Metrics(val_accuracy=[0.9])
    >>> metrics["val_acc"], metrics.get("val_acc"), "val_acc" in metrics, list(metrics)
    ([0.9], [0.9], True, ['val_accuracy'])
    """

    def __missing__(self, name: str) -> Value:
        if name in self:
            return self[ALIASES[name]]
        raise KeyError(f"{name!r} is not among {', '.join(map(repr, self)) or 'no metrics'}")

    def __contains__(self, name: object) -> bool:
        names = self.keys()
        return name in names or (isinstance(name, str) and ALIASES.get(name) in names)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default      # noqa: SIM401
