"""A training that writes checkpoints, for the test that kills it; takes their directory.

Also imported by the tests, for the same training without interruption and for small files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastmom as fm
from fastmom import checkpoint
from fastmom.optim.schedules import Linear, ReduceOnPlateau

EVERY = 3       # steps from one checkpoint to the next


class Training:
    """Noisy gradients, two groups of different rules, every kind of state there is."""

    def __init__(self) -> None:
        self.rng = np.random.Generator(np.random.MT19937(0))
        self.params = [np.ones((200, 300), np.float32), np.ones(7), np.ones(1000)]
        self.lr = ReduceOnPlateau(1e-3, factor=0.99, patience=2)
        self.optimizer = fm.Adam([
            {"params": self.params[:2], "lr": self.lr, "amsgrad": True},
            {"params": self.params[2:], "beta1": Linear(0.5, 0.9, steps=200)}], clip_norm=10.0)

    def step(self) -> None:
        grads: list[Any] = [p + self.rng.standard_normal(p.shape, p.dtype) for p in self.params]
        if self.optimizer.iterations % 5 == 0:
            grads[1] = None             # so that parameters differ in age
        self.optimizer.step(grads)
        self.lr.observe(float(np.square(self.params[2]).mean()))

    def resume(self, directory: Path) -> None:
        newest = checkpoint.latest(directory)
        if newest is not None:
            found = checkpoint.load(newest, params=self.params, optimizer=self.optimizer,
                                    rng=self.rng)
            assert found.epoch == found.extra["number"] == self.optimizer.iterations

    def save(self, directory: Path) -> None:
        number = self.optimizer.iterations
        checkpoint.save(directory / f"checkpoint-{number:08d}.npz", params=self.params,
                        optimizer=self.optimizer, rng=self.rng, epoch=number,
                        extra={"number": number})
        old = directory / f"checkpoint-{number - 3 * EVERY:08d}.npz"
        old.unlink(missing_ok=True)

    def everything(self) -> tuple[Any, ...]:
        """All numbers as bytes or text."""
        state = self.optimizer.state_dict()
        arrays = [*self.params, *(a for buffers in state.pop("state") for a in buffers.values())]
        return repr(state), repr(self.rng.bit_generator.state), [a.tobytes() for a in arrays]


def small() -> dict[str, Any]:
    params = [np.ones(3), np.ones((2, 2), np.float32)]
    return {"params": params, "optimizer": fm.SGD(params, momentum=0.9),
            "rng": np.random.Generator(np.random.PCG64(0))}


def snapshot(objects: dict[str, Any]) -> tuple[Any, ...]:
    return (*(a.tobytes() for a in objects["params"]), repr(objects["optimizer"].state_dict()),
            repr(objects["rng"].bit_generator.state))


def written(file: Path) -> bytes:
    objects = small()
    objects["optimizer"].step([np.full(3, 0.5), np.full((2, 2), 0.25, np.float32)])
    objects["rng"].random()
    checkpoint.save(file, **objects, epoch=1)
    return file.read_bytes()


def main(directory: Path) -> None:
    print("ready", flush=True)
    training = Training()
    training.resume(directory)
    while True:
        training.step()
        print("stepped", flush=True)
        if training.optimizer.iterations % EVERY == 0:
            print("saving", flush=True)
            training.save(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
