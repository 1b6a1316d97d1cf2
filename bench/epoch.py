"""A training epoch on MNIST in every library, each in a process of its own that takes turns.

Trained by SGD with lr 0.01, Nesterov momentum 0.9 and decay 1e-6 in float32 on 60,000 samples in a
new order each epoch: "article", 784-128-10 with dropout 0.2 and batches of 32; "dense", the same
network on the same images with noise on every pixel, so that none is zero (81 % of MNIST's are);
and "wide", 784-512-512-10 without dropout and batches of 128. A peer with several variants
(threads, implementations) counts with its fastest; those that took over a third longer than that
in the first round sit the rest out, but for fastmom's. The loss of the first epoch and the test
accuracy after the last show that all train the same. "sgemm" is the matrix products of an epoch and
nothing else, in NumPy's BLAS: its ratio is the share of the products' rate that fastmom reaches.

Threads that spin where other programs want the cores can take twenty times as long: what the
others used is reported.
"""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers import PEERS, start
from bench.results import Results, Target, number, ratio, table, targets_table, typical
from bench.timing import Load, Record, take_turns
from bench.worker import Worker
from bench.workloads import Setting
from fastmom import data

HYPER: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "decay": 1e-6, "seed": 0}
MODELS: dict[str, dict[str, Any]] = {
    "article": {"hidden": [128], "dropout": 0.2, "batch": 32},
    "dense": {"hidden": [128], "dropout": 0.2, "batch": 32},
    "wide": {"hidden": [512, 512], "dropout": 0.0, "batch": 128},
}
BUDGET = 4.0        # seconds: a variant that took so long sits out
SLOWER = 1.33       # than a peer's fastest variant: sits out likewise
NOISE = 32          # the least value of a pixel of "dense", and how many there are above it
OURS, ONE = "fastmom", "1 thread"


# Measuring ----------------------------------------------------------------------------------------

def setting_of(model: str, folder: Path) -> Setting:
    return Setting(data=str(folder), **MODELS[model], **HYPER)


def write_data(folder: Path, name: str = "mnist", noise: bool = False) -> data.Dataset:
    """Write a data set as plain bytes, which every language reads."""
    try:
        loaded = data.load(name)
    except data.DataError as error:
        raise SystemExit(f"MNIST is needed; FASTMOM_DATA names its directory: {error}") from None
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for part in ("x_train", "y_train", "x_test", "y_test"):
        array = getattr(loaded, part)
        if noise and part.startswith("x"):
            drawn = rng.integers(1, NOISE, array.shape, np.uint8, endpoint=True)
            array = np.minimum(array, 255 - drawn) + drawn
        array.tofile(folder / part)
    return loaded


def measure(args: Namespace) -> Results:
    with tempfile.TemporaryDirectory() as name:
        plain, noisy = Path(name, "plain"), Path(name, "noisy")
        write_data(plain)
        write_data(noisy, noise=True)
        models = ["article", "dense"] if args.quick else MODELS
        return {"data": "MNIST", "models": {
            model: measure_model(model, noisy if model == "dense" else plain, args)
            for model in models}}


def measure_model(model: str, folder: Path, args: Namespace) -> dict[str, Any]:
    """Return the rows of each variant, who is missing and why, and who disturbed."""
    setting = json.dumps(setting_of(model, folder)._asdict())
    records: dict[tuple[str, str], Record] = {}     # by peer and variant
    workers: list[Worker] = []
    missing: dict[str, str] = {}
    try:
        for name, peer in PEERS.items():
            for environment, variables in (peer.epochs if model in peer.networks else {}).items():
                worker = start(name, args, variables, setting)
                workers.append(worker)
                if worker.missing:
                    missing[name] = worker.missing
                for variant in worker.variants:
                    shown = ", ".join(filter(None, [variant, environment]))
                    records[name, shown] = Record(variant, partial(worker.ask, "epoch", variant),
                                                  worker)
        load = take_turns(list(records.values()), 1, BUDGET)
        remaining = [record for key, record in records.items() if is_near(key, records)]
        more = take_turns(remaining, args.rounds - 1, BUDGET)
        load.waiting += more.waiting
        load.others += more.others
        rows = [row_of(*key, record) for key, record in records.items()]
    finally:
        for worker in workers:
            worker.close()
    print_rows(model, rows, missing, load)
    return {**MODELS[model], "rows": rows, "missing": missing, "cores_of_waiting": load.waiting}


def is_near(key: tuple[str, str], records: dict[tuple[str, str], Record]) -> bool:
    """Return whether a variant may be its peer's fastest; each of fastmom's is told anyway."""
    name, record = key[0], records[key]
    own = [other.seconds[0] for (peer, _), other in records.items()
           if peer == name and other.seconds]
    return bool(record.seconds) and (name == OURS or record.seconds[0] < SLOWER * min(own))


def row_of(name: str, variant: str, record: Record) -> dict[str, Any]:
    worker = record.worker
    assert worker is not None
    row: dict[str, Any] = {
        "system": name, "variant": variant, "versions": worker.versions,
        "note": record.error or worker.note,
        "seconds": [] if record.error else record.seconds,
        "cores_of_others": record.others[1:], "first_loss": record.warm_up.get("loss"),
        "test_accuracy": None if record.error else
        worker.ask("accuracy", record.name).get("accuracy")}
    if "gflops" in record.warm_up:      # the best of each product
        row["gflops"] = {what: max(answer["gflops"][what] for answer in record.answers)
                         for what in record.warm_up["gflops"]}
    return row


def print_rows(model: str, rows: list[dict[str, Any]], missing: dict[str, str],
               load: Load) -> None:
    for row in rows:
        seconds = f"{typical(row['seconds']):.3f} s" if row["seconds"] else row["note"]
        print(f"{model}: {row['system']} {row['variant']}: {seconds}")
    for name, why in missing.items():
        print(f"{name} is missing: {why}")
    print(f"cores used during a turn by those that wait: {load.summary(load.waiting)}; by "
          f"other programs: {load.summary(load.others)}", flush=True)


# Reporting ----------------------------------------------------------------------------------------

def fastest(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the row of each peer's fastest variant and its median, the fastest peer first."""
    best: dict[str, dict[str, Any]] = {}
    timed = [row | {"typical": typical(row["seconds"])} for row in rows if row["seconds"]]
    for row in sorted(timed, key=lambda row: row["typical"]):
        best.setdefault(row["system"], row)
    return best


def with_one_thread(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `fastest`, and fastmom with one thread where that is not its fastest."""
    ones = [row for row in content["rows"] if (row["system"], row["variant"]) == (OURS, ONE)]
    best, one = fastest(content["rows"]), fastest(ones)
    if one and best[OURS]["variant"] != ONE:
        best[f"{OURS}, {ONE}"] = one[OURS]
    return dict(sorted(best.items(), key=lambda of: float(of[1]["typical"])))


def sizes(content: dict[str, Any]) -> str:
    return "-".join(map(str, [784, *content["hidden"], 10]))


def targets(part: Results) -> Iterator[Target]:
    for model, content in part["models"].items():
        best = fastest(content["rows"])
        for name, row in best.items():
            bound = PEERS[name].networks.get(model) if name in PEERS else None
            if bound is not None and "fastmom" in best:
                yield Target(f"epoch, {model}: {name}", best["fastmom"]["seconds"],
                             row["seconds"], bound)


def chapter(part: Results) -> str:
    texts = []
    for model, content in part["models"].items():
        best = fastest(content["rows"])
        rows = [[name, row["variant"], f"{row['typical']:.3f} s",
                 str(ratio(row["seconds"], best["fastmom"]["seconds"])),
                 number(row["first_loss"], 3) if row["first_loss"] else "",
                 f"{row['test_accuracy']:.2%}" if row["test_accuracy"] else "", row["versions"]]
                for name, row in with_one_thread(content).items()]
        texts += [f"### {model}: {sizes(content)}, dropout {content['dropout']:g}, batch "
                  f"{content['batch']}",
                  table(["system", "fastest variant", "median", "ratio",
                         "loss of epoch 1", "test accuracy", "versions"], rows)]
        texts += [f"{name} is missing: {why}" for name, why in content["missing"].items()]
    return "\n\n".join([*texts, targets_table(targets(part))])
