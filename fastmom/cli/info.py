"""``fastmom info``: version, instruction sets and libraries of this installation."""

from __future__ import annotations

import argparse
from typing import Any

import fastmom
from fastmom.cli.options import OK


def add(commands: Any) -> None:
    """Add the command to the parser."""
    info = commands.add_parser("info", help="print what this installation runs on")
    info.set_defaults(run=run, parser=info)


def run(args: argparse.Namespace) -> int:
    """Print version, instruction sets, threads, OpenMP, BLAS and subnormal handling."""
    fastmom.show_config()
    return OK
