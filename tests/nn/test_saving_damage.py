"""Files that are no whole model: an error that names the file, and no memory for the impossible."""

from __future__ import annotations

import copy
import json
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn, npz
from fastmom.checkpoint import CheckpointError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small trained model in a file."""
    model = nn.Sequential([
        nn.Rescaling(0.5, input_shape=(2, 3)), nn.Flatten(), nn.BatchNorm(),
        nn.Dense(4, activation="relu"), nn.Dropout(0.5), nn.Dense(3, activation="softmax")])
    model.compile(fm.Adam(lr=0.1), metrics=["accuracy"])
    rng = np.random.default_rng(0)
    model.fit(rng.random((8, 2, 3)), rng.integers(0, 3, 8), verbose=0)
    model.save(tmp_path / "model.npz")
    return tmp_path / "model.npz"


def edited(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the JSON of a file; its arrays and checksums are right."""
    def edit(file: Path) -> None:
        arrays = npz.members(file)
        content = json.loads(arrays["checkpoint"].tobytes())
        change(content)
        text = np.frombuffer(json.dumps(content).encode(), np.uint8)
        npz.write(file, {**arrays, "checkpoint": text})
    return edit


def extra(**changes: Any) -> Callable[[Path], None]:
    return edited(lambda content: content["extra"].update(changes))


def layer(i: int, **changes: Any) -> Callable[[Path], None]:
    """Change a layer's description, or with arguments=... what it is made with."""
    def change(content: Any) -> None:
        description = content["extra"]["layers"][i]
        description["arguments"].update(changes.pop("arguments", {}))
        description.update(changes)
    return edited(change)


def weights(i: int, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change a member, whose header and checksum are right."""
    def edit(file: Path) -> None:
        arrays = npz.members(file)
        npz.write(file, {**arrays, f"params/{i}": change(arrays[f"params/{i}"])})
    return edit


def without(*path: Any) -> Callable[[Path], None]:
    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        del content[path[-1]]
    return edited(change)


def optimizer(**changes: Any) -> Callable[[Path], None]:
    return edited(lambda content: content["optimizer"].update(changes))


def group(**changes: Any) -> Callable[[Path], None]:
    return edited(lambda content: content["optimizer"]["groups"][0].update(changes))


NO_MODEL = "holds no model that can be made"
DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty", lambda f: f.write_bytes(b""), "not a whole .npz file"),
    ("text", lambda f: f.write_text("no zip"), "not a whole .npz file"),
    ("foreign", lambda f: np.savez(f, a=np.ones(3)), "no checkpoint of fastmom"),
    ("no layers", without("extra", "layers"), "it is a checkpoint without a model"),
    *((f"no {key}", without("extra", key), f"{NO_MODEL}: {key!r}")
      for key in ("input_shape", "dtype", "seed", "dropout", "compiled")),
    ("layers of text", extra(layers="abc"), NO_MODEL),
    ("an empty list of layers", extra(layers=[]), "its layers have 0 weights, and it holds 67"),
    ("layers of numbers", extra(layers=[1]), NO_MODEL),
    ("an unknown layer", layer(1, layer="Conv2D"), "its layer 'Conv2D' is not known"),
    ("a layer by number", layer(1, layer=7), "its layer 7 is not known"),
    ("no layer", without("extra", "layers", 1, "layer"), f"{NO_MODEL}: 'layer'"),
    ("no arguments", without("extra", "layers", 1, "arguments"), f"{NO_MODEL}: 'arguments'"),
    ("another argument", layer(1, arguments={"x": 1}), "unexpected keyword argument 'x'"),
    ("a wrong argument", layer(4, arguments={"rate": 2}), "rate must be a number from 0 to"),
    ("an unknown activation", layer(3, arguments={"activation": "swish"}), "not 'swish'"),
    ("an activation's list", layer(3, arguments={"activation": ["relu"]}), "not ['relu']"),
    ("an unknown object", layer(3, arguments={"activation": {"prelu": 1}}), "not 'prelu'"),
    ("two objects", layer(3, arguments={"activation": {"a": 1, "b": 2}}), NO_MODEL),
    ("other units", layer(3, arguments={"units": 5}), "have 77 weights, and it holds 67"),
    ("huge units", layer(3, arguments={"units": 10 ** 10}), "weights, and it holds 67"),
    ("gigantic units", layer(3, arguments={"units": 10 ** 40}), "weights, and it holds 67"),
    ("a huge input", layer(0, input_shape=[2, 10 ** 11]), "weights, and it holds 67"),
    ("a huge shape", edited(lambda content: (
        content["extra"].update(input_shape=[2, 10 ** 11]),
        content["extra"]["layers"][0].update(input_shape=None))), "weights, and it holds 67"),
    ("another shape", extra(input_shape=[3, 2]), "the model is built for samples of shape (2, 3)"),
    ("a shape of nothing", extra(input_shape=[]), NO_MODEL),
    ("a negative shape", extra(input_shape=[-2, -3]), "input_shape must be an integer >= 1"),
    ("a shape of text", extra(input_shape="ab"), "input_shape must be an integer >= 1"),
    ("another dtype", extra(dtype="float64"), "params[0] has dtype float32, expected float64"),
    ("an unknown dtype", extra(dtype="int8"), "dtype must be 'float32' or 'float64', not 'int8'"),
    ("a negative seed", extra(seed=-1), "seed must be an integer >= 0"),
    ("a seed of text", extra(seed="0"), "seed must be an integer >= 0"),
    ("too many dropouts", extra(dropout=[[1, 2], [3, 4]]), NO_MODEL),
    ("a dropout of three", extra(dropout=[[1, 2, 3]]), NO_MODEL),
    ("a huge key", extra(dropout=[[2 ** 64, 0]]), "dropout key must be an integer from 0 to"),
    ("a huge step", extra(dropout=[[0, 2 ** 64]]), "dropout step must be an integer from 0"),
    ("a negative step", extra(dropout=[[0, -1]]), "dropout step must be an integer from 0"),
    ("compiled without loss", extra(compiled={"metrics": []}), f"{NO_MODEL}: 'loss'"),
    ("an unknown loss", extra(compiled={"loss": {"name": "hinge"}, "metrics": []}), "'hinge'"),
    ("a loss of text", extra(compiled={"loss": "mse", "metrics": []}), NO_MODEL),
    ("another loss", extra(compiled={"loss": {"name": "binary_crossentropy"}, "metrics": []}),
     "needs a last layer with activation='sigmoid'"),
    ("an unknown metric", extra(compiled={
        "loss": {"name": "sparse_categorical_crossentropy"}, "metrics": ["recall"]}), "'recall'"),
    ("an unknown optimizer", optimizer(optimizer="Shampoo"),
     "its optimizer 'shampoo' is not known"),
    ("another optimizer", optimizer(optimizer="SGD"), "SGD has no argument"),
    ("a wrong value", group(lr=-1), "lr must be a finite number >= 0, not -1"),
    ("a wrong schedule", group(lr={"schedule": "Up"}), "data['schedule'] must be one of"),
    ("a function", group(lr={"callable": "f"}), "its optimizer's lr was the function f, which"),
    ("two groups", edited(lambda content: content["optimizer"]["groups"].append({})), NO_MODEL),
    ("no optimizer", edited(lambda content: content.update(optimizer=None)), "belong to nothing"),
    ("too few steps", optimizer(steps=[1]), "does not fit"),
    ("no epoch of ours", edited(lambda content: content.update(epoch=-1)), "epoch must be"),
    ("another random state", edited(lambda content: content["rng"].update(bit_generator="X")),
     "random state of 'X'"),
    ("a missing array", edited(lambda content: content["params"].pop()), "belong to nothing"),
    ("no arrays", edited(lambda content: content.update(params=None)), "belong to nothing"),
    ("a transposed array", weights(4, lambda a: a.T.copy()), "params[4] has shape"),
    ("an array of doubles", weights(0, lambda a: a.astype(np.float64)), "params[0] has dtype"),
    ("an array of objects", weights(0, lambda a: a.astype("S4")), "has dtype |S4"),
]


@pytest.mark.parametrize(("damage", "message"), [r[1:] for r in DAMAGE], ids=[r[0] for r in DAMAGE])
def test_damaged_models(damage: Any, message: str, file: Path) -> None:
    nn.Sequential.load(file)
    damage(file)
    before = file.read_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=re.escape(message)) as raised:
            nn.Sequential.load(file)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert str(file) in str(raised.value)
    assert file.read_bytes() == before
    assert [*file.parent.iterdir()] == [file]


def test_truncated_files_and_flipped_bits(file: Path) -> None:
    """Either told, or harmless: a flipped bit may lie in a date."""
    whole, chance = file.read_bytes(), random.Random(0)
    expected = nn.Sequential.load(file).get_weights()
    ends = [0, 1, 30, len(whole) // 2, len(whole) - 1]
    broken = [whole[:end] for end in (*ends, *(chance.randrange(len(whole)) for _ in range(40)))]
    for data in broken:
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match="not a whole"):
            nn.Sequential.load(file)
    told = 0
    for _ in range(150):
        i = chance.randrange(len(whole))
        file.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << chance.randrange(8)]) + whole[i + 1:])
        try:
            got = nn.Sequential.load(file).get_weights()
        except CheckpointError:
            told += 1
        else:
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b)
    assert told > 100


# Any value, in the place of any other
VALUES: list[Any] = [None, True, -1, 0, 1, 7, 2 ** 63, 10 ** 30, -0.5, 1e308, "", "relu", "Dense",
                     [], [1], [[1, 2]], {}, {"a": 1}, {"leaky_relu": 1}, {"schedule": "Linear"}]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all values in nested dicts and lists."""
    children = (value.items() if isinstance(value, dict) else
                enumerate(value) if isinstance(value, list) else ())
    return [*([path] if path else []), *(place for key, child in children
                                         for place in places(child, (*path, key)))]


@pytest.mark.parametrize("seed", range(60))
def test_forged_descriptions(seed: int, file: Path) -> None:
    """With right checksums: an error that says so, or a model of the file's size."""
    chance = random.Random(seed)

    def forge(content: Any) -> None:
        for _ in range(chance.randint(1, 3)):
            *path, last = chance.choice(places(content))
            for step in path:
                content = content[step]
            if chance.random() < 0.2:
                del content[last]
            else:
                content[last] = copy.deepcopy(chance.choice(VALUES))
    try:
        edited(forge)(file)
    except (KeyError, IndexError, TypeError):       # a place that an earlier change took away
        return
    tracemalloc.start()
    try:
        model = nn.Sequential.load(file)
        assert model.predict(np.ones((1, *(model.input_shape or ())))).shape[1:] == (3,)
    except CheckpointError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3_000_000
