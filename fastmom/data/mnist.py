"""MNIST: from a directory, from the cache, or by download."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fastmom.checks import flag
from fastmom.data.cache import cache_dir
from fastmom.data.errors import DataError, DownloadError
from fastmom.data.idx import (
    FILES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    Bytes,
    Split,
    check_split,
    load_idx_directory,
    read_idx,
)
from fastmom.extras import need
from fastmom.files import replacing

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

class Known(NamedTuple):
    """The content of a file. Each mirror may compress it in its own way."""

    shape: tuple[int, ...]
    sha256: str


KNOWN = {
    TRAIN_IMAGES: Known(
        (60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    TRAIN_LABELS: Known(
        (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    TEST_IMAGES: Known(
        (10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    TEST_LABELS: Known(
        (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}

_ANSWER_SECONDS = 4.0  # for a mirror's first answer; without a network it is refused at once
_TIMEOUTS = (3.0, 10.0)  # seconds to connect, and between two pieces of a file
_SLOW_SECONDS, _SLOW_BYTES = 30.0, 1 << 16  # a mirror that sends less in this time is left
_PIECE = 1 << 14
_OVERHEAD = 1 << 10  # bytes that a file may be longer compressed than not


def load_mnist(path: str | os.PathLike[str] | None = None, *, download: bool = True) -> Split:
    """Load MNIST as Keras gives it.

    The first of these is used, and if it is broken that is an error, not a reason to go on:

    1. `path`;
    2. the directory that the environment variable ``FASTMOM_DATA`` names (empty means unset);
    3. the cache, ``mnist`` in :func:`~fastmom.data.cache.cache_dir`, filled by download if it is
       not complete. Each of its files is checked against MNIST's SHA-256 every time, and a
       damaged one is downloaded again. A mirror that sends too much, or less than 64 KiB in 30
       seconds, is left for the next.

    Parameters
    ----------
    path : str or path-like, optional
        A directory with the four IDX files, plain or .gz. Their sizes and SHA-256 are not
        checked, in `path` and ``FASTMOM_DATA``: other data in MNIST's layout is welcome.
    download : bool, default True
        Whether to download what is missing. That needs pooch, of the extra ``fastmom[data]``.

    Returns
    -------
    tuple
        ``(x_train, y_train), (x_test, y_test)``: images uint8 (60000, 28, 28) and (10000, 28, 28),
        0 is the background; labels uint8 (60000,) and (10000,), from 0 to 9.

    Raises
    ------
    DataError
        If files are missing, damaged or do not belong together.
    DownloadError
        If a download is needed and fails; says how for each mirror.
    TypeError
        If `download` is not a bool.

    Notes
    -----
    MNIST is by Y. LeCun, C. Cortes and C. Burges, licence CC BY-SA 3.0.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = load_mnist()  # doctest: +SKIP
    >>> load_mnist("no/such/directory")
    Traceback (most recent call last):
    ...
    fastmom.data.errors.DataError: no/such/directory: not a directory
    """
    return find_mnist(path, download=download)[0]


def find_mnist(
    path: str | os.PathLike[str] | None = None, *, download: bool = True
) -> tuple[Split, str]:
    """Return MNIST as `load_mnist` does, and one line that says where it came from."""
    download = flag("download", download)
    if path is not None:
        return load_idx_directory(path), f"MNIST from {os.fspath(path)}"
    if named := os.environ.get("FASTMOM_DATA"):
        try:
            return load_idx_directory(named), f"MNIST from FASTMOM_DATA={named}"
        except DataError as error:
            raise DataError(f"FASTMOM_DATA: {error}") from error
    try:
        directory = cache_dir() / "mnist"
    except OSError as error:
        raise DownloadError(f"MNIST could not be downloaded ({error})") from error
    return _from_cache(directory, download)


def _from_cache(directory: Path, download: bool) -> tuple[Split, str]:
    paths = {name: directory / f"{name}.gz" for name in FILES}
    arrays: dict[str, Bytes] = {}
    faults: dict[str, DataError] = {}
    for name, path in paths.items():
        try:
            arrays[name] = read_idx(path, sha256=KNOWN[name].sha256, shape=KNOWN[name].shape)
        except DataError as error:
            faults[name] = error
    if not faults:
        return check_split(arrays, paths), f"MNIST from the cache {directory}"
    if not download:
        first = next(iter(faults.values()))
        raise DataError(f"MNIST is not in the cache, and download is False ({first})")
    arrays |= _download({name: paths[name] for name in faults})
    return check_split(arrays, paths), f"MNIST downloaded to {directory}"


def _download(paths: dict[str, Path]) -> dict[str, Bytes]:
    """Download the named files to their paths; where one mirror fails, the next goes on."""
    get = _downloader()
    arrays: dict[str, Bytes] = {}
    failures = []
    for mirror in MIRRORS:
        try:
            _check_answer(get, f"{mirror}{next(iter(paths))}.gz")
            for name in [name for name in paths if name not in arrays]:
                arrays[name] = _fetch(get, f"{mirror}{name}.gz", paths[name], KNOWN[name])
            return arrays
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            failures.append(f"{mirror}: {_reason(error)}")
    raise DownloadError(f"MNIST could not be downloaded ({'; '.join(failures)})")


def _downloader() -> Callable[..., None]:
    try:
        pooch = need("pooch", "data", "downloads")
    except ImportError as error:
        raise DownloadError(f"MNIST could not be downloaded ({error})") from error
    terminal = sys.stderr is not None and sys.stderr.isatty()
    bar = terminal and find_spec("tqdm") is not None

    def get(url: str, output: Any, **options: Any) -> None:
        answers: list[Any] = []

        def keep(answer: Any, **_: Any) -> None:
            answers.append(answer)

        engine = pooch.HTTPDownloader(progressbar=bar, chunk_size=_PIECE, timeout=_TIMEOUTS,
                                      hooks={"response": keep})
        try:
            engine(url, output, None, **options)
        finally:
            for answer in answers:  # pooch leaves it open after an error
                answer.close()
    return get


def _check_answer(get: Callable[..., None], url: str) -> None:
    """Raise OSError unless the server answers soon."""
    _watched(lambda: get(url, None, check_only=True), lambda: 0, _ANSWER_SECONDS,
             f"no answer within {_ANSWER_SECONDS:g} seconds")


def _fetch(get: Callable[..., None], url: str, path: Path, known: Known) -> Bytes:
    """Download one file; only the right bytes ever come to stand at *path*."""
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            limited = _Limited(file, math.prod(known.shape) + _OVERHEAD)
            _watched(lambda: get(url, limited), lambda: limited.received, _SLOW_SECONDS,
                     f"{path.name}: less than {_SLOW_BYTES} bytes within {_SLOW_SECONDS:g} seconds")
        try:
            return read_idx(temporary, sha256=known.sha256, shape=known.shape)
        except DataError as error:
            why = str(error).removeprefix(f"{temporary}: ")
            raise DataError(f"{path.name}: {why}") from None


class _Limited:
    """A file that takes so many bytes and no more.

    Once the file below it is closed it takes none, which ends a download that was left behind.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit, self.received = file, limit, 0

    def write(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self._limit:
            raise OSError(f"the server sends more than {self._limit} bytes")
        self._file.write(data)

    def flush(self) -> None:
        pass


def _watched(call: Callable[[], object], received: Callable[[], int], seconds: float,
             complaint: str) -> None:
    """Call in a thread, which is left behind if less than `_SLOW_BYTES` come within `seconds`.

    The timeouts of a connection bound neither the look-up of the name, nor all addresses of a
    server together, nor a piece whose bytes come one by one.
    """
    outcome: Future[object] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    least = 0
    while not wait([outcome], seconds).done:
        if received() < (least := least + _SLOW_BYTES):
            raise TimeoutError(complaint)
        least = received()
    outcome.result()


def _reason(error: BaseException) -> str:
    """Return the innermost cause on one line: requests wraps it in pages of its own."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
