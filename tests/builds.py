"""The instruction-set builds of the kernels, and what the layers' module offers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from fastmom.kernels import isa


@contextmanager
def using(name: str) -> Iterator[None]:
    before = isa.in_use()
    isa.use(name)
    try:
        yield
    finally:
        isa.use(before)


def functions(module: ModuleType) -> set[str]:
    """The public functions and classes that a compiled module defines."""
    return {name for name, value in vars(module).items()
            if callable(value) and value.__module__ == module.__name__ and name[0] != "_"}
