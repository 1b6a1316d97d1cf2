"""``fastmom info``: what this installation runs on."""

from __future__ import annotations

import argparse
from typing import Any

import fastmom
from fastmom.cli.options import OK


def add(commands: Any) -> None:
    """Add the command to the parser."""
    info = commands.add_parser("info", help="print what this installation runs on",
                               allow_abbrev=False)
    info.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print version, instruction sets, threads, OpenMP, BLAS and subnormal handling."""
    fastmom.show_config()
    return OK
