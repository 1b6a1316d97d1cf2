"""What a model tells of a training beside the logs, and what is stored beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastmom import checkpoint, nn


def test_the_losses_of_the_steps(make: Any, problem: Any) -> None:
    x, y = problem(20)
    model, taken = make(), []
    assert model.batch_losses == ()

    def take(epoch: int, logs: Any) -> None:
        taken.append(list(model.batch_losses))
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0,
                        callbacks=[nn.LambdaCallback(on_epoch_end=take)]).history
    assert [len(losses) for losses in taken] == [3, 3, 3]       # of 8, 8 and 4 samples
    for losses, mean in zip(taken, history["loss"], strict=True):
        assert (8 * losses[0] + 8 * losses[1] + 4 * losses[2]) / 20 == pytest.approx(mean)


def test_the_losses_of_an_interrupted_epoch(make: Any, problem: Any) -> None:
    def stop(batch: int, logs: Any) -> None:
        if batch == 2:
            raise KeyboardInterrupt
    model = make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*problem(20), batch_size=4, verbose=0,
                  callbacks=[nn.LambdaCallback(on_train_batch_begin=stop)])
    assert len(model.batch_losses) == 2


def test_extra(make: Any, problem: Any, tmp_path: Path) -> None:
    model, file = make(), tmp_path / "model.npz"
    model.fit(*problem(20), verbose=0)
    for extra in (None, {"note": ["a", 1, float("inf")]}):
        model.save(file, extra)
        assert checkpoint.load(file).extra["extra"] == extra
        assert nn.Sequential.load(file).epoch == 1
    before = file.read_bytes()
    with pytest.raises(TypeError, match="extra/extra cannot be stored"):
        model.save(file, {1, 2})
    assert file.read_bytes() == before
