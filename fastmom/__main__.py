"""The program ``fastmom``: loads the package and catches what happens meanwhile.

Importing NumPy and the kernels takes a good part of a second, in which Ctrl-C may come, and a bad
FASTMOM_ISA is found.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

FAILED, INTERRUPTED = 2, 130


def main() -> int:
    """Load the package, then run its command line; return the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    try:
        from fastmom.cli import main as run
    except (ImportError, ValueError) as error:
        if os.environ.get("FASTMOM_DEBUG"):
            raise
        print(f"fastmom: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return FAILED
    try:
        if signal.getsignal(signal.SIGINT) is leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def leave(*signalled: object) -> NoReturn:
    """End the process: an exception could be swallowed by whatever is being imported."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
