"""State in 8 bits, noise for rounding, and parameters in 16 bits, with masters and without."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builds import using
from cases import OPTIMIZERS, label
from codes import dithered, write

import fastmom as fm
from fastmom import checkpoint
from fastmom.kernels import isa
from fastmom.kernels.formats import BLOCKS, decoded
from fastmom.optim.formats import dtype_named, rounded
from fastmom.optim.reference import Reference

ml_dtypes = pytest.importorskip("ml_dtypes")

F = np.float32
BF16, HALF = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
SHAPES = [(1007,), (37, 53), (3,), (0,), ()]
Case = tuple[type[fm.Optimizer], dict[str, Any]]
PRECISE = {"Adafactor", "Adagrad", "Adadelta"}      # none of their state is kept in fewer bits
TWICE = {"LARS", "LAMB"}                            # their state goes through its format twice
CASES = [case for case in OPTIMIZERS if case[0].__name__ not in TWICE]


def arrays(seed: int = 0, dtype: Any = F) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), F).astype(dtype) for shape in SHAPES]


def widened(optimizer: fm.Optimizer, **hyper: Any) -> fm.Optimizer:
    """A float32 optimizer at the same place as one in fewer bits."""
    params = [np.asarray(p, F) for group in optimizer.param_groups for p in group["params"]]
    wide = type(optimizer)([p.copy() for p in params], **hyper)
    wide.load_state_dict({
        **optimizer.state_dict(), "options": wide.state_dict()["options"],
        "state": [{n: v.astype(v.dtype if v.dtype.itemsize in (4, 8) else F)
                   for n, v in own.items() if n != "master"} for own in optimizer.state]})
    return wide


def kept(wide: fm.Optimizer, low: fm.Optimizer, step: int, noisy: bool) -> list[dict[str, bytes]]:
    """What a step's float32 numbers become where they are kept in the formats of `low`."""
    result = []
    for i, (own, buffers) in enumerate(zip(wide.state, low._buffers(), strict=True)):
        bits = {}
        for j, (name, v) in enumerate(own.items()):
            dtype = buffers[name].dtype
            if dtype == v.dtype:
                bits[name] = v.tobytes()
            elif noisy or dtype == BLOCKS["ufloat8"]:
                bits[name] = dithered(v, dtype, step, i, 2 + j).tobytes()
            elif dtype.names is not None:
                bits[name] = write(dtype.names[-1], v.reshape(-1)).tobytes()
            else:
                bits[name] = v.astype(dtype).tobytes()
        result.append(bits)
    return result


FORMS = [("int8", "nearest"), ("float8", "nearest"), ("int8", "stochastic"),
         ("float8", "stochastic"), ("bfloat16", "stochastic"), ("float16", "stochastic")]


@pytest.mark.parametrize(("word", "rounding"), FORMS, ids="-".join)
@pytest.mark.parametrize("case", [case for case in CASES if case[0].__name__ not in PRECISE],
                         ids=label)
def test_a_step_rounds_what_float32_computes(case: Case, word: str, rounding: str) -> None:
    """Bit for bit, noise included, for any number of threads and instruction set."""
    kind, hyper = case
    if kind is fm.QHM and rounding == "nearest":
        pytest.skip("its velocity would stand still: a dict may name it")
    settings: dict[str, Any] = {"lr": 0.05, **hyper}
    low = kind(arrays(), **settings, state_dtype=word, rounding=rounding)
    assert low._engine is not None
    for t in range(4):
        wide = widened(low, **settings)
        low._engine.parts = t
        grads = arrays(t + 1)
        before = [{n: v.tobytes() for n, v in own.items()} for own in low._buffers()]
        untouched = [{n: v.tobytes() for n, v in own.items()} for own in wide.state]
        with using(isa.available()[t % len(isa.available())]):
            low.step(grads)
            wide.step(grads)
        for group, other in zip(low.param_groups, wide.param_groups, strict=True):
            for p, q in zip(group["params"], other["params"], strict=True):
                assert p.tobytes() == q.tobytes()
        after = [{n: v.tobytes() for n, v in own.items()} for own in low._buffers()]
        for own, new, bits, old, wide_old in zip(
                wide.state, after, kept(wide, low, t, rounding == "stochastic"), before, untouched,
                strict=True):
            for name, v in own.items():
                same = v.tobytes() == wide_old[name]        # also what this setting leaves alone
                assert new[name] in ((bits[name], old[name]) if same else (bits[name],)), name


@pytest.mark.parametrize("dtype", [BF16, HALF], ids=str)
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_masters_step_as_float32_parameters(case: Case, dtype: Any) -> None:
    kind, hyper = case
    low = arrays(0, dtype)
    wide = [p.astype(F) for p in low]
    opt, plain = kind(low, **hyper), kind(wide, **hyper)
    for t in range(3):
        grads = arrays(t + 1)
        assert opt.step(grads)
        plain.step(grads)
        for p, q, own, other in zip(low, wide, opt.state, plain.state, strict=True):
            assert p.tobytes() == q.astype(dtype).tobytes()
            assert own["master"].tobytes() == q.tobytes()
            assert {n: v.tobytes() for n, v in own.items() if n != "master"} == {
                n: v.tobytes() for n, v in other.items()}


@pytest.mark.parametrize("dtype", [BF16, HALF], ids=str)
@pytest.mark.parametrize("case", [c for c in OPTIMIZERS if not c[0].needs_masters], ids=label)
def test_without_masters_parameters_are_rounded_by_noise(case: Case, dtype: Any) -> None:
    kind, hyper = case
    low = arrays(0, dtype)
    opt = kind(low, **hyper, master=False, rounding="stochastic")
    assert opt._engine is not None
    for t in range(3):
        wide = widened(opt, **hyper)
        opt._engine.parts = t
        grads = arrays(t + 1)
        opt.step(grads)
        wide.step(grads)
        for i, (p, q) in enumerate(zip(low, wide.param_groups[0]["params"], strict=True)):
            assert p.tobytes() == dithered(q, dtype, t, i, 0).tobytes()
        assert [{n: v.tobytes() for n, v in own.items()} for own in opt.state] == [
            {n: v.tobytes() for n, v in own.items()} for own in wide.state]


# Noise --------------------------------------------------------------------------------------------

def errors(word: str, rounding: str, scale: float = 1.0) -> Any:
    """How far the mean of 10^4 roundings is off, in standard errors of one that is unbiased."""
    steps, x = 10_000, (np.linspace(0.3, 1, 128) * scale).astype(F)
    opt = fm.Lion([np.zeros(128, F)], beta2=0.0, state_dtype=word, rounding=rounding)     # v = g
    total, square = np.zeros(128), np.zeros(128)
    for _ in range(steps):
        opt.step([x])
        v = opt.state[0]["velocity"].astype(float)
        total, square = total + v, square + v * v
    mean = total / steps
    error = np.sqrt(np.maximum(square / steps - mean ** 2, 0) / steps)
    return (np.abs(mean - x) / np.maximum(error, 1e-7 * scale))[:-1]     # the last is the block's


@pytest.mark.parametrize(("word", "scale"), [
    ("bfloat16", 1.0), ("float16", 1.0), ("float16", 3e-5), ("int8", 1.0), ("float8", 1.0)])
def test_rounding_by_noise_is_unbiased(word: str, scale: float) -> None:
    assert errors(word, "stochastic", scale).max() < 5
    assert np.median(errors(word, "nearest", scale)) > 50       # which a biased one is not


@pytest.mark.parametrize("dtype", [BF16, HALF], ids=str)
def test_special_numbers_survive_noise(dtype: Any) -> None:
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -2.0, 2.0 ** -20], dtype)
    for t in range(50):
        opt = fm.SGD([np.zeros(8, F)], momentum=0.9, state_dtype=dtype.name, rounding="stochastic")
        assert opt._engine is not None
        opt._engine.restore([t], t)
        opt.step([special])
        np.testing.assert_array_equal(opt.state[0]["velocity"].astype(F), special.astype(F))


def test_small_changes_are_not_lost() -> None:
    """10^4 steps of 2^-14 of a number, whose neighbour in bfloat16 is 2^-7 away, add up."""
    p = np.ones(256, BF16)
    opt = fm.SGD([p], lr=2.0 ** -14, master=False, rounding="stochastic")
    for _ in range(10_000):
        opt.step([np.full(256, -1.0, F)])
    assert p.astype(F).mean() == pytest.approx(1 + 10_000 * 2.0 ** -14, rel=0.02)


def test_squares_move_in_bfloat16() -> None:
    opt = fm.Adam([np.zeros(256, F)], state_dtype="bfloat16", rounding="stochastic")
    opt.state[0]["square"][...] = 1
    for _ in range(1000):
        opt.step([np.zeros(256, F)])
    assert opt.state[0]["square"].astype(F).mean() == pytest.approx(0.999 ** 1000, rel=0.05)


# Data ---------------------------------------------------------------------------------------------

SETTINGS: list[dict[str, Any]] = [
    {}, {"state_dtype": "bfloat16"}, {"state_dtype": "int8"}, {"state_dtype": "float8"},
    {"state_dtype": {"mean": "float8", "square": "ufloat8"}},
    {"state_dtype": {"square": "ufloat8"}},
    {"state_dtype": "bfloat16", "rounding": "stochastic"}]


def stepped(dtype: Any = F, **hyper: Any) -> fm.AdamW:
    opt = fm.AdamW(arrays(0, dtype), lr=0.1, **hyper)
    for t in range(3):
        opt.step(arrays(t + 1))
    return opt


def bits(opt: fm.Optimizer) -> list[Any]:
    return [[p.tobytes() for group in opt.param_groups for p in group["params"]],
            [{n: v.tobytes() for n, v in own.items()} for own in opt._buffers()]]


@pytest.mark.parametrize("way", ["dict", "file", "fill"])
@pytest.mark.parametrize("into", SETTINGS, ids=str)
@pytest.mark.parametrize("source", SETTINGS, ids=str)
def test_state_loads_into_any_format(source: dict[str, Any], into: dict[str, Any], way: str,
                                     tmp_path: Path) -> None:
    one, other = stepped(**source), fm.AdamW(arrays(), **into)
    if way == "dict":
        other.load_state_dict(one.state_dict())
    else:
        checkpoint.save(tmp_path / "a.npz", optimizer=one)
        if way == "file":
            checkpoint.load(tmp_path / "a.npz", optimizer=other)
        else:
            with checkpoint.opened(tmp_path / "a.npz") as saved:
                saved.fill(optimizer=other)
    assert other.state_dtype == into.get("state_dtype")
    for own, buffers, raw in zip(other._buffers(), one.state, one._buffers(), strict=True):
        for name, v in own.items():
            want = raw[name] if raw[name].dtype == v.dtype else rounded("", buffers[name], v)
            assert v.tobytes() == want.tobytes(), name


@pytest.mark.parametrize("dtype", [np.dtype(F), BF16, HALF], ids=str)
@pytest.mark.parametrize("hyper", SETTINGS, ids=str)
def test_goes_on_as_before(hyper: dict[str, Any], dtype: Any, tmp_path: Path) -> None:
    """From copies, pickles and files: to the bit, noise included."""
    for master in (True, False) if hyper.get("rounding") and dtype != F else (True,):
        opt = stepped(dtype, **hyper, master=master)
        loaded = fm.AdamW(arrays(0, dtype), **hyper, master=master)
        own, other = opt.param_groups[0]["params"], loaded.param_groups[0]["params"]
        named = [{str(i): p.view(np.uint16) if dtype == BF16 else p for i, p in enumerate(params)}
                 for params in (own, other)]
        checkpoint.save(tmp_path / "a.npz", params=named[0], optimizer=opt)
        checkpoint.load(tmp_path / "a.npz", params=named[1], optimizer=loaded)
        others = [copy.deepcopy(opt), pickle.loads(pickle.dumps(opt)), loaded]
        for each in (opt, *others):
            each.step(arrays(9))
        for each in others:
            assert bits(each) == bits(opt)


def test_the_reference_rounds_too() -> None:
    for word in ("int8", "float8"):
        opt = fm.SGD([np.ones(300, F)], lr=0.5, momentum=0.5, state_dtype=word)
        reference = Reference(opt, F)
        for t in range(3):
            grads = [np.random.default_rng(t).integers(-99, 99, 300).astype(F)]
            opt.step(grads)
            reference.step(grads)
        np.testing.assert_allclose(opt.param_groups[0]["params"][0], reference.params[0], rtol=1e-5)
        np.testing.assert_allclose(opt.state[0]["velocity"], reference.state[0]["velocity"],
                                   rtol=1e-5, atol=1e-5)


def test_state_in_blocks_can_be_read_and_not_written() -> None:
    opt = fm.SGD([np.ones((5, 70), F)], momentum=0.9, state_dtype="int8")
    opt.step([np.ones((5, 70), F)])
    v = opt.state[0]["velocity"]
    assert v.shape == (5, 70)
    assert (v == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        v[...] = 0
    assert (decoded(opt._buffers()[0]["velocity"], (350,)) == 1).all()


def test_averages_and_accumulation_of_masters() -> None:
    p = np.ones(300, BF16)
    opt = fm.SGD([p], lr=1.0, momentum=0.9, state_dtype="float8")
    ema = fm.EMA([p], decay=0.5, optimizer=opt)
    fm.GradientAccumulation(opt, 1).step([np.full(300, 0.5, F)])
    assert ema.averages[0].dtype == F
    with ema.swapped():
        assert (p.astype(F) == 0.75).all()
    assert (p.astype(F) == 0.5).all()
    assert (opt.state[0]["master"] == 0.5).all()


@pytest.mark.parametrize("dtype", [BF16, HALF], ids=str)
def test_gradients_are_added_up_in_float32(dtype: Any) -> None:
    """In 16 bits the sum would stand still, at 1/2 or before."""
    p = np.zeros(300, dtype)
    opt = fm.SGD([p], lr=1.0, master=False, rounding="stochastic")
    batches = fm.GradientAccumulation(opt, 4096)
    for _ in range(4096):
        batches.step([np.ones(300, dtype)])
    assert (p.astype(F) == -1).all()


def test_groups_that_are_added() -> None:
    p, q = np.ones(300, F), np.ones(300, BF16)
    opt = fm.SGD([p], lr=0.5, state_dtype="int8", rounding="stochastic", momentum=0.9)
    opt.add_param_group({"params": [q]})
    opt.step([np.ones(300, F), np.ones(300, HALF)])
    assert (p == 0.5).all()
    assert (q.astype(F) == 0.5).all()


@pytest.mark.parametrize("hyper", [{"state_dtype": "int8", "rounding": "stochastic"},
                                   {"state_dtype": "bfloat16", "rounding": "stochastic"},
                                   {"state_dtype": "bfloat16"}, {}])
def test_pieces_of_long_lists_get_the_same_bits(hyper: dict[str, Any]) -> None:
    def stepped(*sizes: int) -> list[bytes]:
        params = [np.linspace(-1, 1, size, dtype=F) for size in sizes]
        copies = [np.zeros(size, HALF) for size in sizes]
        opt = fm.AdamW(params, lr=1e-2, copies=copies, **hyper)
        for _ in range(3):
            opt.step([p * p for p in params])
        return [a[0].tobytes() for a in (params, copies)]
    assert stepped(5000, 2 ** 19) == stepped(5000)


def test_in_files(tmp_path: Path) -> None:
    made = np.memmap(tmp_path / "w", np.float16, "w+", shape=(5000,))
    plain = np.zeros(5000, np.float16)
    opts = [fm.AdamW([w], state_dtype="float8") for w in (made, plain)]
    for t in range(3):
        for opt in opts:
            opt.step([np.random.default_rng(t).standard_normal(5000).astype(F)])
    assert bits(opts[0]) == bits(opts[1])


def test_copies_of_the_constructor() -> None:
    p, half = np.ones(300, F), np.zeros(300, HALF)
    opt = fm.SGD([p], lr=0.5, momentum=0.9, state_dtype="int8", copies=[half])
    assert (half == 1).all()
    opt.step([np.ones(300, F)])
    assert (half == 0.5).all()
    with pytest.raises(ValueError, match="copies needs params"):
        fm.SGD(copies=[half])


def test_memory() -> None:
    n = 128 * 100
    for hyper, state in (({}, 8.0), ({"state_dtype": "int8"}, 2 * 132 / 128),
                         ({"state_dtype": "bfloat16", "rounding": "stochastic"}, 4)):
        assert fm.AdamW([np.zeros(n, F)], **hyper).memory() == {
            "params": 4 * n, "state": state * n, "moved": 2 * (4 + state) * n + 4 * n}
    assert fm.SGD([np.zeros(n, BF16)], momentum=0.9).memory() == {
        "params": 2 * n, "state": 4 * n, "masters": 4 * n, "moved": 20 * n}
    assert fm.SGD([np.zeros(n, BF16)], master=False, rounding="stochastic").memory() == {
        "params": 2 * n, "state": 0, "moved": 6 * n}
    assert fm.SGD([np.zeros(n, F)], copies=[np.zeros(n, BF16)]).memory() == {
        "params": 4 * n, "state": 0, "copies": 2 * n, "moved": 14 * n}


# Refused ------------------------------------------------------------------------------------------

BAD: list[tuple[str, Callable[[], Any], str]] = [
    ("of 8 bits", lambda: fm.SGD([np.zeros(4, BLOCKS["int8"])]), r"params\[0\] has dtype"),
    ("integers", lambda: fm.SGD([np.zeros(4, np.int16)]), r"params\[0\] has dtype int16"),
    ("copies in 8 bits", lambda: fm.SGD([np.zeros(4, F)], copies=[np.zeros(1, BLOCKS["int8"])]),
     "expected float16 or bfloat16 copies"),
    ("copies of 16 bits", lambda: fm.SGD([np.zeros(4, HALF)], copies=[np.zeros(4, BF16)]),
     r"copies\[0\] must be None: params\[0\] is float16 itself"),
    ("8 bits beside float64", lambda: fm.SGD([np.zeros(4)], state_dtype="int8"),
     r"is for float32 parameters, and params\[0\] is float64"),
    ("rounding of nothing", lambda: fm.SGD([np.zeros(4, F)], rounding="stochastic"),
     "rounding='stochastic' would have no effect"),
    ("rounding of masters", lambda: fm.SGD([np.zeros(4, HALF)], rounding="stochastic"),
     "rounding='stochastic' would have no effect"),
    ("no masters of float32", lambda: fm.SGD([np.zeros(4, F)], master=False,
                                             rounding="stochastic"),
     "master=False would have no effect"),
    ("no masters, nearest", lambda: fm.SGD([np.zeros(4, HALF)], master=False),
     "master=False needs rounding='stochastic'"),
    ("in NumPy", lambda: fm.Muon(master=False, rounding="stochastic"), "needs float32 masters"),
    ("squares, nearest", lambda: fm.Adam(state_dtype={"square": "bfloat16"}),
     "may be in 'ufloat8', or with rounding='stochastic' in 'bfloat16'"),
    ("squares with a sign", lambda: fm.Adam(state_dtype={"square": "int8"}), "not in 'int8'"),
    ("means without", lambda: fm.Adam(state_dtype={"mean": "ufloat8"}), "has no sign"),
    ("ufloat8 of all", lambda: fm.Adam(state_dtype="ufloat8"), "state_dtype must be one of"),
    ("a word", lambda: fm.SGD(rounding="up"), "rounding must be one of"),
    ("averages without masters", lambda: average(), "has dtype bfloat16"),
]


def average() -> None:
    p = np.zeros(4, BF16)
    fm.EMA([p], optimizer=fm.SGD([p], master=False, rounding="stochastic"))


@pytest.mark.parametrize(("make", "message"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("dtype", [BF16, HALF], ids=str)
def test_gradients_of_16_bit_parameters(dtype: Any) -> None:
    p = np.ones(4, dtype)
    opt = fm.SGD([p])
    for bad, message in ((np.zeros(4), "has dtype float64"), (np.zeros(5, dtype), "has shape"),
                         (p, "overlaps"), (opt.state[0]["master"], "overlaps")):
        with pytest.raises((TypeError, ValueError), match=message):
            opt.step([bad])
    assert opt.iterations == 0
    assert (p.astype(F) == 1).all()


def test_damaged_files(tmp_path: Path) -> None:
    """Records of another length, or that are said to be something else."""
    from fastmom import npz
    for array in (np.zeros(3, "V131"), np.zeros(3, np.uint8)):
        with pytest.raises(ValueError, match="is said to be"):
            npz.unpacked({npz.MARK: "a", "dtype": "int8"}, lambda _, a=array: a)
    source = stepped(state_dtype="int8").state_dict()
    target = fm.AdamW([np.zeros(p.size + 200, F) for p in arrays()], state_dtype="int8")
    with pytest.raises(ValueError, match=r"state\[0\]\['mean'\] has shape"):
        target.load_state_dict(source)
    assert dtype_named("int8") == BLOCKS["int8"]


@pytest.mark.parametrize("hyper", [{}, {"master": False, "rounding": "stochastic"}], ids=str)
def test_sums_relative_to_16_bit_parameters(hyper: dict[str, Any]) -> None:
    p = np.full(300, 4, BF16)
    clients = [np.full(300, c, F) for c in (1.0, 3.0)]
    fm.SGD([p], lr=0.5, **hyper).step([fm.WeightedSum(clients, [0.5, 0.5], relative=True)])
    assert (p.astype(F) == 3).all()         # half of the way to the mean, 2
