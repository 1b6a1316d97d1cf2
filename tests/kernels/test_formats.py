"""State in blocks of 8 bits, gradients of 2 bytes: computed in float32 and rounded as in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builds import using
from codes import FORMATS, keys, read, write

from fastmom.kernels import Engine, isa
from fastmom.kernels.formats import BLOCK, BLOCKS, decoded, encoded
from fastmom.kernels.loops_baseline import rules

F = np.float32
SIZES = (1, 127, 128, 129, 511, 4096, 9000)
NAMES = list(rules)
DIRECTED = ("lars", "lamb")             # their state goes through the format twice in a step


def numbers(name: str, n: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n) * 10.0 ** rng.uniform(-4, 2, n)
    x[rng.integers(0, n, n // 10)] = 0
    return (np.abs(x) if name == "ufloat8" else x).astype(F)


@pytest.mark.parametrize("build", isa.available())
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("n", SIZES)
def test_conversions(n: int, name: str, build: str) -> None:
    x = numbers(name, n)
    with using(build):
        records = encoded(x, BLOCKS[name])
        back = decoded(records, (n,))
    assert records.tobytes() == write(name, x).tobytes()
    assert back.tobytes() == read(name, records, n).tobytes()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scale", [1e-38, 2.9e-36, 3.1e-36, 1e-30, 1e38])
def test_extremes(name: str, scale: float) -> None:
    x = numbers(name, 300) / F(200) * F(scale)
    x[0] = scale
    records = encoded(x, BLOCKS[name])
    assert records.tobytes() == write(name, x).tobytes()
    assert decoded(records, (300,))[0] == pytest.approx(scale * (scale >= 3e-36), rel=1e-6)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_block_that_is_not_finite_becomes_nan(name: str, value: float) -> None:
    x = np.ones(3 * BLOCK, F)
    x[BLOCK + 5] = value
    back = decoded(encoded(x, BLOCKS[name]), x.shape)
    assert np.isnan(back[BLOCK:2 * BLOCK]).all()
    assert (back[:BLOCK] == 1).all()
    assert (back[2 * BLOCK:] == 1).all()


# Whole steps -------------------------------------------------------------------------------------

def engine(params: list[Any], state: list[Any], **options: Any) -> Engine:
    e = Engine(params, state)
    e.assign([0] * len(params))
    for name, value in options.items():
        setattr(e, name, value)
    return e


def row(rule: str) -> tuple[Any, ...]:
    """Plausible coefficients: between 0 and 1."""
    rng = np.random.default_rng(len(rule))
    own = {c: 1.0 if c == "count" else float(rng.uniform(0.1, 0.9)) for c in rules[rule]}
    return (NAMES.index(rule), *own.values())


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "clip_value": 0.02}],
                         ids=["plain", "clipped"])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rule", [rule for rule in NAMES if rule not in DIRECTED])
def test_a_step_rounds_what_the_float32_rule_computes(rule: str, name: str,
                                                      options: dict[str, float]) -> None:
    sizes = SIZES[2:]
    params = [numbers("float8", n, n) for n in sizes]
    grads = [numbers("float8", n, n + 1) for n in sizes]
    low = [tuple(encoded(numbers("ufloat8", n, n + j), BLOCKS[name]) for j in range(4))
           for n in sizes]
    wide = [tuple(decoded(records, (n,)) for records in own)
            for n, own in zip(sizes, low, strict=True)]
    before = [[array.copy() for array in own] for own in wide]
    first = [[array.tobytes() for array in own] for own in low]
    copies = [p.copy() for p in params]
    with np.errstate(all="ignore"):
        for arrays, state in ((params, low), (copies, wide)):
            e = engine(arrays, state, **options)
            e.restore([3] * len(sizes), 3)
            assert e.run(grads, [row(rule)])
    for i, n in enumerate(sizes):
        assert params[i].tobytes() == copies[i].tobytes()
        for j in range(4):
            if np.array_equal(wide[i][j], before[i][j]):
                assert low[i][j].tobytes() == first[i][j]
            elif np.isfinite(wide[i][j]).all():
                assert low[i][j].tobytes() == write(name, wide[i][j],
                                                    keys(3, i, 2 + j, n)).tobytes()


@pytest.mark.parametrize("formats", [("int8", "ufloat8"), ("float8", None), ("float8", "float16")],
                         ids=str)
@pytest.mark.parametrize("rule", ["adam", "lamb"])
def test_threads_and_builds_give_the_same_bits(rule: str, formats: tuple[Any, Any]) -> None:
    results = set()
    n = 70001
    for build in isa.available():
        for parts in (1, 2, 3, 8):
            p = numbers("float8", n)
            state = tuple(np.zeros(-(-n // BLOCK), BLOCKS[f]) if f in BLOCKS
                          else np.zeros(n, f or F) for f in formats)
            with using(build):
                e = engine([p], [state], parts=parts)
                for k in range(3):
                    e.run([numbers("float8", n, k)], [row(rule)])
            results.add((p.tobytes(), *[array.tobytes() for array in state]))
    assert len(results) == 1


# Stochastic rounding -----------------------------------------------------------------------------

def mean_errors(name: str, rule_row: tuple[Any, ...], place: int) -> Any:
    """How far the mean of 10^4 roundings is off, in standard errors of one that is unbiased."""
    n, steps = BLOCK, 10_000
    x = np.linspace(0.3, 1, n).astype(F)
    state = [np.zeros(1, BLOCKS[name]), np.zeros(1, BLOCKS[name])]
    e = engine([np.zeros(n, F)], [tuple(state)])
    total = np.zeros(n)
    for _ in range(steps):
        e.run([np.sqrt(x)], [rule_row])
        total += decoded(state[place], (n,))
    exact = np.sqrt(x) * np.sqrt(x) if place else np.sqrt(x)
    low = 2.0 ** (np.floor(np.log2(exact / exact.max())) - 3) * exact.max()     # between neighbours
    part = exact / low % 1
    error = np.maximum(np.sqrt(part * (1 - part)), 0.01) * low / np.sqrt(steps)
    return np.abs(total / steps - exact)[:-1] / error[:-1]


def adam(**changed: float) -> tuple[Any, ...]:
    own = dict.fromkeys(rules["adam"], 0.0) | {"k1": 1.0, "k2": 1.0, "eps": 1.0, "keep": 1.0}
    return (NAMES.index("adam"), *(own | changed).values())


def test_means_of_squares_are_rounded_without_bias() -> None:
    assert mean_errors("ufloat8", adam(), 1).max() < 5


def test_rounding_to_nearest_would_be_noticed() -> None:
    assert mean_errors("float8", adam(), 0).max() > 50


def test_a_mean_of_squares_moves_where_rounding_to_nearest_stands_still() -> None:
    n = 10 * BLOCK
    ends = {}
    for name in ("float8", "ufloat8"):
        state = (np.zeros(n, F), np.zeros(n // BLOCK, BLOCKS[name]))
        e = engine([np.zeros(n, F)], [state])
        g = np.full(n, 0.5, F)
        g[::BLOCK] = 1                              # so that the scale stays
        e.run([np.ones(n, F)], [adam()])            # all squares are 1
        for _ in range(3000):
            e.run([g], [adam(b2=0.999, k2=0.001)])
        ends[name] = np.median(decoded(state[1], (n,)))
    assert ends["float8"] == 1                      # a step changes it by 0.075 %
    assert ends["ufloat8"] == pytest.approx(0.25 + 0.75 * 0.999 ** 3000, rel=0.2)


# Refused -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("state", "match"), [
    (np.zeros(3, BLOCKS["int8"]), "is now"),                                # too few blocks
    (np.zeros(4, [("scale", F), ("int4", np.int8, (BLOCK,))]), "no rule takes that"),
    (np.zeros(4, [("scale", F), ("int8", np.int8, (64,))]), "no rule takes that"),
])
def test_other_records_are_refused(state: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        Engine([np.zeros(500, F)], [(state,)])


def test_blocks_beside_float64_are_refused() -> None:
    with pytest.raises(TypeError, match="no rule takes that"):
        Engine([np.zeros(500)], [(np.zeros(4, BLOCKS["int8"]),)])


def test_conversions_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one of BLOCKS"):
        encoded(np.zeros(3, F), np.dtype(F))
    with pytest.raises(ValueError, match="takes 3 records"):
        decoded(np.zeros(2, BLOCKS["int8"]), (300,))
