"""The file of ``fastmom train --report``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastmom.cli.files import writing
from fastmom.playground.recording import Recording

__all__ = ["Recording", "recorder", "report"]

MEASURED = 1000     # steps whose lengths and angles are shown, or up to twice as many


def recorder(config: Mapping[str, Any], samples: int) -> Recording:
    """Return what records a training for its report."""
    return Recording(max(1, config["epochs"] * -(-samples // config["batch_size"]) // MEASURED))


def report(path: Path, recording: Recording, facts: list[str]) -> None:
    """Write the file of ``--report``."""
    if not recording.steps["step"]:
        print(f"no report {path}: no step was done")
        return
    from fastmom.playground.report import write_report
    with writing("--report", path):
        write_report(path, recording, dict(zip(("data and network", "training"), facts,
                                               strict=True)))
    print(f"report: {path}")
