"""`load` gives what was asked for, says what it gave, and hides no broken data."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmom.data import DataError, Dataset, DownloadError, dataset, load, load_digits, mnist

NOWHERE = ("http://127.0.0.1:9/",)


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "load_digits", lambda: load_digits(20, 10, cache=False))


def test_digits() -> None:
    data = load("digits")
    assert isinstance(data, Dataset)
    assert (data.name, data.reason) == ("digits", "the built-in synthetic digits")
    (x_train, y_train), (x_test, y_test) = load_digits(20, 10, cache=False)
    for array, expected in zip(data, (x_train, y_train, x_test, y_test), strict=False):
        np.testing.assert_array_equal(array, expected, strict=True)


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_mnist_from_its_three_places(
    source: str,
    arrays: dict[str, np.ndarray],
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    mirror: Any,
    own_cache: Path,
) -> None:
    reasons = [load(source).reason, load(source).reason]
    directory = write(arrays)
    monkeypatch.setenv("FASTMOM_DATA", str(directory))
    data = load(source)
    assert [*reasons, data.reason] == [
        f"MNIST downloaded to {own_cache / 'mnist'}",
        f"MNIST from the cache {own_cache / 'mnist'}",
        f"MNIST from FASTMOM_DATA={directory}",
    ]
    assert data.name == "mnist"
    for array, expected in zip(data, arrays.values(), strict=False):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_directory(
    arrays: dict[str, np.ndarray], write: Callable[..., Path], as_path: Callable[[Path], Any]
) -> None:
    directory = write(arrays, ".gz", name="fashion")
    data = load(as_path(directory))
    assert (data.name, data.reason) == (str(directory), f"IDX files from {directory}")
    assert data.x_test.shape == (4, 3, 5)


def test_no_network(monkeypatch: pytest.MonkeyPatch, mirror: Any) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", NOWHERE)
    data = load()
    assert data.name == "digits"
    assert re.fullmatch(
        r"MNIST could not be downloaded \(http://127\.0\.0\.1:9/: .+\); "
        r"using the built-in synthetic digits",
        data.reason,
    )
    with pytest.raises(DownloadError):
        load("mnist")


def test_no_pooch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    reason = load("auto").reason
    start = "MNIST could not be downloaded (downloads need pooch: pip install pooch "
    assert reason.startswith(start)
    assert reason.endswith("; using the built-in synthetic digits")


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_broken_data_is_never_passed_over(
    source: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTMOM_DATA", str(write({})))
    with pytest.raises(DataError, match=r"FASTMOM_DATA: .* has neither"):
        load(source)


@pytest.mark.parametrize("source", ["minst", "MNIST", "", "/no/such/directory"])
def test_unknown_source(source: str) -> None:
    message = f"source is {source!r}, must be 'auto', 'mnist', 'digits' or an existing directory"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load(source)


def test_source_must_be_a_path() -> None:
    with pytest.raises(TypeError):
        load(3)  # type: ignore[arg-type]


def test_repr_says_what_it_is() -> None:
    images, labels = np.zeros((1200, 28, 20), np.uint8), np.zeros(1200, np.uint8)
    found = dataset.Dataset(images, labels, images[:9], labels[:9], "digits", "built in")
    assert repr(found) == (
        "<Dataset 'digits': 1,200 training and 9 test images of 28 x 20; built in>")
