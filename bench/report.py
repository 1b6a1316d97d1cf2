"""The report, from stored results."""
from __future__ import annotations

from pathlib import Path

from bench.stored import Results


def write_report(results: Results, folder: Path) -> None:
    pass
