"""Hyper-parameters as descriptors: declared in a class body, checked when assigned.

A value either takes effect or raises an error that names it, what was given and what is allowed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from fastmom import checks

if TYPE_CHECKING:
    from fastmom.optim.base import Optimizer
    from fastmom.types import Schedule


class Hyper:
    """A hyper-parameter that lives in the optimizer's parameter groups."""

    shared = False      # whether it is one for all groups instead
    at_binding = False  # whether it takes effect when the optimizer gets its parameters, not later

    def __init__(self, default: Any) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Optimizer | None, owner: type) -> Any:
        if optimizer is None:
            return self
        return optimizer._values(self)[self.name]

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        optimizer._values(self)[self.name] = value

    def check(self, value: Any) -> Any:
        """Return the value as it will be used, or raise."""
        raise NotImplementedError


class Number(Hyper):
    """A finite real number in an interval, or a schedule of such: any callable of the step.

    `None` too where that means off.
    """

    def __init__(self, default: float | None, low: float = 0.0, high: float = math.inf, *,
                 open_low: bool = False, open_high: bool = False,
                 at_binding: bool = False) -> None:
        super().__init__(default)
        self.low, self.high = low, high
        self.open_low, self.open_high, self.at_binding = open_low, open_high, at_binding

    def check(self, value: Any) -> float | Schedule | None:
        return value if callable(value) and not self.at_binding else self.check_number(value)

    def check_number(self, value: Any) -> float | None:
        """`check`, but no schedule is allowed."""
        optional = self.default is None
        if optional and value is None:
            return None
        return checks.number(self.name, value, self.low, self.high, open_low=self.open_low,
                             open_high=self.open_high, optional=optional)


class Momentum(Number):
    """A number from 0 to 1. Exactly 1 is allowed, with a warning, the first time."""

    warned = False

    def __init__(self, default: float) -> None:
        super().__init__(default, 0.0, 1.0)

    def check_number(self, value: Any) -> float | None:
        number = super().check_number(value)
        if number == 1 and not Momentum.warned:
            Momentum.warned = True
            warnings.warn("momentum=1.0 never forgets a gradient: the velocity has no friction, so "
                          "training diverges unless something else slows it down; 0.9 to 0.99 is "
                          "usual", UserWarning, stacklevel=2)
        return number


class Numbers(Hyper):
    """A tuple of one to `most` numbers, each as `one` allows."""

    def __init__(self, default: tuple[float, ...], one: Number, most: int) -> None:
        super().__init__(default)
        self.one, self.most = one, most

    def check(self, value: Any) -> tuple[float, ...]:
        allowed = f"a tuple of 1 to {self.most} numbers"
        if not isinstance(value, (tuple, list)):
            raise checks.wrong(self.name, value, allowed, TypeError)
        if not 1 <= len(value) <= self.most:
            raise checks.wrong(self.name, value, allowed)
        self.one.name = f"each of {self.name}"
        return tuple(self.one.check_number(number) or 0.0 for number in value)


class Flag(Hyper):
    """True or False."""

    def check(self, value: Any) -> bool:
        return checks.flag(self.name, value)


class Choice(Hyper):
    """One of a few words; the first is the default."""

    def __init__(self, *words: str) -> None:
        super().__init__(words[0])
        self.words = words

    def check(self, value: Any) -> str:
        return checks.choice(self.name, value, self.words)


def shared(hyper: Hyper) -> Hyper:
    """Mark a hyper-parameter as one for the whole optimizer, not per group."""
    hyper.shared = True
    return hyper


class Values(MutableMapping[str, Any]):
    """Checked hyper-parameters of one group (with its `params`) or of the whole optimizer.

    Assigning checks the value alone, then the combination; a rejected one changes nothing.
    """

    def __init__(self, optimizer: Optimizer, hypers: dict[str, Hyper], given: dict[str, Any],
                 fixed: dict[str, Any]) -> None:
        self._optimizer = optimizer
        self._hypers = hypers
        self._fixed = fixed
        self._values = {name: hyper.check(given.get(name, hyper.default))
                        for name, hyper in hypers.items()}
        optimizer._check_together(self._values)

    def __getitem__(self, name: str) -> Any:
        return self._fixed[name] if name in self._fixed else self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self._fixed:
            raise TypeError(f"{name!r} of a group cannot be replaced")
        checks.reject_unknown(type(self._optimizer).__name__, [name], self._hypers)
        checked = self._hypers[name].check(value)
        if self._hypers[name].at_binding and self._optimizer._engine is not None:
            raise ValueError(f"{name} takes effect when the optimizer gets its parameters; it has "
                             f"them, so {name} cannot become {value!r}")
        changed = self._values | {name: checked}
        self._optimizer._check_together(changed)
        self._values = changed
        self._optimizer._changed()

    @property
    def scheduled(self) -> bool:
        """Whether a value changes by itself."""
        return any(map(callable, self._values.values()))

    def at(self, step: int) -> Mapping[str, Any]:
        """The values in force at a step, each schedule's checked like an assigned one."""
        if not self.scheduled:
            return self._values
        now = {}
        for name, value in self._values.items():
            hyper = self._hypers[name]
            if isinstance(hyper, Number) and callable(value):
                try:
                    value = hyper.check_number(value(step))
                except (TypeError, ValueError) as error:
                    raise type(error)(f"schedule {value!r} at step {step}: {error}") from error
            now[name] = value
        self._optimizer._check_together(now)
        return now

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"hyper-parameter {name!r} cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter({**self._fixed, **self._values})

    def __len__(self) -> int:
        return len(self._fixed) + len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)
