"""When a team works, and when one thread: decided from times that are given here."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmom.kernels.team import decisions

SMALL, LARGE = 10e-6, 5e-3      # seconds of a step on one thread
SLICE = 4e-3                    # of the operating system
Times = NDArray[np.float64]


def cost(alone: Times, together: Times) -> tuple[float, float]:
    """Return the seconds over the better way's, known in hindsight, and the team's share."""
    team = np.array(decisions(alone, together))
    seconds = np.where(team, together, alone).sum()
    return seconds / min(alone.sum(), together.sum()), team.mean()


def steady(step: float, seconds: float, gain: float = 0.55) -> tuple[Times, Times]:
    alone = np.full(int(seconds / step), step)
    return alone, gain * alone


def disturbed(times: Times, share: float, seed: int = 0) -> Times:
    """Return the times with a lost time slice in this share of the steps."""
    rng = np.random.default_rng(seed)
    return times + SLICE * (rng.random(len(times)) < share)


@pytest.mark.parametrize("step", [SMALL, LARGE])
def test_a_quiet_machine(step: float) -> None:
    ratio, share = cost(*steady(step, 2000 * step))
    assert ratio < 1.02
    assert share > 0.98


def test_a_lost_slice_now_and_then_does_not_matter() -> None:
    """The team is back within a few thousandths of a second."""
    alone, together = steady(SMALL, 3.0)
    together[::5000] += SLICE
    alone[::5000] += SLICE
    ratio, share = cost(alone, together)
    assert ratio < 1.15
    assert share > 0.85


def test_one_slow_step_is_not_the_end() -> None:
    alone, together = steady(SMALL, 0.2)
    together[9000] += SLICE
    team = decisions(alone, together)
    assert sum(team[8000:9000]) > 990
    assert sum(team[9001:]) > 0.94 * len(team[9001:])


@pytest.mark.parametrize("step", [SMALL, LARGE])
@pytest.mark.parametrize("slower", [1.3, 5.0])
def test_a_team_that_is_always_slower(step: float, slower: float) -> None:
    ratio, share = cost(*steady(step, 4.0, slower))
    assert ratio < 1.08
    assert share < 0.05


def test_a_team_that_loses_slices_all_the_time() -> None:
    alone, together = steady(SMALL, 4.0)
    ratio, _ = cost(alone, disturbed(together, 0.02))
    assert ratio < 1.06


def test_back_after_a_disturbance() -> None:
    alone, together = steady(SMALL, 4.0)
    busy = slice(100_000, 300_000)
    together[busy] = disturbed(together[busy], 0.02)
    team = np.array(decisions(alone, together))
    assert team[:100_000].mean() > 0.98
    assert team[busy].mean() < 0.1
    back = np.argmax(team[300_000:])
    assert back * SMALL < 0.5
    assert team[300_000 + back:].mean() > 0.98


@pytest.mark.parametrize("slow", [10.0, 1000.0])
def test_a_cold_start_is_forgotten(slow: float) -> None:
    """The first steps of all say little; the team is found to be slower all the same."""
    alone, together = steady(SMALL, 2.0, 3.0)
    alone[:2] *= slow
    together[:2] *= slow
    ratio, _ = cost(alone[2:], together[2:])
    assert ratio < 1.06
    team = decisions(alone, together)
    assert np.mean(team[1000:]) < 0.1


def test_all_is_slower_where_others_work_but_the_team_least() -> None:
    """One thread in turns with another program: its pace in fact counts, not its best."""
    alone, together = steady(LARGE, 20.0, 1.2)
    alone[100:] *= 2
    ratio, share = cost(alone[100:], together[100:])
    assert ratio < 1.1
    assert share > 0.9


def test_a_large_step_is_not_tried_often_in_vain() -> None:
    """Each try loses a time slice or several: what was lost sets the rest."""
    alone, together = steady(LARGE, 2.0)
    ratio, _ = cost(alone, together + 5 * SLICE)
    assert ratio < 1.08
    ratio, _ = cost(alone[:100], (together + 5 * SLICE)[:100])      # the first half second
    assert ratio < 1.2


def test_losses_that_gains_outweigh_do_not_count() -> None:
    """A fifth of the time goes to lost slices, but the team still gains more."""
    alone, together = steady(SMALL, 4.0, 0.5)
    together[::2000] += SLICE
    ratio, share = cost(alone, together)
    assert ratio < 1.15
    assert share > 0.8
