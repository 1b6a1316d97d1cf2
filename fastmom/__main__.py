"""``python -m fastmom``."""

import sys

from fastmom.cli import main

if __name__ == "__main__":
    sys.exit(main())
