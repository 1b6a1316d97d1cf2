"""State in bfloat16 or float16: computed in float32, rounded to nearest, ties to even."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, label

import fastmom as fm
from fastmom import checkpoint
from fastmom.kernels import isa
from fastmom.optim import OPTIMIZERS as KINDS
from fastmom.optim.formats import WORDS, chosen, dtype_named
from fastmom.optim.reference import Reference

pytest.importorskip("ml_dtypes")

SHAPES = [(10007,), (37, 53), (3,), (0,), ()]
FIXED = {"adafactor", "adagrad", "adadelta"}        # all their state is precise
Case = tuple[type[fm.Optimizer], dict[str, Any]]


def given(kind: type[fm.Optimizer], word: str) -> Any:
    """The format by a name, or of a buffer that only a dict changes."""
    return {"velocity": word} if kind is fm.QHM else word


def arrays(seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), np.float32) for shape in SHAPES]


def round_state(optimizer: fm.Optimizer, like: fm.Optimizer) -> None:
    for own, low in zip(optimizer.state, like.state, strict=True):
        for name, buffer in own.items():
            buffer[...] = buffer.astype(low[name].dtype)


def check_equal(optimizer: fm.Optimizer, wide: fm.Optimizer) -> None:
    for group, other in zip(optimizer.param_groups, wide.param_groups, strict=True):
        for p, q in zip(group["params"], other["params"], strict=True):
            assert p.tobytes() == q.tobytes()
    for own, other in zip(optimizer.state, wide.state, strict=True):
        for name, buffer in own.items():
            assert buffer.astype(other[name].dtype).tobytes() == other[name].tobytes(), name


# Rules that read again what they stored, which is rounded then ------------------------------------

def aggmo(p: Any, g: Any, s: dict[str, Any], h: Any, low: Any, age: int) -> None:
    f = np.float32
    for j, m in enumerate(h["momenta"]):
        v = s[f"velocity{j}"]
        v[...] = (f(m) * v + (g + f(h["weight_decay"]) * p)).astype(low)
    for j in range(len(h["momenta"])):
        p -= f(h["lr"] / len(h["momenta"])) * s[f"velocity{j}"]


def adan(p: Any, g: Any, s: dict[str, Any], h: Any, low: Any, age: int) -> None:
    f, t = np.float32, age + 1
    b1, b2, b3 = h["beta1"], h["beta2"], h["beta3"]
    change = f(1 if age else 0) * (g - s["gradient"])
    ahead = g + f(1 - b2) * change
    s["change"][...] = (f(b2) * s["change"] + f(1 - b2) * change).astype(low)
    s["square"][...] = f(b3) * s["square"] + f(1 - b3) * (ahead * ahead)
    s["gradient"][...] = g.astype(low)
    mean = f(b1) * s["mean"] + f(1 - b1) * s["gradient"]
    s["mean"][...] = mean.astype(low)
    x, y = h["lr"] / (1 - b1 ** t), h["lr"] * (1 - b2) / (1 - b2 ** t)
    root = np.sqrt(f(1 / (1 - b3 ** t)) * s["square"] + f(h["eps_root"]))
    p[...] = (f(1 - h["lr"] * h["weight_decay"]) * p
              - (f(x) * mean + f(y) * s["change"]) / (root + f(h["eps"])))


def lamb(p: Any, g: Any, s: dict[str, Any], h: Any, low: Any, age: int) -> None:
    """The norm of the direction is taken before the mean is rounded, the step after."""
    f, t = np.float32, age + 1
    b1, b2, wd, eps = h["beta1"], h["beta2"], f(h["weight_decay"]), f(h["eps"])
    x, r = f(1 / (1 - b1 ** t)), f(1 / math.sqrt(1 - b2 ** t))
    mean = f(b1) * s["mean"] + f(1 - b1) * g
    s["square"][...] = f(b2) * s["square"] + f(1 - b2) * (g * g)
    z = x * mean / (r * np.sqrt(s["square"]) + eps) + wd * p
    s["mean"][...] = mean.astype(low)
    of_p, of_z = (math.sqrt(np.sum(np.square(a, dtype=np.float64))) for a in (p, z))
    trust = of_p / of_z if of_p and of_z else 1.0
    p -= f(h["lr"] * trust) * (x * s["mean"] / (r * np.sqrt(s["square"]) + eps) + wd * p)


AGAIN = {fm.AggMo: aggmo, fm.Adan: adan, fm.LAMB: lamb}


@pytest.mark.parametrize("build", isa.available())
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("case", [case for case in OPTIMIZERS
                                  if case[0].__name__.lower() not in FIXED
                                  and case[0] not in AGAIN], ids=label)
def test_equals_float32_with_rounded_state(case: Case, word: str, build: str) -> None:
    """Bit for bit, step by step, with any number of threads."""
    kind, hyper = case
    settings: dict[str, Any] = {"lr": 0.05, **hyper}
    low = kind(arrays(), **settings, state_dtype=given(kind, word))
    wide = kind(arrays(), **settings)
    before = isa.in_use()
    isa.use(build)
    try:
        round_state(wide, low)
        for t in range(4):
            assert low._engine is not None
            low._engine.parts = t
            grads = arrays(t + 1)
            low.step(grads)
            wide.step(grads)
            round_state(wide, low)
            check_equal(low, wide)
    finally:
        isa.use(before)


@pytest.mark.parametrize("build", isa.available())
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("case", [case for case in OPTIMIZERS if case[0] in AGAIN], ids=label)
def test_equals_numpy_where_state_is_read_again(case: Case, word: str, build: str) -> None:
    kind, hyper = case
    low = kind(arrays(), **{"lr": 0.05, **hyper}, state_dtype=word)
    params = arrays()
    state = [{name: v.astype(np.float32) for name, v in own.items()} for own in low.state]
    before = isa.in_use()
    isa.use(build)
    try:
        for t in range(4):
            grads = arrays(t + 1)
            low.step(grads)
            for p, g, s in zip(params, grads, state, strict=True):
                AGAIN[kind](p, g, s, low.param_groups[0], dtype_named(word), t)
    finally:
        isa.use(before)
    for p, q in zip(low.param_groups[0]["params"], params, strict=True):
        assert p.tobytes() == q.tobytes()
    for own, other in zip(low.state, state, strict=True):
        for name, v in own.items():
            assert v.astype(np.float32).tobytes() == other[name].tobytes()


@pytest.mark.parametrize("word", WORDS)
def test_the_reference_rounds_too(word: str) -> None:
    """Plain momentum without rounding errors of its own: the same bits."""
    low = fm.SGD([np.ones(50, np.float32)], lr=0.5, momentum=0.5, state_dtype=word)
    reference = Reference(low, np.float32)
    for t in range(5):
        grads = [np.random.default_rng(t).integers(-999, 999, 50).astype(np.float32)]
        low.step(grads)
        reference.step(grads)
    assert (low.state[0]["velocity"].astype(np.float32) == reference.state[0]["velocity"]).all()
    assert (low.param_groups[0]["params"][0] == reference.params[0]).all()


def special_numbers(dtype: Any) -> Any:
    """All numbers of a format, those half-way between neighbours, those beside, and any others."""
    codes = np.arange(2 ** 16, dtype=np.uint16).view(dtype).astype(np.float32)
    codes = codes[np.isfinite(codes)]
    codes.sort()
    with np.errstate(over="ignore"):
        middle = codes[:-1] + np.diff(codes) / 2
    bits = np.random.default_rng(0).integers(0, 2 ** 32, 10 ** 5, dtype=np.uint32)
    edges = np.array([np.inf, -np.inf, np.nan, 65504, 65519.996, 65520, -1e38, 3.4e38], np.float32)
    beside = [np.nextafter(middle, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([codes, middle, *beside, bits.view(np.float32), edges])


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("build", isa.available())
@pytest.mark.parametrize("word", WORDS)
def test_rounds_as_numpy_does(word: str, build: str, flush: bool) -> None:
    """Also infinities, NaN, ties and, in float16, numbers below the smallest normal one."""
    dtype = dtype_named(word)
    with np.errstate(all="ignore"):
        numbers = special_numbers(dtype)
        if flush:
            numbers[abs(numbers) < np.finfo(np.float32).tiny] = 0
        optimizer = fm.Lion([np.zeros_like(numbers)], beta2=0.0, state_dtype=word)
        before = isa.in_use(), fm.get_flush_subnormals()
        isa.use(build)
        fm.set_flush_subnormals(flush)
        try:
            optimizer.step([numbers])                       # v = g
            stored = optimizer.state[0]["velocity"].copy()
            optimizer.beta2 = 0.5
            optimizer.step([np.zeros_like(numbers)])        # v = 0.5 v
        finally:
            isa.use(before[0])
            fm.set_flush_subnormals(before[1])
        for got, exact in ((stored, numbers),
                           (optimizer.state[0]["velocity"],
                            np.float32(0.5) * stored.astype(np.float32) + np.float32(0))):
            if flush:
                exact = np.where(abs(exact) < np.finfo(np.float32).tiny, 0, exact)
            np.testing.assert_array_equal(got.astype(np.float32),
                                          exact.astype(dtype).astype(np.float32))


def test_why_squares_stay_in_float32() -> None:
    """With beta2 = 0.999 a mean changes by less than half a place of bfloat16: it stands still."""
    held = np.array([1.0], dtype_named("bfloat16"))
    wide = np.array([1.0], np.float32)
    for _ in range(1000):                               # of gradients 0
        held = (np.float32(0.999) * held.astype(np.float32)).astype(held.dtype)
        wide *= np.float32(0.999)
    assert held == 1
    assert wide == pytest.approx(0.368, rel=0.01)
    opt = fm.Adam([np.zeros(1, np.float32)], state_dtype="bfloat16")
    opt.state[0]["square"][...] = 1
    for _ in range(1000):
        opt.step([np.zeros(1, np.float32)])
    np.testing.assert_allclose(opt.state[0]["square"], wide, rtol=1e-3)
    assert {name: str(a.dtype) for name, a in opt.state[0].items()} == {
        "mean": "bfloat16", "square": "float32", "largest_square": "float32"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_optimizer_keeps_it_or_says_why_not(kind: Any) -> None:
    names = [*kind.state_names, *kind.matrix_state_names]
    for name in names:
        if name in kind.precise_state_names:
            with pytest.raises(ValueError, match=rf"state_dtype names '{name}'"):
                kind(state_dtype={name: "float16"})
    if kind.__name__.lower() in FIXED | {"qhm"}:
        with pytest.raises(ValueError, match="state_dtype='float16' would have no effect"):
            kind(state_dtype="float16")
    else:
        opt = kind(arrays(), state_dtype="float16")
        assert any(a.dtype == np.float16 for own in opt.state for a in own.values())
        assert "state_dtype='float16'" in repr(opt)


@pytest.mark.parametrize("value", ["float32", "bf16", "", 16, np.float16, True, [], {},
                                   {"velocity": "int4"}, {"velocity": None}, ("bfloat16",)])
def test_wrong_values(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"state_dtype.* must be .* not "):
        fm.SGD(state_dtype=value)


def test_names_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"state_dtype names 'speed'.*'velocity'"):
        fm.SGD(state_dtype={"speed": "float16"})


def test_all_or_none_of_the_buffers_of_one_kind() -> None:
    """No rule is compiled for a mixture."""
    with pytest.raises(ValueError, match=r"state_dtype.* together"):
        fm.Adan(state_dtype={"mean": "float16"})
    with pytest.raises(ValueError, match=r"state_dtype.* together"):
        fm.Rprop(state_dtype={"gradient": "float16", "ratio": "bfloat16"})


def test_is_for_float32_parameters() -> None:
    p = np.ones(3)
    with pytest.raises(TypeError, match=r"is for float32 parameters, and params\[1\] is float64"):
        fm.SGD([np.ones(3, np.float32), p], state_dtype="float16")
    opt = fm.SGD([np.ones(3, np.float32)], state_dtype="float16")
    with pytest.raises(TypeError, match=r"is for float32 parameters, and params\[1\] is float64"):
        opt.add_param_group({"params": [p]})
    assert len(opt.param_groups) == 1


def test_is_fixed_by_the_parameters() -> None:
    opt = fm.SGD()
    opt.state_dtype = "float16"
    opt.bind([np.ones(3, np.float32)])
    with pytest.raises(ValueError, match="takes effect when the optimizer gets its parameters"):
        opt.state_dtype = None
    opt.add_param_group({"params": [np.ones(2, np.float32)]})
    assert [own["velocity"].dtype for own in opt.state] == [np.float16] * 2


def stepped(word: str | None, **hyper: Any) -> fm.SGD:
    opt = fm.SGD(arrays(), lr=0.1, momentum=0.9, state_dtype=word, **hyper)
    for t in range(3):
        opt.step(arrays(t + 1))
    return opt


def files(tmp_path: Path, optimizer: fm.Optimizer) -> Path:
    checkpoint.save(tmp_path / "a.npz", optimizer=optimizer)
    return tmp_path / "a.npz"


@pytest.mark.parametrize("way", ["dict", "file", "fill"])
@pytest.mark.parametrize("into", [None, *WORDS])
@pytest.mark.parametrize("word", [None, *WORDS])
def test_loads_into_another_format(word: str | None, into: str | None, way: str,
                                   tmp_path: Path) -> None:
    """The optimizer keeps its own format, and the numbers are rounded to the nearest."""
    source = stepped(word)
    target = fm.SGD(arrays(), state_dtype=into)
    if way == "dict":
        target.load_state_dict(source.state_dict())
    elif way == "file":
        checkpoint.load(files(tmp_path, source), optimizer=target)
    else:
        with checkpoint.opened(files(tmp_path, source)) as saved:
            saved.fill(optimizer=target)
    assert (target.state_dtype, target.lr, target.iterations) == (into, 0.1, 3)
    for own, other in zip(target.state, source.state, strict=True):
        want = other["velocity"].astype(own["velocity"].dtype)
        assert own["velocity"].tobytes() == want.tobytes()


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source, target = stepped(None), stepped("float16")
    source.state[0]["velocity"][7] = 1e5
    before = [own["velocity"].tobytes() for own in target.state]
    with pytest.raises(ValueError, match=r"state\[0\]\['velocity'\] holds numbers that float16 "
                                         r"cannot: the largest is 100000"):
        target.load_state_dict(source.state_dict())
    with pytest.raises(checkpoint.CheckpointError, match="100000"):
        checkpoint.load(files(tmp_path, source), optimizer=target)
    assert [own["velocity"].tobytes() for own in target.state] == before


def test_other_dtypes_still_do_not_load() -> None:
    source = fm.SGD([np.ones(3)])
    with pytest.raises(TypeError, match="has dtype float64, expected float16"):
        fm.SGD([np.ones(3, np.float32)], state_dtype="float16").load_state_dict(source.state_dict())


def test_data_from_before_there_were_formats_loads() -> None:
    source, target = stepped(None), stepped(None)
    target.state[0]["velocity"][...] = 7
    data = source.state_dict()
    del data["options"]["state_dtype"]
    target.load_state_dict(data)
    check_equal(target, source)


@pytest.mark.parametrize("word", WORDS)
def test_goes_on_as_before(word: str) -> None:
    """Copies, pickles and models; with groups added and an average kept."""
    opt = stepped(word)
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert other.state_dtype == word
        other.step(arrays(7))
        expected = copy.deepcopy(opt)
        expected.step(arrays(7))
        check_equal_all(other, expected)
    params = opt.param_groups[0]["params"]
    ema = fm.EMA(params, decay=0.5, optimizer=opt)
    plain = copy.deepcopy(opt)
    before = [p.copy() for p in params]
    opt.step(arrays(8))
    plain.step(arrays(8))
    check_equal_all(opt, plain)
    for e, old, new in zip(ema.averages, before, params, strict=True):
        np.testing.assert_allclose(e, (old + new) / 2, rtol=1e-5, atol=1e-6)


def check_equal_all(one: fm.Optimizer, other: fm.Optimizer) -> None:
    for a, b in zip(one.param_groups, other.param_groups, strict=True):
        for p, q in zip(a["params"], b["params"], strict=True):
            assert p.tobytes() == q.tobytes()
    for s, r in zip(one.state, other.state, strict=True):
        for name, v in s.items():
            assert v.dtype == r[name].dtype
            assert v.tobytes() == r[name].tobytes()


def test_accumulates() -> None:
    opt, plain = (fm.SGD(arrays(), momentum=0.9, state_dtype="bfloat16") for _ in range(2))
    batches = fm.GradientAccumulation(opt, steps=2)
    for _ in range(2):
        batches.step(arrays(1))
    plain.step(arrays(1))
    check_equal_all(opt, plain)


def test_memory_mapped_parameters(tmp_path: Path) -> None:
    p = np.memmap(tmp_path / "w", np.float32, "w+", shape=(5000,))
    q = np.zeros(5000, np.float32)
    g = arrays(3)[0][:5000].copy()
    low, plain = (fm.SGD([w], momentum=0.9, state_dtype="bfloat16") for w in (p, q))
    for _ in range(3):
        low.step([g])
        plain.step([g])
    check_equal_all(low, plain)


def test_a_model_keeps_its_format(tmp_path: Path) -> None:
    model = fm.nn.Sequential([fm.nn.Dense(3, input_shape=(4,))])
    model.compile(optimizer="sgd", momentum=0.9, loss="mse", state_dtype={"velocity": "bfloat16"})
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 4), np.float32), rng.random((64, 3), np.float32)
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "m.npz")
    loaded = fm.nn.Sequential.load(tmp_path / "m.npz")
    for other in (loaded, copy.deepcopy(model)):
        assert other.optimizer.state_dtype == {"velocity": "bfloat16"}
        check_equal_all(other.optimizer, model.optimizer)


def test_from_torch() -> None:
    """Its library has no bfloat16 in NumPy, and is not needed."""
    class Tensor:
        dtype = "torch.bfloat16"

        def detach(self) -> Any:
            return self

        cpu = detach

        def float(self) -> Any:
            self.dtype = "torch.float32"
            return self

        def numpy(self) -> Any:
            assert self.dtype == "torch.float32"
            return np.array([1.0, 2.0, 0.30078125], np.float32)

    opt = fm.SGD([np.zeros(3, np.float32)], momentum=0.9, state_dtype="float16")
    group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "nesterov": False, "weight_decay": 0,
             "params": [0]}
    from fastmom.optim.state import from_torch
    from_torch(opt, {"state": {0: {"momentum_buffer": Tensor()}}, "param_groups": [group]})
    assert opt.state[0]["velocity"].tolist() == [1.0, 2.0, 0.30078125]


@pytest.mark.parametrize("damage", [{"dtype": "float99"}, {"dtype": 3}, {"dtype": ["bfloat16"]}])
def test_a_damaged_file(damage: dict[str, Any], tmp_path: Path) -> None:
    from fastmom import npz
    entry = {npz.MARK: "a", **damage}
    with pytest.raises(ValueError, match="is said to be"):
        npz.unpacked(entry, lambda _: np.zeros(2, np.uint16))
    with pytest.raises(ValueError, match="in float32"):
        npz.unpacked({npz.MARK: "a", "dtype": "bfloat16"}, lambda _: np.zeros(2, np.float32))


def test_memory() -> None:
    p = [np.zeros(1000, np.float32), np.zeros((10, 10), np.float32)]
    n = 1100
    assert fm.SGD(p).memory() == {"params": 4 * n, "state": 0, "moved": 12 * n}
    assert fm.SGD(p, momentum=0.9).memory() == {"params": 4 * n, "state": 4 * n, "moved": 20 * n}
    assert fm.SGD(p, momentum=0.9, state_dtype="bfloat16").memory() == {
        "params": 4 * n, "state": 2 * n, "moved": 16 * n}
    assert fm.AdamW(p).memory() == {"params": 4 * n, "state": 8 * n, "moved": 28 * n}
    assert fm.AdamW(p, state_dtype="float16").memory() == {
        "params": 4 * n, "state": 6 * n, "moved": 24 * n}
    assert fm.AdamW(p, amsgrad=True).memory()["state"] == 12 * n
    assert fm.AggMo(p).memory()["state"] == 12 * n
    assert fm.RMSprop(p).memory()["state"] == 4 * n
    assert fm.RMSprop(p, momentum=0.9).memory()["state"] == 8 * n
    assert fm.RMSprop(p, centered=True).memory()["state"] == 12 * n
    assert fm.NovoGrad(p).memory()["state"] == 4 * n + 8
    assert fm.Adafactor(p).memory()["state"] == 4 * (1000 + 20)
    assert fm.SGD().memory() == {"params": 0, "state": 0, "moved": 0}
    groups = [{"params": p[:1], "momentum": 0.9}, {"params": p[1:]}]
    assert fm.SGD(groups).memory()["state"] == 4000
    fm.EMA(p, optimizer=(opt := fm.SGD(p)))
    assert opt.memory() == {"params": 4 * n, "state": 0, "moved": 20 * n}


def test_ml_dtypes_is_loaded_only_for_bfloat16() -> None:
    program = ("import sys, numpy as np, fastmom as fm\n"
               "fm.SGD([np.zeros(3, 'f')], state_dtype='float16').step([np.ones(3, 'f')])\n"
               "assert 'ml_dtypes' not in sys.modules\n"
               "sys.modules['ml_dtypes'] = None\n"
               "try: fm.SGD([np.zeros(3, 'f')], state_dtype='bfloat16')\n"
               "except ModuleNotFoundError as error: print(error)\n")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "numbers in bfloat16 need ml_dtypes: pip install ml_dtypes" in run.stdout, run.stderr


def test_chosen() -> None:
    assert chosen(fm.Adam, None) == {}
    assert chosen(fm.Muon, "float16") == {"mean": "float16", "velocity": "float16"}
