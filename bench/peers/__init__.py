"""The peers: each is one file of this folder and one row of `PEERS`, and runs in its own processes.

A file ``on_NAME.py`` has ``VERSIONS`` and ``NOTE`` and

- for steps, ``steps(case)``: functions that take one step, by form, for a `bench.workloads.Case`;
  none where the library does not have the optimizer;
- for epochs, ``variants(task)``: a `bench.workloads.Run` by variant, for a `bench.workloads.Task`.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import NamedTuple

from bench.timing import ROOT, Worker

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
    steps: Environments = NOWHERE
    epochs: Environments = NOWHERE
    networks: Mapping[str, float | None] = NO_NETWORKS      # of `bench.epoch`, and targets there


PEERS = {
    "fastmom": Peer("fastmom", "on_fastmom", {"": {}, "1 thread": ONE_OPENMP}, DEFAULT,
                    {"article": None, "wide": None}),
    "torch": Peer("PyTorch", "on_torch", DEFAULT, DEFAULT, {"article": 5, "wide": 1.2}),
    "NumPy": Peer("NumPy", "on_numpy", DEFAULT),
    "jax": Peer("JAX", "on_jax", DEFAULT, DEFAULT, {"article": 2}),
    "numba": Peer("Numba", "on_numba", DEFAULT),
    "keras-tensorflow": Peer("Keras, TensorFlow", "on_keras", NOWHERE,
                             {"": TENSORFLOW, "1 thread": ONE_TENSORFLOW}, {"article": 10}),
    "keras-jax": Peer("Keras, JAX", "on_keras", NOWHERE, {"": {"KERAS_BACKEND": "jax"}},
                      {"article": None}),
    "sklearn": Peer("scikit-learn", "on_sklearn", NOWHERE, DEFAULT, {"article": 5}),
    "tfjs": Peer("TensorFlow.js", "tfjs.mjs", NOWHERE, DEFAULT, {"article": 25}),
    # The matrix products of an epoch alone; its target is our share of their rate
    "sgemm": Peer("sgemm", "on_sgemm", NOWHERE, DEFAULT, {"article": None, "wide": 0.7}),
}


def start(name: str, args: Namespace, environment: dict[str, str], *setting: str) -> Worker:
    """Start a peer's process, with the interpreter that the command line names for it."""
    file = PEERS[name].file
    if file.endswith(".mjs"):
        script = ROOT / "bench" / "peers" / file
        return Worker([args.node, str(script), str(args.node_modules.resolve()), *setting],
                      environment)
    family = file.removeprefix("on_")
    python = args.python.get(name, args.python.get(family, sys.executable))
    return Worker.python(python, file, *setting, environment=environment)


def label(name: str, environment: str, variant: str) -> str:
    """Name a candidate: "torch fused" or "fastmom, 1 thread"."""
    return f"{name}{environment and f', {environment}'} {variant}".strip()


def peer_of(candidate: str) -> str:
    """Return the name that `label` was given."""
    return max((name for name in PEERS if candidate.startswith(name)), key=len)
