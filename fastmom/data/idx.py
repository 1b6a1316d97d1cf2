"""Reader of IDX files, the format of MNIST and of the data sets made to replace it.

An IDX file is two zero bytes, a byte for the element type, a byte for the number of dimensions,
each dimension as a big-endian 32-bit integer, then the elements in row-major order (format by
Y. LeCun, published with MNIST). All of these data sets hold unsigned bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmom.data.errors import DataError
from fastmom.files import open_regular

Bytes: TypeAlias = NDArray[np.uint8]
#: ``(x_train, y_train), (x_test, y_test)``
Split: TypeAlias = tuple[tuple[Bytes, Bytes], tuple[Bytes, Bytes]]

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

_UINT8 = 0x08
_OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_MAX_DIMENSIONS = 32  # NumPy 1's limit
_BLOCK = 1 << 20
_DEFLATE = 1032  # bytes that one byte of a gzip file can stand for at most: zlib's documentation


def read_idx(path: str | os.PathLike[str], *, sha256: str | None = None,
             shape: tuple[int, ...] | None = None) -> Bytes:
    """Read one IDX file of unsigned bytes.

    Takes no more memory than the file states, and that only if a file of its size can hold it.

    Parameters
    ----------
    path : str or path-like
        The file. A name that ends in ``.gz`` is a gzip file, any other is plain.
    sha256 : str, optional
        The SHA-256, in hexadecimal, that the uncompressed bytes must have.
    shape : tuple of int, optional
        The shape that the array must have; if it has another, nothing more is read.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape the file states; writable and C-contiguous.

    Raises
    ------
    DataError
        If the file is missing, is not whole or is no such regular file. The message names it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> read_idx(file)
    array([7, 2, 1], dtype=uint8)
    """
    name = os.fspath(path)
    try:
        with open_regular(name) as file:
            size = os.fstat(file.fileno()).st_size
            if not name.endswith(".gz"):
                return _parse(file, size, sha256, shape)
            with gzip.GzipFile(fileobj=file) as stream:
                return _parse(stream, size * _DEFLATE, sha256, shape)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except gzip.BadGzipFile as error:
        raise DataError(f"{name}: not a gzip file, or a damaged one ({error})") from error
    except (zlib.error, EOFError) as error:
        raise DataError(f"{name}: damaged or truncated gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _parse(stream: BufferedReader | gzip.GzipFile, most: int, sha256: str | None,
           wanted: tuple[int, ...] | None) -> Bytes:
    """Read from a stream that can have so many bytes at most."""
    header, shape = _read_header(stream)
    if wanted is not None and shape != wanted:
        raise DataError(f"shape is {shape}, must be {wanted}")
    size, most = math.prod(shape), most - len(header)
    if size > most:
        raise DataError(f"the header states the shape {shape}, {size} bytes, but only {most} can "
                        f"follow")
    # One byte more than stated shows trailing bytes, and takes gzip to its checksum.
    elements = _read_at_most(stream, size + 1)
    if len(elements) != size:
        found = f"only {len(elements)}" if len(elements) < size else "more"
        raise DataError(f"the header states the shape {shape}, {size} bytes, but {found} follow")
    if sha256 is not None:
        digest = hashlib.sha256(header)
        digest.update(elements)
        if digest.hexdigest() != sha256:
            raise DataError(f"SHA-256 is {digest.hexdigest()}, must be {sha256}")
    return np.frombuffer(elements, np.uint8).reshape(shape)


def _read_header(stream: BufferedReader | gzip.GzipFile) -> tuple[bytes, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"truncated: {len(magic)} bytes are no IDX header")
    zeros, kind, ndim = magic[:2], magic[2], magic[3]
    known = kind == _UINT8 or kind in _OTHER_TYPES
    if zeros != b"\0\0" or not known:
        hint = ", a gzip file without .gz in its name" if zeros == b"\x1f\x8b" else ""
        raise DataError(f"not an IDX file: starts with the bytes {magic.hex(' ')}{hint}")
    if kind != _UINT8:
        raise DataError(f"elements are {_OTHER_TYPES[kind]} (type 0x{kind:02x}), must be uint8")
    if not 1 <= ndim <= _MAX_DIMENSIONS:
        raise DataError(f"has {ndim} dimensions, must have 1 to {_MAX_DIMENSIONS}")
    dimensions = stream.read(4 * ndim)
    if len(dimensions) < 4 * ndim:
        raise DataError(f"truncated in the header, which states {ndim} dimensions")
    shape = tuple(np.frombuffer(dimensions, ">u4").tolist())
    if 0 in shape:
        raise DataError(f"is empty: the header states the shape {shape}")
    return magic + dimensions, shape


def _read_at_most(stream: BufferedReader | gzip.GzipFile, limit: int) -> bytearray:
    """Read block by block: a limit from a damaged gzip file must not become an allocation."""
    data = bytearray()
    while len(data) < limit and (block := stream.read(min(limit - len(data), _BLOCK))):
        data += block
    return data


def load_idx_directory(directory: str | os.PathLike[str]) -> Split:
    """Load a data set in MNIST's layout, four IDX files with MNIST's names, from a directory.

    Each file may be plain or have ``.gz`` at its end; if both are there, the plain one is read,
    since it is the faster. Any number of images of any one size will do (Fashion-MNIST, say).

    Parameters
    ----------
    directory : str or path-like
        The directory.

    Returns
    -------
    tuple
        ``(x_train, y_train), (x_test, y_test)``: images uint8 (n, rows, columns), labels uint8
        (n,) from 0 to 9.

    Raises
    ------
    DataError
        If the directory or a file is missing, a file is damaged, or the files do not belong
        together. The message names the file.

    Examples
    --------
    >>> load_idx_directory("no/such/directory")
    Traceback (most recent call last):
    ...
    fastmom.data.errors.DataError: no/such/directory: not a directory
    """
    where = os.fspath(directory)
    if not where:
        raise DataError("directory is '', must name a directory")
    if not os.path.isdir(where):
        raise DataError(f"{where}: not a directory")
    paths = {name: _find(Path(where), name) for name in FILES}
    return check_split({name: read_idx(path) for name, path in paths.items()}, paths)


def _find(directory: Path, name: str) -> Path:
    for path in (directory / name, directory / f"{name}.gz"):
        if os.path.exists(path):
            return path
    raise DataError(f"{directory}: has neither {name} nor {name}.gz")


def check_split(arrays: Mapping[str, Bytes], paths: Mapping[str, Path]) -> Split:
    """Return the four arrays as a Split if they belong together, else raise DataError."""
    for images, labels in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        _check_pair(arrays[images], paths[images], arrays[labels], paths[labels])
    train, test = arrays[TRAIN_IMAGES].shape[1:], arrays[TEST_IMAGES].shape[1:]
    if train != test:
        raise DataError(
            f"{paths[TEST_IMAGES]}: images of shape {test}, "
            f"but those in {paths[TRAIN_IMAGES]} are of shape {train}"
        )
    return (
        (arrays[TRAIN_IMAGES], arrays[TRAIN_LABELS]),
        (arrays[TEST_IMAGES], arrays[TEST_LABELS]),
    )


def _check_pair(x: Bytes, x_path: Path, y: Bytes, y_path: Path) -> None:
    if x.ndim != 3:
        raise DataError(f"{x_path}: shape {x.shape}, but images must be (n, rows, columns)")
    if y.ndim != 1:
        raise DataError(f"{y_path}: shape {y.shape}, but labels must be (n,)")
    if len(x) != len(y):
        raise DataError(f"{y_path}: {len(y)} labels, but {x_path} has {len(x)} images")
    if y.max() > 9:
        raise DataError(f"{y_path}: mis-labelled, has the label {y.max()}; allowed are 0 to 9")
