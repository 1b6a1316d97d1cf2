"""NAdam's product of momenta: exact while it matters, and cheap after any number of steps."""

from fractions import Fraction
from math import prod

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim import adam

PAIRS = [(0.9, 4e-3), (0.999999, 0.36), (0.999999, 50.0), (0.99, 0.0), (0.5, 1e-9), (0.0, 4e-3),
         (0.9999999999, 2.0)]


@pytest.fixture
def factors(monkeypatch):
    """Count how often a momentum is computed, from an empty cache."""
    count = [0]

    def counted(*arguments, original=adam.nadam_momentum):
        count[0] += 1
        return original(*arguments)

    monkeypatch.setattr(adam, "nadam_momentum", counted)
    adam.nadam_products.cache_clear()
    yield count
    adam.nadam_products.cache_clear()


@pytest.mark.parametrize(("beta1", "decay"), PAIRS)
def test_any_step_takes_a_bounded_number_of_factors(beta1, decay, factors):
    for t in (5 * 10 ** 7, 10 ** 12, 3):
        fm.NAdam.momentum_product(beta1, decay, t)
    assert factors[0] < 2_600
    assert len(adam.nadam_products(beta1, decay)) < 2_600


@pytest.mark.parametrize(("beta1", "decay"), PAIRS)
@pytest.mark.parametrize("t", [0, 1, 2, 10, 57, 400, 3000])
def test_it_is_the_product(beta1, decay, t):
    """As far as 1 minus it can tell."""
    exact = prod((Fraction(adam.nadam_momentum(beta1, decay, i)) for i in range(1, t + 1)),
                 start=Fraction(1))
    assert 1 - fm.NAdam.momentum_product(beta1, decay, t) == pytest.approx(
        float(1 - exact), rel=1e-13, abs=1e-13)
    naive = 1.0
    for i in range(1, min(t, 50) + 1):      # to the bit where nothing is cut short
        naive *= adam.nadam_momentum(beta1, decay, i)
    if decay <= 0.36:
        assert 1 - fm.NAdam.momentum_product(beta1, decay, min(t, 50)) == 1 - naive


def test_late_steps_and_schedules_cost_no_more(factors):
    p = np.zeros(3)
    opt = fm.NAdam([p], beta1=lambda step: 0.9 - 1e-9 * (step % 100))
    state = opt.state_dict()
    opt.load_state_dict({**state, "steps": [5 * 10 ** 7], "iterations": 5 * 10 ** 7})
    before = factors[0]
    for _ in range(10):
        opt.step([np.ones(3)])
    assert factors[0] - before < 10 * 100
    assert np.isfinite(p).all()
    assert (p < 0).all()
