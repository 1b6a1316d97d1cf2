"""Options and fixtures: ``pytest bench`` runs the quick benchmarks, ``pytest bench --full`` all.

A table is a case, its rows are who does the work. A row is one test, so that pytest-benchmark's
options to select, store and compare work: ``-k``, ``--benchmark-json``, ``--benchmark-autosave``,
``--benchmark-compare``. What is timed was checked before, and is looked at again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastmom as fm
from fastmom.data import load_digits

# pytest-benchmark's options, where the command line has none. A round takes a millisecond at least:
# shorter ones would weigh down the stored runs and measure the clock.
QUICK = {"min_time": "0.001", "max_time": "0.2", "min_rounds": 5, "disable_gc": True,
         "columns": ["min", "median", "iqr", "rounds"]}
FULL = QUICK | {"max_time": "0.5", "min_rounds": 7}
MODES = {False: "quick (under 3 minutes; --full for all sizes and optimizers)",
         True: "full (under 30 minutes, 8 GB of memory)"}
ONE, ALL = "fastmom, 1 thread", "fastmom, all threads"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run all benchmarks, not the quick ones")


@pytest.hookimpl(tryfirst=True)     # pytest-benchmark reads its options in its own
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: runs with --full only")
    given = {arg.partition("=")[0] for arg in config.invocation_params.args}
    for name, value in (FULL if config.option.full else QUICK).items():
        if f"--benchmark-{name.replace('_', '-')}" not in given:
            setattr(config.option, f"benchmark_{name}", value)


def pytest_report_header(config: pytest.Config) -> str:
    return f"benchmarks: {MODES[config.option.full]}; {fm.get_num_threads()} threads"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.full:
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    items[:] = [item for item in items if not item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)


def pytest_benchmark_group_stats(benchmarks: list[Any], group_by: str) -> Any:
    """Tables in the order of the tests, whose rows say only what differs."""
    if group_by != "group":
        return None
    groups: dict[str, list[Any]] = {}
    for bench in benchmarks:
        bench["name"] = bench["extra_info"].get("row", bench["name"])
        groups.setdefault(bench["group"], []).append(bench)
    return list(groups.items())


def pytest_benchmark_update_machine_info(config: pytest.Config,
                                         machine_info: dict[str, Any]) -> None:
    """Store the facts that comparisons need, and leave out the clock rate of the moment."""
    for name in [name for name in machine_info["cpu"] if name.startswith("hz_actual")]:
        del machine_info["cpu"][name]
    machine_info |= {"fastmom": fm.__version__, "numpy": np.__version__,
                     "threads": fm.get_num_threads(), "mode": MODES[config.option.full]}


def rows(*tables: tuple[Any, list[str], bool]) -> pytest.MarkDecorator:
    """Parametrize a test by ``case, who``, from (case, rows, whether with --full only).

    A case is a string, the table's title, or a tuple whose string that is.
    """
    marks = {False: (), True: (pytest.mark.full,)}
    return pytest.mark.parametrize(("case", "who"), [
        pytest.param(case, who, id=f"{case}: {who}".replace(",", ""), marks=marks[full])
        for case, names, full in tables for who in names])      # -k takes no commas


def teams(elements: int) -> list[str]:
    """Return the rows of fastmom: few elements are one thread's work whatever the limit."""
    return [ONE, ALL] if elements >= 32768 and fm.get_num_threads() > 1 else [ONE]


@pytest.fixture
def measure(benchmark: Any, case: Any, who: str) -> Iterator[Callable[..., None]]:
    """Time a function as this row of this table, with the row's number of threads."""
    benchmark.group = str(case)
    benchmark.extra_info |= {"row": who, "control": "fastmom" not in who}

    def run(work: Callable[[], Any], limit: str = "cache", prepare: Callable[[], Any] | None = None,
            rounds: int = 50) -> None:
        """Time `work`; if every single call has to be prepared, so many calls.

        How much the machine disturbs it depends on what limits it: see `bench.compare`.
        """
        benchmark.extra_info["limit"] = "threads" if who.startswith(ALL) else limit
        if prepare is None:
            benchmark(work)
        else:
            benchmark.pedantic(work, setup=prepare, rounds=rounds, warmup_rounds=2)

    with ExitStack() as stack:
        if who.startswith(ONE):
            stack.enter_context(fm.num_threads(1))
            stack.enter_context(threadpool_limits(1, user_api="blas"))
        yield run


@pytest.fixture(scope="session")
def digits() -> tuple[Any, Any]:
    """10,000 of the built-in digits: nothing is downloaded."""
    return load_digits(10_000, 100, cache=False)[0]


def assert_finite(arrays: list[Any]) -> None:
    assert all(np.isfinite(a).all() for a in arrays)
