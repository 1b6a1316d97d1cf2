"""Things chosen by name, with one error for a name that is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def name_and_arguments(given: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split ``{name: argument}``, as files have it, into the name and its arguments."""
    if isinstance(given, dict) and len(given) == 1:
        (name, argument), = given.items()
        return name, (argument,)
    return given, ()


def by_name(argument: str, given: Any, table: Mapping[str, T], otherwise: str) -> T:
    """Return the table's entry of this name, in snake_case or camelCase (``"meanSquaredError"``).

    Raises
    ------
    ValueError
        If there is none. The message lists the names, and what else is allowed (`otherwise`).
    """
    name = re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", given) \
        if isinstance(given, str) else None
    if name is None or name not in table:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, table))} or {otherwise}, "
                         f"not {given!r}")
    return table[name]
