"""Hyper-parameters as descriptors: declared in a class body, checked when assigned.

An optimizer's class body lists its hyper-parameters, each with name, default, range and
documentation; the constructor's signature and the docstring's list of parameters follow from that.
A value either takes effect or raises an error that names it, what was given and what is allowed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Self,
    TypeVar,
    dataclass_transform,
    overload,
)

from fastmom import checks

if TYPE_CHECKING:
    from fastmom.optim.base import Optimizer
    from fastmom.types import Schedule

In = TypeVar("In")          # what can be assigned
Out = TypeVar("Out")        # what is read


class Described:
    """A class's signature or docstring, made by `fastmom.optim.describe` when it is asked for."""

    def __init__(self, *arguments: str) -> None:
        self.function, *self.arguments = arguments

    def __get__(self, instance: object, owner: type) -> Any:
        from fastmom.optim import describe
        return getattr(describe, self.function)(owner, *self.arguments)


class Hyper(Generic[In, Out]):
    """A hyper-parameter.

    Parameters
    ----------
    default
        Value without an argument.
    doc : str
        One or two sentences for the docstring; type, range and default are added to it.
    kw_only : bool
        Whether the constructor takes it by name alone.
    shared : bool
        Whether it is one for the whole optimizer instead of one per parameter group.
    at_binding : bool
        Whether it takes effect when the optimizer gets its parameters, and cannot change later.
    """

    annotation: ClassVar[str]       # of the constructor's argument

    def __init__(self, default: Any, *, doc: str = "", kw_only: bool = False, shared: bool = False,
                 at_binding: bool = False) -> None:
        self.default, self.kw_only, self.shared, self.at_binding = (default, kw_only, shared,
                                                                    at_binding)
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, optimizer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, optimizer: Optimizer, owner: type) -> Out: ...
    def __get__(self, optimizer: Optimizer | None, owner: type) -> Any:
        return self if optimizer is None else optimizer._values(self)[self.name]

    def __set__(self, optimizer: Optimizer, value: In) -> None:
        optimizer._values(self)[self.name] = value

    def check(self, value: Any) -> Any:
        """Return the value as it will be used, or raise."""
        raise NotImplementedError

    def kind(self) -> str:
        """Type and range, for the docstring."""
        raise NotImplementedError


class Number(Hyper["float | Schedule", "float | Any"]):
    """A finite real number in an interval, or a schedule of such: any callable of the step."""

    annotation = "float | Schedule"

    def __init__(self, default: float | None, low: float = 0.0, high: float = math.inf, *,
                 open_low: bool = False, open_high: bool = False, **options: Any) -> None:
        super().__init__(default, **options)
        self.low, self.high = low, high
        self.open_low, self.open_high = open_low, open_high

    def check(self, value: Any) -> Any:
        return value if callable(value) and not self.at_binding else self.check_number(value)

    def check_number(self, value: Any) -> float:
        """`check`, but no schedule is allowed."""
        return checks.number(self.name, value, self.low, self.high, open_low=self.open_low,
                             open_high=self.open_high)

    def kind(self) -> str:
        return f"float {checks.interval(self.low, self.high, self.open_low, self.open_high)}"


class Momentum(Number):
    """A number from 0 to 1. Exactly 1 is allowed, with a warning, the first time."""

    warned = False

    def __init__(self, default: float, **options: Any) -> None:
        super().__init__(default, 0.0, 1.0, **options)

    def check_number(self, value: Any) -> float:
        number = super().check_number(value)
        if number == 1 and not Momentum.warned:
            Momentum.warned = True
            warnings.warn("momentum=1.0 never forgets a gradient: the velocity has no friction, so "
                          "training diverges unless something else slows it down; 0.9 to 0.99 is "
                          "usual", UserWarning, stacklevel=2)
        return number


class Beta(Number):
    """A number from 0 to below 1: how much of a running mean a step keeps."""

    def __init__(self, default: float, **options: Any) -> None:
        super().__init__(default, 0.0, 1.0, open_high=True, **options)


class Limit(Number):
    """A number above 0, or None for no limit."""

    annotation = "float | Schedule | None"

    def __init__(self, default: float | None, **options: Any) -> None:
        super().__init__(default, open_low=True, **options)

    if TYPE_CHECKING:       # as for every number, and None
        def __set__(self, optimizer: Optimizer, value: float | Schedule | None) -> None: ...

    def check_number(self, value: Any) -> Any:
        return None if value is None else checks.number(self.name, value, 0.0, open_low=True,
                                                        optional=True)

    def kind(self) -> str:
        return "float > 0 or None"


class Integer(Hyper[int, int]):
    """An integer from `low` to `high`."""

    annotation = "int"

    def __init__(self, default: int, low: int, high: int, **options: Any) -> None:
        super().__init__(default, **options)
        self.low, self.high = low, high

    def check(self, value: Any) -> int:
        return checks.integer(self.name, value, self.low, self.high)

    def kind(self) -> str:
        return f"int from {self.low} to {self.high}"


class Numbers(Hyper[Sequence[float], tuple[float, ...]]):
    """A tuple of `least` to `most` numbers, each as `one` allows."""

    annotation = "Sequence[float]"

    def __init__(self, default: tuple[float, ...], one: Number, least: int, most: int,
                 **options: Any) -> None:
        super().__init__(default, **options)
        self.one, self.least, self.most = one, least, most

    def check(self, value: Any) -> tuple[float, ...]:
        if not isinstance(value, (tuple, list)):
            raise checks.wrong(self.name, value, f"a {self.kind()}", TypeError)
        if not self.least <= len(value) <= self.most:
            raise checks.wrong(self.name, value, f"a {self.kind()}")
        self.one.name = f"each of {self.name}"
        return tuple(map(self.one.check_number, value))

    def kind(self) -> str:
        few = f"{self.least} to " * (self.least < self.most)
        return f"tuple of {few}{self.most} numbers"


class Flag(Hyper[bool, bool]):
    """True or False."""

    annotation = "bool"

    def __init__(self, default: bool, **options: Any) -> None:
        super().__init__(default, **options)

    def check(self, value: Any) -> bool:
        return checks.flag(self.name, value)

    def kind(self) -> str:
        return "bool"


class Choice(Hyper[str, str]):
    """One of a few words."""

    annotation = "str"

    def __init__(self, default: str, words: tuple[str, ...], **options: Any) -> None:
        super().__init__(default, **options)
        self.words = words

    def check(self, value: Any) -> str:
        return checks.choice(self.name, value, self.words)

    def kind(self) -> str:
        return "{" + ", ".join(f'"{word}"' for word in self.words) + "}"


class Formats(Hyper["str | Mapping[str, str] | None", "str | dict[str, str] | None"]):
    """The name of a number format, or such names by the names of buffers; None for the usual."""

    annotation = "str | Mapping[str, str] | None"

    def __init__(self, default: None, words: tuple[str, ...], named: tuple[str, ...],
                 **options: Any) -> None:
        super().__init__(default, **options)
        self.words, self.named = words, named       # of all, and of those in a dict

    def check(self, value: Any) -> str | dict[str, str] | None:
        if value is None or isinstance(value, str):
            return value if value is None else checks.choice(self.name, value, self.words)
        if not isinstance(value, Mapping) or not value:
            raise checks.wrong(self.name, value, f"one of {', '.join(map(repr, self.words))}, a "
                               f"dict of such by names of state, or None", TypeError)
        return {name: checks.choice(f"{self.name}[{name!r}]", word, self.named)
                for name, word in value.items()}

    def kind(self) -> str:
        return "{" + ", ".join(f'"{word}"' for word in self.words) + "}, dict of such, or None"


def argument(*, default: Any, kw_only: bool) -> Any:
    """Declare an argument of the constructor that is no hyper-parameter."""
    return default


@dataclass_transform(eq_default=False, field_specifiers=(
    Number, Momentum, Beta, Limit, Integer, Numbers, Flag, Choice, Formats, argument))
class Declared:
    """A class whose constructor and documentation follow from the hyper-parameters in its body.

    Type checkers see a dataclass; the signature and the docstring's list of parameters are made
    when they are asked for.
    """

    __signature__ = Described("signature")
    _hypers: ClassVar[dict[str, Hyper[Any, Any]]] = {}
    _group_hypers: ClassVar[dict[str, Hyper[Any, Any]]] = {}
    _shared_hypers: ClassVar[dict[str, Hyper[Any, Any]]] = {}

    def __init_subclass__(cls) -> None:
        hypers = {name: value for base in reversed(cls.__mro__)
                  for name, value in vars(base).items() if isinstance(value, Hyper)}
        cls._hypers = hypers
        cls._group_hypers = {n: h for n, h in hypers.items() if not h.shared}
        cls._shared_hypers = {n: h for n, h in hypers.items() if h.shared}
        if cls.__doc__ and hypers:
            setattr(cls, "__doc__", Described("docstring", cls.__doc__))  # noqa: B010

    @classmethod
    def _named(cls, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
        """Return the constructor's arguments after `params` by name, or raise."""
        names = [name for name, hyper in cls._group_hypers.items() if not hyper.kw_only]
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__} takes at most {len(names) + 1} arguments by position, "
                            f"params, {', '.join(names)}; not {len(args) + 1}")
        for name in names[:len(args)]:
            if name in given:
                raise TypeError(f"{cls.__name__} got {name!r} by position and by name")
        checks.reject_unknown(cls.__name__, given, {"params", "copies", *cls._hypers})
        return {**dict(zip(names, args, strict=False)), **given}
