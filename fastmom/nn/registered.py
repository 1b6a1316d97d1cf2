"""Classes that files know by name, with the arguments that make an object again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

Check: TypeAlias = Callable[[Any], Any]     # from a value to the value as it is used, or an error

LAYERS: dict[str, type[Any]] = {}           # by the name in files; filled by subclassing
OWN_MODULES = "fastmom.nn."


class Registered:
    """Base of what is registered by being defined, under the name of the class or `name`.

    A class that is defined again replaces the earlier one; the library's keep their names.

    Attributes
    ----------
    arguments : dict of str to callable, or tuple of str
        The constructor's arguments that are attributes of the same names; where it is a dict, with
        their checks.
    kind : str
        The name in files.
    """

    arguments: ClassVar[Mapping[str, Check] | Sequence[str]] = ()
    kind: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None) -> None:
        cls.kind = name or cls.__name__
        if cls.__base__ is Registered:      # the base of all layers is none itself
            return
        known, own = LAYERS.get(cls.kind), cls.__module__.startswith(OWN_MODULES)
        if known is None or own or not known.__module__.startswith(OWN_MODULES):
            LAYERS[cls.kind] = cls
        elif name is not None:
            raise ValueError(f"name={name!r} is a layer of fastmom; give {cls.__name__} another")

    def describe(self) -> dict[str, Any]:
        """Return the registered name and the arguments as data for JSON.

        Raises
        ------
        TypeError
            If the object could not be made again from them.
        """
        name = type(self).__name__
        if LAYERS.get(self.kind) is not type(self):
            raise TypeError(f"{name} cannot be stored: {self.kind!r} is the name of another layer; "
                            f"define it with class {name}(nn.Layer, name='...')")
        for argument, parameter in inspect.signature(type(self)).parameters.items():
            needed = parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if needed and argument not in self.arguments:
                raise TypeError(f"{name} cannot be stored: its argument {argument!r} is not in "
                                f"{name}.arguments")
        return {"layer": self.kind, "arguments": {argument: described(getattr(self, argument))
                                                  for argument in self.arguments}}

    def __repr__(self) -> str:
        """Return the call that makes such an object, without arguments at their defaults."""
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            text, default = repr(getattr(self, name, "?")), parameter.default
            if default is parameter.empty:
                shown.append(text)
            elif text != repr(default) and not (default is None and text == "'linear'"):
                shown.append(f"{name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"


def described(value: Any) -> Any:
    """Return an argument as data for JSON: an activation, say, by its name."""
    describe = getattr(value, "describe", None)
    return value if describe is None else describe()
