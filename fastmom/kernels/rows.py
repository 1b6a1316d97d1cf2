"""Coefficients of update rules by name, on their way from an optimizer class to the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from fastmom.kernels.loops_baseline import rules

if TYPE_CHECKING:
    from fastmom.types import Row

P = ParamSpec("P")


def coefficients(rule: str) -> Callable[[Callable[P, None]], Callable[P, Row]]:
    """Make the function that packs a rule's coefficients, from a declaration of their names.

    Parameters
    ----------
    rule : str
        Name under which the kernels register the loop.

    Raises
    ------
    ImportError
        If there is no such rule, or the declared parameters are not its coefficients. It is raised
        by the declaration, so when the module is imported.

    Examples
    --------
    >>> @coefficients("sgd")
    ... def sgd(*, lr: float, wd: float, keep: float) -> None:
    ...     "``p = keep p - lr (g + wd p)``"
    >>> sgd(keep=1.0, wd=0.0, lr=0.5)[1:]
    (0.5, 0.0, 1.0)
    """
    if rule not in rules:
        raise ImportError(f"the kernels have no rule {rule!r}; they have {', '.join(rules)}")

    def pack(declaration: Callable[P, None]) -> Callable[P, Row]:
        function: Any = declaration
        names = function.__code__.co_varnames[:function.__code__.co_kwonlyargcount]
        if names != rules[rule]:
            raise ImportError(f"{function.__module__}.{function.__name__} names the coefficients "
                              f"{', '.join(names)}; the loop {rule!r} has "
                              f"{', '.join(rules[rule])}")
        scope: dict[str, Any] = {}
        # A call with keywords costs a third of what a named tuple does.
        listed, number = ", ".join(names), [*rules].index(rule)
        exec(f"def {rule}(*, {listed}): return {number}, {listed}", scope)
        packed = scope[rule]
        packed.__kwdefaults__, packed.__doc__ = function.__kwdefaults__, function.__doc__
        packed.__module__ = function.__module__
        return packed  # type: ignore[no-any-return]
    return pack
