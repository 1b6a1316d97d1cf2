"""The public names of the package, and what importing it costs."""

import ast
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

import fastmom as fm


def test_dir_lists_the_public_names_alone() -> None:
    assert [name for name in dir(fm) if not name.startswith("__")] == sorted(fm.__all__)
    assert "__version__" in dir(fm)


@pytest.mark.parametrize("name", fm.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(fm, name)
    assert value is getattr(fm, name)
    if not hasattr(value, "__path__") and hasattr(value, "__name__"):
        assert value.__name__.split(".")[-1] == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fastmom' has no attribute 'SDG'"):
        _ = fm.SDG      # type: ignore[attr-defined]


def imports(path: Path, modules: Collection[str]) -> set[str]:
    """Return the modules that a file imports, at once or later, but not for type checkers alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in modules else str(node.module) for name in names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    if path.suffix == ".py":
        visit(ast.parse(path.read_text(encoding="utf-8")))
    return found & set(modules)


def test_imports_make_no_circle() -> None:
    package = Path(fm.__file__).parent
    modules = {".".join(("fastmom", *path.relative_to(package).with_suffix("").parts))
               .removesuffix(".__init__"): path for path in package.rglob("*.py*")
               if path.suffix in (".py", ".pyx")}
    waiting = {name: imports(path, modules) - {name} for name, path in modules.items()}
    assert {"fastmom", "fastmom.kernels.engine", "fastmom.optim.sgd"} <= set(waiting)
    while ready := {name for name, needed in waiting.items() if not needed & set(waiting)}:
        waiting = {name: needed for name, needed in waiting.items() if name not in ready}
    assert not waiting


def test_import_needs_little() -> None:
    """NumPy, the compiled part and the settings; optimizers, networks and plots wait."""
    code = ("import numpy, sys; before = set(sys.modules); import fastmom;"
            "print(*set(sys.modules) - before)")
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         check=True).stdout.split()
    own = {name for name in new if name.startswith("fastmom")}
    assert not {name for name in own if name.split(".")[1:2] not in (
        [], ["config"], ["threads"], ["kernels"])}
    assert {name for name in new if name not in own and "cython" not in name} <= {
        "__future__", "_bisect", "bisect", "threading"}
