"""The command line: ``fastmom COMMAND``. FASTMOM_DEBUG=1 shows tracebacks."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial

import fastmom
from fastmom.cli import compare, info, landscape, playground, train, tune
from fastmom.cli.options import BROKEN_PIPE, FAILED, INTERRUPTED, Parser

__all__ = ["main"]

COMMANDS = (train, tune, compare, landscape, playground, info)    # as `fastmom --help` lists them


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    It is 2 for bad input, 3 if all trainings have diverged, 130 after Ctrl-C or a training's
    SIGTERM, and 141 once nobody reads the output.
    """
    if sys.stdout is None:      # closed by whoever has started the program
        sys.stdout = open(os.devnull, "w")      # noqa: SIM115
    parser = make_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        getattr(args, "parser", parser).refuse(unknown)
    if args.command is None:
        parser.print_help(sys.stderr)
        return FAILED
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(warn, args.command)
            status = int(args.run(args))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:     # the reader has gone, as in `fastmom train | head -1`
        discard_output()
        return BROKEN_PIPE
    except (OSError, ValueError, TypeError, ImportError, MemoryError, OverflowError) as error:
        if os.environ.get("FASTMOM_DEBUG"):
            raise
        reason = " ".join(str(error).splitlines()) or type(error).__name__
        print(f"fastmom {args.command}: error: {reason}", file=sys.stderr)
        return FAILED


def warn(command: str, message: Warning | str, *where: object) -> None:
    """Print a warning as the command's."""
    print(f"fastmom {command}: warning: {message}", file=sys.stderr)


def discard_output() -> None:
    """Send what is left in stdout's buffer nowhere: Python flushes it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="fastmom", description="Momentum optimizers for NumPy arrays at the speed of memory.")
    parser.add_argument("--version", action="version", version=f"fastmom {fastmom.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
