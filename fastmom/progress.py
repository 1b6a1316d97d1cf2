"""Progress bars on a terminal."""

from __future__ import annotations

import shutil
from typing import Any, TextIO


def progress_bar(stream: TextIO, total: int, title: str, unit: str) -> Any:
    """A bar of tqdm that vanishes when closed."""
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError('a progress bar needs tqdm: pip install "fastmom[cli]"') from None
    # tqdm shows nothing on a terminal that does not know its size; shutil says 80 by 24
    columns, rows = shutil.get_terminal_size()
    return tqdm(total=total, desc=title, unit=unit, leave=False, file=stream, ncols=columns,
                nrows=rows)
