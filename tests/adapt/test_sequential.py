"""Confidence sequences: the closed form against an integral, false alarms under looking at every person, power, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from sensorium.adapt.sequential import Difference, log_mixture, mismatch, tuned_rho

PLAN, ALPHA = 2_000, 0.05


@pytest.mark.parametrize(("s", "v"), [(0.0, 1.0), (3.0, 5.0), (-1.0, 4.0), (20.0, 50.0)])
@pytest.mark.parametrize(("rho", "scale"), [(7.0, 2.0), (0.8, 1.0)])
def test_the_mixture_is_the_integral_it_claims_to_be(s: float, v: float, rho: float, scale: float) -> None:
    def density(u: float) -> float:
        return u ** (rho / scale**2 - 1) * math.exp(-u * rho / scale**2)

    def integrand(u: float) -> float:
        lam = (1 - u) / scale
        psi = (-math.log(1 - scale * lam) - scale * lam) / scale**2
        return math.exp(lam * s - psi * v) * density(u)

    value = quad(integrand, 0, 1)[0] / quad(density, 0, 1)[0]
    assert log_mixture(s, v, rho, scale) == pytest.approx(math.log(value), abs=1e-6)


def effects(treated: np.ndarray, outcome: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The running sums of effects and of their squared surprises (R, N), derived without the class."""

    def before(of: np.ndarray) -> np.ndarray:
        return np.cumsum(of, axis=1) - of

    people = np.arange(treated.shape[1])
    pooled = (before(outcome) + 0.5) / (people + 1)
    guess1 = (before(outcome * treated) + pooled) / (before(treated.astype(float)) + 1)
    guess0 = (before(outcome * ~treated) + pooled) / (before((~treated).astype(float)) + 1)
    off = np.where(treated, (outcome - guess1) / share, -(outcome - guess0) / (1 - share))
    return np.cumsum(guess1 - guess0 + off, axis=1), np.cumsum(off**2, axis=1)


def simulated(rates: tuple[float, float], runs: int, people: int, share: float, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    treated = rng.random((runs, people)) < share
    outcome = (rng.random((runs, people)) < np.where(treated, rates[1], rates[0])).astype(float)
    return treated, outcome


def crossed(total: np.ndarray, spread: np.ndarray, share: float) -> np.ndarray:
    """Whether zero was ever excluded (R,), at any of the N looks."""
    rho = tuned_rho(0.1 * PLAN * (1 / share + 1 / (1 - share)), ALPHA / 2)
    scale = 1 / min(share, 1 - share)
    least = np.maximum(log_mixture(total, spread, rho, scale), log_mixture(-total, spread, rho, scale))
    return least.max(axis=1) >= math.log(2 / ALPHA)


def test_the_class_adds_up_what_the_formula_says() -> None:
    treated, outcome = simulated((0.1, 0.2), 1, 300, 0.3, seed=4)
    total, spread = effects(treated, outcome, 0.3)
    one = Difference(ALPHA, PLAN)
    for arm, reward in zip(treated[0], outcome[0]):
        one.add(bool(arm), float(reward), 0.3)
    assert (one.segments[0].total, one.segments[0].spread) == pytest.approx((total[0, -1], spread[0, -1]))
    low, high = one.interval()
    assert one.evidence(low) == pytest.approx(math.log(2 / ALPHA), abs=1e-3)
    assert one.evidence(high, -1) == pytest.approx(math.log(2 / ALPHA), abs=1e-3)
    assert low < one.estimate < high


@pytest.mark.parametrize(("rate", "share"), [(0.05, 0.5), (0.5, 0.5), (0.1, 0.2)])
def test_a_thousand_experiments_without_a_difference_looked_at_after_every_person(rate: float, share: float) -> None:
    alarms = crossed(*effects(*simulated((rate, rate), 1000, 1500, share, seed=1), share), share)
    assert alarms.mean() <= ALPHA


def test_a_test_made_for_one_look_would_have_failed_here() -> None:
    total, spread = effects(*simulated((0.5, 0.5), 1000, 1500, 0.5, seed=1), 0.5)
    naive = (np.abs(total) / np.sqrt(spread) > 1.96)[:, 50:].any(axis=1)
    assert naive.mean() > 0.2


def test_a_true_difference_is_found() -> None:
    found = crossed(*effects(*simulated((0.10, 0.15), 200, 5000, 0.5, seed=2), 0.5), 0.5)
    assert found.mean() > 0.9


def test_bounds_hold_where_shares_change_on_the_way() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(100):
        one = Difference(ALPHA, 500)
        for n in range(600):
            share = 0.5 if n < 300 else 0.8
            arm = bool(rng.random() < share)
            one.add(arm, float(rng.random() < (0.4 if arm else 0.3)), share)
        low, high = one.interval()
        missed += not low <= 0.1 <= high
        assert len(one.segments) == 2
    assert missed <= 5


def test_shares_that_do_not_come_true_are_noticed_and_those_that_do_are_not() -> None:
    rng = np.random.default_rng(3)
    shares = {"a": 0.5, "b": 0.25, "c": 0.25}
    alarms = 0
    for _ in range(300):
        counts = dict.fromkeys(shares, 0)
        for _ in range(20):
            for name, more in zip(shares, rng.multinomial(100, list(shares.values()))):
                counts[name] += int(more)
            if mismatch(counts, shares) > math.log(1000):
                alarms += 1
                break
    assert alarms <= 2
    assert mismatch({"a": 5400, "b": 2300, "c": 2300}, shares) > math.log(1000)
