"""Checkpoints: parameters, optimizer, random state and progress of a training in one file.

The file is an ordinary `.npz` without pickles: `numpy.load` opens it. Its member ``checkpoint`` is
JSON, as bytes, in which ``{"__array__": name}`` stands for the member of that name. It is written
beside its target, forced to the disk and moved into place, so that it is there whole or not at all.

With the suffix ``.safetensors`` it is one of that library's files, for programs that read those:
the JSON is among its texts, and so are checksums. Of such a file by another program all arrays are
`params`, by their names, or a list if these are ``params/0``, ``params/1``, ...

>>> import numpy as np, tempfile
>>> from safetensors.numpy import load_file
>>> with tempfile.TemporaryDirectory() as directory:
...     save(f"{directory}/model.safetensors", params={"w": np.ones(2)})
...     load_file(f"{directory}/model.safetensors")
{'w': array([1., 1.])}

`content` defines what a file holds, `restore` puts it back into a training, `directory` finds the
newest of several files.
"""

from __future__ import annotations

from fastmom.checkpoint.content import Checkpoint, OpenCheckpoint, load, opened, save
from fastmom.checkpoint.directory import latest, load_latest, numbered
from fastmom.checkpoint.errors import CheckpointError, DamagedError

__all__ = ["Checkpoint", "CheckpointError", "DamagedError", "OpenCheckpoint", "latest", "load",
           "load_latest", "numbered", "opened", "save"]
