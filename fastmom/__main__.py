"""``python -m fastmom``."""

import sys

from fastmom_command import main

if __name__ == "__main__":
    sys.exit(main())
