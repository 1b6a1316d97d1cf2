"""Import optional libraries, and say how to install one that is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def need(module: str, extra: str, purpose: str, package: str | None = None) -> Any:
    """Import a module of an optional library.

    Parameters
    ----------
    module : str
        Its full name, such as ``"matplotlib.figure"``.
    extra : str
        The extra of fastmom that installs it, such as ``"plot"``.
    purpose : str
        What needs it, in the plural, to begin the message with: ``"figures"``.
    package : str, optional
        The name that pip knows the library by, if it is not the module's first name.

    Returns
    -------
    module

    Raises
    ------
    ModuleNotFoundError
        If the library is not installed; says how to install it. The library by itself is named
        first, since that works however fastmom was installed. An installed library that fails
        to import raises its own error.

    Examples
    --------
    >>> need("json", "plot", "figures").dumps([1])
    '[1]'
    >>> need("matplotplot.figure", "plot", "figures")
    Traceback (most recent call last):
    ...
    ModuleNotFoundError: figures need matplotplot: pip install matplotplot (or all that they can \
need: pip install "fastmom[plot]", in a clone pip install -e ".[plot]")
    """
    library = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise
    name = package or library
    raise ModuleNotFoundError(
        f"{purpose} need {name}: pip install {name} (or all that they can need: "
        f'pip install "fastmom[{extra}]", in a clone pip install -e ".[{extra}]")', name=library)
