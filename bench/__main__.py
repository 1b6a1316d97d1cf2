"""Run a benchmark or read its results; bench/README.md says which command answers what."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

# Command, and the module that runs it
COMMANDS = {"peers": "measure"} | {name: name for name in (
    "pairs", "compare", "report", "readme", "agree", "costs", "threshold", "disturbance",
    "scaling", "ranks", "federated", "formats", "rounding", "embedding", "offload",
    "textcat")} | {"torch": "in_torch", "sklearn": "estimators"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, name in COMMANDS.items():
        module = import_module(f"bench.{name}")
        about = module.__doc__ or ""
        of_one = commands.add_parser(command, description=about, help=about.partition("\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(of_one)
        of_one.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    status: int = args.run(args)
    return status


if __name__ == "__main__":
    sys.exit(main())
