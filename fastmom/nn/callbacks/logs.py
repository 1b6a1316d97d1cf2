"""Loggers: they write the metrics of each epoch as a line of a file."""

from __future__ import annotations

import csv
import json
import math
import numbers
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from fastmom.nn.callbacks.base import Callback, Logs


class LineLogger(Callback):
    """A text file that is open while the model trains, and gets a line per epoch, flushed."""

    adds = ()

    def __init__(self, path: str | os.PathLike[str], append: bool,
                 on_error: Callable[[OSError], object] | None) -> None:
        if not isinstance(append, bool):
            raise TypeError(f"append must be True or False, not {append!r}")
        if on_error is not None and not callable(on_error):
            raise TypeError(f"on_error must be callable or None, not {on_error!r}")
        self.path, self.append, self.on_error = Path(path), append, on_error
        self.whole = True
        self._file: FileIO | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.whole = True
        with self._handling_errors():
            if self.append and self.path.exists():
                self._check(self.path.read_text(encoding="utf-8"))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # unbuffered, so that a line that could not be written is not tried again at the end
            self._file = self.path.open("ab" if self.append else "wb", buffering=0)

    def _check(self, there: str) -> None:
        """Raise if no line can follow what is there already."""
        if there and not there.endswith("\n"):
            raise ValueError(f"append=True, but the last line of {self.path} is not whole")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self._file is not None:
            line = self._line({"epoch": epoch, **(logs or {})}).encode()
            with self._handling_errors():
                self._write(self._file, line)

    def _write(self, file: FileIO, line: bytes) -> None:
        """Write the whole line, or as far as it depends on us nothing."""
        size = os.fstat(file.fileno()).st_size
        try:
            while line:
                line = line[file.write(line):]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise

    @contextmanager
    def _handling_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self.path)
            self.whole = False
            self.on_train_end()
            if self.on_error is None:
                raise
            self.on_error(error)

    def _line(self, row: Logs) -> str:
        raise NotImplementedError

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class CSVLogger(LineLogger):
    """The metrics of each epoch as a table: a header with the names, then a row per epoch.

    Every row is whole as soon as its epoch ends, also if training is interrupted after it.

    Parameters
    ----------
    path : path-like
        Its directory is made if need be.
    separator : str, default ","
        One character.
    append : bool, default False
        Go on with a table that is there instead of replacing it.
    on_error : callable, optional
        Called with an OSError instead of raising it; the training goes on, and the file stays as
        it is.

    Attributes
    ----------
    whole : bool
        Whether the file has all lines of this training so far.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when training begins, if the last line there is not whole; at the
        end of an epoch, if there is a metric that the header, also one that is there already, does
        not have. A metric that is missing leaves its cell empty.
    OSError
        If the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], separator: str = ",",
                 append: bool = False,
                 on_error: Callable[[OSError], object] | None = None) -> None:
        super().__init__(path, append, on_error)
        if not isinstance(separator, str) or len(separator) != 1 or separator in '\r\n"':
            raise ValueError(f"separator must be one character, no quote or line break, not "
                             f"{separator!r}")
        self.separator = separator

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._names: list[str] = []
        self._appended = False
        super().on_train_begin(logs)

    def _check(self, there: str) -> None:
        super()._check(there)
        self._names = next(csv.reader(there.splitlines(), delimiter=self.separator), [])
        self._appended = bool(self._names)

    def _line(self, row: Logs) -> str:
        if self._appended and set(self._names) != set(row):
            raise ValueError(f"append=True, but {self.path} has the columns "
                             f"{', '.join(self._names)}, not {', '.join(row)}")
        header = not self._names
        self._names = self._names or list(row)
        if unknown := [name for name in row if name not in self._names]:
            raise ValueError(f"{self.path} has no column {', '.join(unknown)}: the first epoch had "
                             f"only {', '.join(self._names)}")
        cells = [self._names] * header + [[row.get(name, "") for name in self._names]]
        text = _Text()
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerows(cells)
        return "".join(text)


class _Text(list[str]):
    """Collects what `csv.writer` writes."""

    write = list.append


class JSONLogger(LineLogger):
    """The metrics of each epoch as a line of JSON (JSON Lines); NaN and infinities are null.

    Every line is whole as soon as its epoch ends, also if training is interrupted after it.

    Parameters
    ----------
    path : path-like
        Its directory is made if need be.
    append : bool, default False
        Go on with the lines that are there instead of replacing them.
    on_error : callable, optional
        Called with an OSError instead of raising it; the training goes on, and the file stays as
        it is.

    Attributes
    ----------
    whole : bool
        Whether the file has all lines of this training so far.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when training begins, if the last line there is not whole; at the
        end of an epoch, if a metric is no number.
    OSError
        If the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False,
                 on_error: Callable[[OSError], object] | None = None) -> None:
        super().__init__(path, append, on_error)

    def _line(self, row: Logs) -> str:
        return json.dumps({name: _plain(name, value) for name, value in row.items()}) + "\n"


def _plain(name: str, value: Any) -> int | float | None:
    if isinstance(value, numbers.Integral):
        return int(value)
    if not isinstance(value, numbers.Real):
        raise TypeError(f"metric {name!r} must be a number, not {value!r}")
    return float(value) if math.isfinite(value) else None
