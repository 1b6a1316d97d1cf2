"""Base of the schedules, which are values and have a form as data; their curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from fastmom.checks import integer


class Schedule:
    """Base of all schedules: ``schedule(step)`` is the value for the step, counted from 0.

    A schedule is immutable, equal to another with the same arguments, and its `repr` evaluates back
    to it. A subclass hands its arguments to ``super().__init__`` and defines ``_value(step)``.

    Raises
    ------
    TypeError, ValueError
        From every schedule, if an argument is wrong or `step` is not an integer >= 0.

    Examples
    --------
    >>> from fastmom.optim.schedules import Linear, Schedule
    >>> momentum = Linear(start=0.5, end=0.9, steps=1000)
    >>> momentum.to_dict()
    {'schedule': 'Linear', 'start': 0.5, 'end': 0.9, 'steps': 1000}
    >>> Schedule.from_dict(momentum.to_dict()) == momentum
    True
    """

    _kinds: ClassVar[dict[str, type[Schedule]]] = {}

    def __init_subclass__(cls) -> None:
        Schedule._kinds[cls.__name__] = cls

    def __init__(self, **arguments: Any) -> None:
        vars(self).update(arguments)

    def __call__(self, step: int) -> float:
        if type(step) is not int or step < 0:       # the quick case first: this runs at every step
            step = integer("step", step, 0)
        return self._value(step)

    def _value(self, step: int) -> float:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return it as data for JSON: the name under ``"schedule"``, and the arguments."""
        return {"schedule": type(self).__name__, **{k: _plain(v) for k, v in vars(self).items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a schedule from the data that `to_dict` returned.

        Raises
        ------
        TypeError, ValueError
            If `data` does not describe one, or one of another class than this is called on.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"data must be a dict from to_dict, not {data!r}")
        kinds = {name: kind for name, kind in cls._kinds.items() if issubclass(kind, cls)}
        arguments = {name: _revived(value) for name, value in data.items()}
        name = arguments.pop("schedule", None)
        if not isinstance(name, str) or name not in kinds:
            raise ValueError(f"data['schedule'] must be one of {', '.join(map(repr, kinds))}, "
                             f"not {name!r}")
        return kinds[name](**arguments)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a schedule cannot be changed; make another")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: a schedule cannot be changed; make another")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


def _plain(value: Any) -> Any:
    """Return an argument as JSON has it."""
    if isinstance(value, Schedule):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return dict(value) if isinstance(value, dict) else value


def _revived(value: Any) -> Any:
    """Return an argument from its form in JSON."""
    if isinstance(value, Mapping) and "schedule" in value:
        return Schedule.from_dict(value)
    return [_revived(entry) for entry in value] if isinstance(value, list) else value


def between(start: float, end: float, part: float) -> float:
    """Go straight from `start` at part 0 to `end` at part 1, both exactly."""
    value = start * (1 - part) + end * part
    # Rounding must not take, say, a momentum beyond 1.
    return min(max(value, min(start, end)), max(start, end))


def cosine(start: float, end: float, part: float) -> float:
    """Go from `start` to `end` along half a cosine."""
    return between(start, end, (1 - math.cos(math.pi * part)) / 2)


def power(start: float, factor: float, times: float) -> float:
    """Return ``start * factor**times``; infinity, which optimizers refuse by name, if too large."""
    try:
        return start * math.pow(factor, times)
    except OverflowError:
        return math.inf if start else 0.0
