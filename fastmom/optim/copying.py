"""Copies of objects that hold parameters."""

from __future__ import annotations

from typing import Any, NoReturn


def refuse_shallow_copy(self: Any) -> NoReturn:
    """Raise TypeError: two such objects with the same arrays would both change them."""
    raise TypeError(f"a shallow copy of this {type(self).__name__} would share its arrays and "
                    f"change them too; use copy.deepcopy, which copies them, parameters included")
