"""Signatures and docstrings of optimizers from their declarations, made when asked for."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmom.optim.hyper import Declared, Hyper

SECTION = re.compile(r"^\w+\n-+$", re.MULTILINE)        # of a numpydoc docstring
WIDTH = 96
PARAMS = "params : list of ndarray, or list of dict, or None"
PARAMS_DOC = """\
C-contiguous, writable float32, float64, float16 or bfloat16 arrays, updated in place, also in files
mapped with `numpy.memmap` (see `flush`); or groups ``{"params": [...], "lr": ...}`` with
hyper-parameters of their own. None leaves the optimizer unbound until a model (or `bind`) gives it
parameters."""

COPIES_DOC = "Arrays that each step fills with the new parameters: see `bind`."


def signature(cls: type[Declared]) -> inspect.Signature | None:
    """Return the constructor's signature; None, for the actual one, of a class that defines it."""
    if next(base for base in cls.__mro__ if "__init__" in vars(base)) is not _root(cls):
        return None
    by_name = inspect.Parameter.KEYWORD_ONLY
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([
        inspect.Parameter("params", either, default=None, annotation="Params | None"),
        *(inspect.Parameter(hyper.name, by_name if hyper.kw_only else either,
                            default=hyper.default, annotation=hyper.annotation)
          for hyper in _in_order(cls)),
        inspect.Parameter("copies", by_name, default=None, annotation="Copies | None")])


def docstring(cls: type[Declared], text: str) -> str:
    """Return the docstring with the section of parameters before the first other section."""
    text = inspect.cleandoc(text)
    section = SECTION.search(text)
    at = section.start() if section else len(text)
    lines = [text[:at].rstrip(), "", "Parameters", "----------", *_entries(cls), "", text[at:]]
    return "\n".join(lines).rstrip()


def _root(cls: type[Declared]) -> Any:
    """Return the optimizers' common base; None of a class above it."""
    return next((base for base in cls.__mro__ if base.__name__ == "Optimizer"), None)


def _in_order(cls: type[Declared]) -> list[Hyper[Any, Any]]:
    """All hyper-parameters as the constructor takes them."""
    return sorted(cls._hypers.values(), key=lambda hyper: hyper.kw_only)


def _entries(cls: type[Declared]) -> Iterator[str]:
    root = _root(cls)
    common = [hyper.name for hyper in _in_order(root)]
    yield PARAMS
    yield from _indented(PARAMS_DOC if cls is root else f"See `{root.__name__}`.")
    for hyper in _in_order(cls):
        if cls is root or hyper.name not in common:
            yield f"{hyper.name} : {hyper.kind()}, default {_shown(hyper.default)}"
            yield from _indented(hyper.__doc__ or "")
    if cls is root:
        yield "copies : list of (ndarray or None), optional"
        yield from _indented(COPIES_DOC)
    else:
        yield ", ".join([*common, "copies"])
        yield from _indented(f"See `{root.__name__}`.")


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
