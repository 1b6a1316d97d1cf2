"""Values of hyper-parameters, checked when assigned and read for a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, cast

from fastmom import checks
from fastmom.optim.hyper import Hyper, Number

if TYPE_CHECKING:
    from fastmom.optim.groups import Grouped


class Values(MutableMapping[str, Any]):
    """Checked hyper-parameters of one group (with its `params`) or of the whole optimizer.

    Assigning checks the value alone, then the combination; a rejected one changes nothing.
    """

    def __init__(self, optimizer: Grouped, hypers: dict[str, Hyper[Any, Any]],
                 given: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
        self._optimizer = optimizer
        self._hypers = hypers
        self._fixed = fixed
        values = {name: hyper.check(given.get(name, hyper.default))
                  for name, hyper in hypers.items()}
        optimizer._check_together(values)
        self.hold(values)

    def hold(self, values: dict[str, Any]) -> None:
        """Take these values, which are checked."""
        self._values = values
        self.scheduled = [name for name, value in values.items() if callable(value)]

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
        self.hold(changed)
        self._optimizer._changed()

    def at(self, step: int) -> Mapping[str, Any]:
        """Return the values in force at a step, each schedule's checked like an assigned one."""
        if not self.scheduled:
            return self._values
        now = dict(self._values)
        for name in self.scheduled:
            schedule, number = now[name], cast("Number", self._hypers[name])
            try:
                now[name] = number.check_number(schedule(step))
            except (TypeError, ValueError) as error:
                raise type(error)(f"schedule {schedule!r} at step {step}: {error}") from error
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
