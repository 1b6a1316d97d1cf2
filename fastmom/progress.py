"""Progress bars on a terminal."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from typing import Any, TextIO

from fastmom.extras import need


def can_show_bars() -> bool:
    """Return whether tqdm is installed."""
    return find_spec("tqdm") is not None


def require_tqdm() -> Any:
    """Return tqdm's class, or raise ImportError saying how to install it."""
    return need("tqdm", "cli", "progress bars").tqdm


def progress_bar(stream: TextIO, total: int, title: str, **options: Any) -> Any:
    """Return a bar that vanishes when closed, with further `options` of tqdm."""
    # tqdm shows nothing on a terminal that does not know its size; shutil says 80 by 24
    columns, rows = shutil.get_terminal_size()
    return require_tqdm()(total=total, desc=title, leave=False, file=stream, ncols=columns,
                          nrows=rows, **options)


def say(text: str) -> None:
    """Print a line at once, above a progress bar if there is one."""
    tqdm = sys.modules.get("tqdm")      # loaded, if there is a bar
    if tqdm is None:
        print(text, flush=True)
    else:
        tqdm.tqdm.write(text)
        sys.stdout.flush()
