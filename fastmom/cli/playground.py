"""``fastmom playground``: a page on which to play with momentum."""

from __future__ import annotations

import argparse
from typing import Any

from fastmom.cli.options import OK, number
from fastmom.extras import need

PORT = 5006


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "playground", help="open a page on which to play with momentum",
        description="Serve a page to this machine's browsers alone: paths on surfaces that follow "
                    "the sliders, and a training whose learning rate and momentum are knobs. It "
                    "ends with Ctrl-C, or when the last page has been closed for a minute.")
    option = command.add_argument
    option("--port", type=number(int, lambda n: 0 <= n < 2 ** 16, "an integer from 0 to 65535"),
           default=PORT, help=f"0 takes a free one (default: {PORT})")
    option("--no-browser", action="store_true", help="do not open a browser")
    option("--data", default="auto", metavar="auto|mnist|digits|DIR",
           help="of the training, as for fastmom train (default: auto)")
    command.set_defaults(run=run, parser=command)


def run(args: argparse.Namespace) -> int:
    """Serve the page until it ends."""
    need("bokeh", "playground", "the playground and reports")
    from fastmom.playground.server import serve
    ended = serve(args.port, data=args.data, show=not args.no_browser, ready=lambda address: print(
        f"playground: {address} (Ctrl-C ends it)", flush=True))
    print("ended: the last page was closed" if ended == "closed" else "ended")
    return OK
