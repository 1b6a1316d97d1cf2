"""The peers: each is one file of this folder and one row of `PEERS`.

A file ``on_NAME.py`` has ``VERSIONS`` and ``NOTE`` and

- for steps of the arrays that all share, ``steps_of(memory)``: a `bench.timing.Step` by form, for a
  `bench.peers.together.Memory`; none where the library does not have the optimizer;
- for steps of arrays of its own, ``steps(case)``: the same for a `bench.workloads.Case`, in a
  process of its own;
- for epochs, ``variants(task)``: a `bench.workloads.Run` by variant, for a `bench.workloads.Task`.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import NamedTuple

from bench.worker import ROOT, Worker

Environments = Mapping[str, dict[str, str]]     # by label; each is a process of its own

NOWHERE: Environments = {}
NO_NETWORKS: Mapping[str, float | None] = {}
DEFAULT: Environments = {"": {}}
ONE_OPENMP = {"OMP_NUM_THREADS": "1"}
TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
ONE_TENSORFLOW = TENSORFLOW | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


class Peer(NamedTuple):
    """Title in tables, its file, where it takes part, and how much faster fastmom should be."""

    title: str
    file: str
    shares: bool = False                # steps the same arrays as the others, in one process
    steps: Environments = NOWHERE       # steps arrays of its own
    epochs: Environments = NOWHERE
    networks: Mapping[str, float | None] = NO_NETWORKS      # of `bench.epoch`, and targets there


PEERS = {
    "fastmom": Peer("fastmom", "on_fastmom", True, NOWHERE, DEFAULT,
                    {"article": None, "dense": None, "wide": None}),
    "torch": Peer("PyTorch", "on_torch", True, NOWHERE, DEFAULT,
                  {"article": 5, "dense": 4, "wide": 1.2}),
    "NumPy": Peer("NumPy", "on_numpy", True, NOWHERE, DEFAULT,
                  {"article": 5, "dense": 2.5, "wide": None}),
    "numba": Peer("Numba", "on_numba", True),
    "jax": Peer("JAX", "on_jax", False, DEFAULT, DEFAULT, {"article": 2, "dense": 2, "wide": None}),
    "keras-tensorflow": Peer("Keras, TensorFlow", "on_keras", False, NOWHERE,
                             {"1 thread": ONE_TENSORFLOW}, {"article": 10}),
    "keras-jax": Peer("Keras, JAX", "on_keras", False, NOWHERE, {"": {"KERAS_BACKEND": "jax"}},
                      {"article": None}),
    "sklearn": Peer("scikit-learn", "on_sklearn", False, NOWHERE, DEFAULT,
                    {"article": 5, "dense": None}),
    "tfjs": Peer("TensorFlow.js", "tfjs.mjs", False, NOWHERE, DEFAULT, {"article": 25}),
    # The matrix products of an epoch alone; its target is our share of their rate
    "sgemm": Peer("sgemm", "on_sgemm", False, NOWHERE, DEFAULT,
                  {"article": None, "dense": None, "wide": 0.7}),
}
TOGETHER = "together"       # the file that steps what `shares`


def start(name: str, args: Namespace, environment: dict[str, str], *setting: str) -> Worker:
    """Start a peer's process, with the interpreter that the command line names for it."""
    file = TOGETHER if name == TOGETHER else PEERS[name].file
    if file.endswith(".mjs"):
        script = ROOT / "bench" / "peers" / file
        return Worker([args.node, str(script), str(args.node_modules.resolve()), *setting],
                      environment)
    family = file.removeprefix("on_")
    python = args.python.get(name, args.python.get(family, sys.executable))
    return Worker.python(python, file, *setting, environment=environment)


def peer_of(candidate: str) -> str:
    """Return the name that `label` was given."""
    return max((name for name in PEERS if candidate.startswith(name)), key=len)
