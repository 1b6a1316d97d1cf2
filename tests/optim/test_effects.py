"""Each hyper-parameter of each optimizer takes effect, or raises an error that names it.

Everything here runs over what the classes declare: a new optimizer needs nothing, a new
hyper-parameter a row in VALUES, and one in NEEDS where it works only together with others.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim import OPTIMIZERS
from fastmom.optim.hyper import Choice, Flag, Hyper, Integer, Number, Numbers

# Values of which any two must give different results. Flags and choices need no row: all are tried.
VALUES: dict[str, tuple[Any, ...]] = {
    "adamw_eps": (1e-8, 0.1),
    "adamw_lr": (0.01, 0.02),
    "beta": (0.5, 0.9),
    "beta1": (0.0, 0.5, 0.9),
    "beta2": (0.5, 0.9),
    "beta2_decay": (-0.8, -0.2),
    "beta3": (0.5, 0.9),
    "clip_norm": (None, 4.0, 1.0),
    "clip_norm_per_tensor": (None, 4.0, 1.0),
    "clip_value": (None, 1.0, 0.1),
    "clipping_threshold": (1.0, 1.1),
    "curv_win_width": (1, 2, 20),
    "dampening": (0.0, 0.5),
    "decay": (0.0, 0.5),
    "eps": (1e-8, 0.1),
    "eps1": (None, 0.5, 1.0),
    "eps2": (1e-3, 10.0),
    "eps_root": (0.0, 0.1),
    "eta_minus": (0.5, 0.25),
    "eta_plus": (1.2, 2.0),
    "grad_scale": (1.0, 8.0),
    "initial_accumulator": (0.0, 1.0),
    "lr": (0.0, 0.01, 0.02),
    "momenta": ((0.0, 0.9), (0.9,), (0.5,)),
    "momentum": (0.0, 0.5, 0.9),
    "momentum_decay": (0.0, 0.5),
    "ns_coefficients": ((3.4445, -4.775, 2.0315), (1.5, -0.5, 0.0), (2.0, -1.5, 0.5)),
    "ns_steps": (1, 2, 5),
    "nu": (0.0, 0.7),
    "step_max": (50.0, 0.011),
    "step_min": (1e-6, 0.009),
    "trust_coefficient": (0.001, 0.01),
    "weight_decay": (0.0, 0.1),
}

# What must be set besides, for all optimizers or, where (class, name) has a row, for one.
NEEDS: dict[str | tuple[str, str], dict[str, Any]] = {
    "amsgrad": {"beta2": 0.5},
    "convention": {"momentum": 0.9, "decay": 0.5},      # two agree as long as lr is constant
    "dampening": {"momentum": 0.9},
    "decoupled_weight_decay": {"weight_decay": 0.1},
    "eps_inside_root": {"eps": 0.1},
    "grad_scale": {"clip_value": 1.0},                  # many do not depend on the scale alone
    "nesterov": {"momentum": 0.9},
    "restart": {"momentum": 0.99},                      # which the third gradient turns
    ("Muon", "eps"): {"grad_scale": 1000.0},            # it limits from below
    ("YellowFin", "adapt_clip"): {"curv_win_width": 1, "beta": 0.5},
    ("SGD", "decoupled_weight_decay"): {"weight_decay": 0.1, "momentum": 0.9},
    # without weight decay the trust ratio cancels any scale of a gradient
    ("LARS", "clip_norm"): {"weight_decay": 0.1},
    ("LARS", "clip_norm_per_tensor"): {"weight_decay": 0.1},
}

# Raise, since they could have no effect
REFUSED = [("Rprop", name) for name in ("clip_norm", "clip_norm_per_tensor", "clip_value",
                                        "grad_scale")]

# A matrix and a vector, for the optimizers that tell them apart.
RNG = np.random.default_rng(0)
START = [RNG.standard_normal((6, 8)), RNG.standard_normal(20)]
GRADS = [[size * RNG.standard_normal(p.shape) for p in START]
          for size in (1.0, 3.0, 0.3, 2.0, 0.1, 0.5, 1.5)]

Kind = type[fm.Optimizer]
CASES = [(kind, {**kind._group_hypers, **kind._shared_hypers}[name])
         for kind in OPTIMIZERS.values()
         for name in (*kind._group_hypers, *kind._shared_hypers)
         if (kind.__name__, name) not in REFUSED
         # of numbers in few bits: see test_state_dtype.py and test_low_precision.py
         and name not in ("state_dtype", "rounding", "master")]
each_case = pytest.mark.parametrize(("kind", "hyper"), CASES,
                                    ids=[f"{kind.__name__}-{hyper.name}" for kind, hyper in CASES])


def values(hyper: Hyper) -> tuple[Any, ...]:
    if isinstance(hyper, Flag):
        return (False, True)
    if isinstance(hyper, Choice):
        return hyper.words
    return tuple(v for v in VALUES[hyper.name] if not (v == 0 and hyper.open_low))


def base(kind: Kind, hyper: Hyper) -> dict[str, Any]:
    """A visible lr, and what the hyper-parameter needs."""
    needs = NEEDS.get((kind.__name__, hyper.name), NEEDS.get(hyper.name, {}))
    return {"lr": 0.01, **needs}


def moved(optimizer: fm.Optimizer, hyper: Hyper, **later: Any) -> Any:
    """Return how far seven steps go; hyper-parameters in `later` are assigned before the third."""
    params = [p.copy() for p in START]
    optimizer.bind(params)
    for i, grads in enumerate(GRADS):
        if i == 2:
            for name, value in later.items():
                setattr(optimizer, name, value)
            if hyper.name == "nonfinite":
                grads = [grads[0], np.full(20, np.nan)]
        try:
            optimizer.step(grads)
        except FloatingPointError:
            break
    return np.concatenate([(p - q).ravel() for p, q in zip(params, START, strict=True)])


def differ(a: Any, b: Any) -> bool:
    """By more than rounding; a NaN differs from any number."""
    return not np.allclose(a, b, rtol=0, atol=1e-6 * np.nanmax(np.abs([a, b])))


def test_table_is_complete() -> None:
    """Each hyper-parameter has its values, and each row a hyper-parameter."""
    names = {hyper.name for _, hyper in CASES if not isinstance(hyper, (Flag, Choice))}
    assert names - set(VALUES) == set(), "add values that give different results to VALUES"
    assert set(VALUES) - names == set(), "VALUES has rows that nothing uses"
    used = {key for kind, hyper in CASES for key in (hyper.name, (kind.__name__, hyper.name))}
    assert set(NEEDS) - used == set(), "NEEDS has rows that nothing uses"


@each_case
def test_changes_the_result(kind: Kind, hyper: Hyper) -> None:
    make: Any = kind
    settings = base(kind, hyper)
    results = [moved(make(**settings | {hyper.name: value}), hyper) for value in values(hyper)]
    for a, b in itertools.combinations(results, 2):
        assert differ(a, b)


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_without_effect_raises(kind: str, name: str) -> None:
    make: Any = getattr(fm, kind)
    optimizer = make()
    for value in VALUES[name][1:]:
        with pytest.raises(ValueError, match=rf"{name}={value} would have no effect"):
            make(**{name: value})
        with pytest.raises(ValueError, match=rf"{name}={value} would have no effect"):
            setattr(optimizer, name, value)


@each_case
def test_assigned_is_as_constructed(kind: Kind, hyper: Hyper) -> None:
    make: Any = kind
    first, *others = values(hyper)
    settings = base(kind, hyper) | {hyper.name: first}
    for value in others:
        optimizer = make(**settings)
        setattr(optimizer, hyper.name, value)
        expected = moved(make(**settings | {hyper.name: value}), hyper)
        np.testing.assert_array_equal(moved(optimizer, hyper), expected)


@each_case
def test_assigned_between_steps_takes_effect(kind: Kind, hyper: Hyper) -> None:
    make: Any = kind
    first, *others = values(hyper)
    settings = base(kind, hyper) | {hyper.name: first}
    unchanged = moved(make(**settings), hyper)
    for value in others:
        if hyper.at_binding:
            with pytest.raises(ValueError, match="takes effect when the optimizer gets"):
                moved(make(**settings), hyper, **{hyper.name: value})
        else:
            assert differ(moved(make(**settings), hyper, **{hyper.name: value}), unchanged)


def wrong_values(hyper: Hyper) -> list[Any]:
    """Return values that the declaration does not allow."""
    if isinstance(hyper, Number):
        below = [hyper.low if hyper.open_low else math.nextafter(hyper.low, -math.inf),
                 hyper.low - 1] if hyper.low > -math.inf else []
        above = [math.nextafter(hyper.high, math.inf)] if hyper.high < math.inf else []
        absent = [] if hyper.default is None else [None]
        return [*below, *above, *absent, math.nan, math.inf, -math.inf, 1j, "0.5", True, np.ones(1)]
    if isinstance(hyper, Numbers):
        return [(), (0.5,) * (hyper.most + 1), 0.5, "0.5", None, len,
                *((*[0.5] * (hyper.most - 1), one) for one in wrong_values(hyper.one))]
    if isinstance(hyper, Integer):
        return [hyper.low - 1, hyper.high + 1, 2.0, None, True, "2", len]
    if isinstance(hyper, Flag):
        return [None, 0, 1, "yes", len]
    assert isinstance(hyper, Choice), f"say here what {type(hyper).__name__} does not allow"
    return [None, 0, True, "zzz", "", len]


@each_case
def test_wrong_value_raises(kind: Kind, hyper: Hyper) -> None:
    """When given, in a group, and when assigned, where the old value stays and nothing changes."""
    make: Any = kind
    settings = base(kind, hyper)
    params = [p.copy() for p in START]
    optimizer = make(params, **settings)
    optimizer.step(GRADS[0])
    before = everything(optimizer)
    for value in wrong_values(hyper):
        with pytest.raises((TypeError, ValueError), match=rf"\b{hyper.name} must be .* not "):
            make(**settings | {hyper.name: value})
        with pytest.raises((TypeError, ValueError), match=rf"\b{hyper.name} must be .* not "):
            setattr(optimizer, hyper.name, value)
        assert everything(optimizer) == before
        if not hyper.shared:
            with pytest.raises((TypeError, ValueError), match=rf"\b{hyper.name} must be .* not "):
                make([{"params": [START[0].copy()], hyper.name: value}], **settings)


def everything(optimizer: fm.Optimizer) -> tuple[Any, ...]:
    """Hyper-parameters, counters, parameters and state."""
    arrays = [p for group in optimizer.param_groups for p in group["params"]]
    arrays += [v for state in optimizer.state for v in state.values()]
    return (repr(optimizer._options), repr(optimizer.param_groups), optimizer.iterations,
            *(array.tobytes() for array in arrays))


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_unknown_name_raises(kind: Kind) -> None:
    make: Any = kind
    message = rf"{kind.__name__} has no argument 'learning_rate'; did you mean 'lr'\?"
    params = [p.copy() for p in START]
    with pytest.raises(TypeError, match=message):
        make(params, learning_rate=0.1)
    with pytest.raises(TypeError, match=message):
        make([{"params": params, "learning_rate": 0.1}])
    optimizer = make(params)
    with pytest.raises(TypeError, match=message):
        optimizer.param_groups[0]["learning_rate"] = 0.1
    assert optimizer.lr == kind._group_hypers["lr"].default
