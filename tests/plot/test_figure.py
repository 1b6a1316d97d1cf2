"""Figures: the files they are written to, threads, notebooks, and no matplotlib."""

from __future__ import annotations

import base64
import errno
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from curves import ALL, run

from fastmom import plot
from fastmom.landscape import SURFACES, paths

RESULTS = {"beale": paths(SURFACES["beale"], 20)}


@pytest.mark.parametrize(("name", "begin"), [
    ("figure.png", b"\x89PNG"), ("figure.PNG", b"\x89PNG"), ("new/figure.svg", b"<?xml"),
    ("figure.pdf", b"%PDF")])
def test_figures_are_written(name: str, begin: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    plot.save_figure(plot.plot_history({"run": [run(0, "loss")]}), str(file))
    assert file.read_bytes().startswith(begin)
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"), OSError("No space left on device")])
def test_a_full_disk_is_named_and_leaves_the_file_as_it_was(
        error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, file = plot.plot_history(run(0, "loss")), tmp_path / "figure.png"

    def full(path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(figure, "savefig", full)
    file.write_text("before")
    with pytest.raises(OSError, match="No space left on device") as caught:
        plot.save_figure(figure, file)
    assert str(file) in str(caught.value)
    assert (caught.value.errno, caught.value.strerror) == (error.errno, error.strerror)
    assert file.read_text() == "before"
    assert [*tmp_path.iterdir()] == [file]


def test_figures_from_threads_and_no_global_state(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)     # importing it is an error
    files = [tmp_path / f"{i}.png" for i in range(3)]

    def draw(file: Path) -> None:
        plot.save_figure(plot.plot_history({"run": [run(0, *ALL)]}), file)

    threads = [threading.Thread(target=draw, args=[file]) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({file.read_bytes() for file in files}) == 1


@pytest.mark.parametrize("name", ["figure.jpg", "png"])
def test_wrong_endings(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.png or \.svg or \.pdf, not be "):
        plot.save_figure(plot.plot_history(run(0, *ALL)), tmp_path / name)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("call", [lambda: plot.plot_history(run(0, *ALL)),
                                  lambda: plot.plot_landscape(RESULTS)], ids=["history", "paths"])
def test_without_matplotlib(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "fastmom\[plot\]"'):
        call()


# Notebooks ----------------------------------------------------------------------------------------

CELLS = ("import numpy as np, fastmom as fm\n"
         "model = fm.nn.Sequential([fm.nn.Dense(2, 'softmax', input_shape=(2,))])\n"
         "model.compile(fm.SGD(lr=0.5, momentum=0.5), metrics=['accuracy'])\n"
         "history = model.fit(np.eye(2), [0, 1], epochs=5, verbose=0)\nhistory.plot()",
         "fm.plot.plot_history(history.history)",
         "surface = fm.landscape.SURFACES['beale']\n"
         "fm.plot.plot_landscape({'Beale': fm.landscape.paths(surface)})",
         "import sys; 'matplotlib.pyplot' in sys.modules", "history")


@pytest.mark.slow
def test_a_notebook_shows_figures_by_themselves(tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3",
                                     resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    *figures, pyplot, history = [cell.outputs for cell in notebook.cells]
    for outputs in figures:
        output, = outputs       # once, also where a backend for notebooks is in use
        picture = base64.b64decode(output["data"]["image/png"])
        assert picture.startswith(b"\x89PNG")
        assert struct.unpack(">II", picture[16:24])[0] == 800
    assert pyplot[0]["data"]["text/plain"] == "False"
    assert history[0]["data"]["text/plain"].startswith("<History of 5 epochs: loss ")
