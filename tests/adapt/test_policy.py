"""Offline estimates where the truth is known: bias, coverage of intervals, effective size, owners who repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.adapt.policy import Logged, worth
from sensorium.errors import DataError

RATES = np.array([[0.1, 0.3, 0.2], [0.4, 0.1, 0.2]])  # by context (without, with), by arm
SHARES = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]])  # of whoever logged
TARGET = np.array([0.1, 0.1, 0.8])


def log(n: int, seed: int, repeats: int = 1) -> Logged:
    rng = np.random.default_rng(seed)
    context = (rng.random(n) < 0.5).astype(int)
    action = np.array([rng.choice(3, p=SHARES[c]) for c in context])
    reward = (rng.random(n) < RATES[context, action]).astype(float)
    chance = SHARES[context, action]
    owner = np.repeat(np.arange(n), repeats)
    rows = np.repeat(np.arange(n), repeats)
    return Logged(action[rows], chance[rows], reward[rows], context[rows, None].astype(float), owner, 3)


TRUTH = float((RATES.mean(axis=0) * TARGET).sum())


def test_estimates_are_right_and_their_intervals_cover() -> None:
    runs = [worth(log(800, seed), TARGET) for seed in range(200)]
    for name in ("ips", "snips", "dr"):
        values = np.array([one.by[name].value for one in runs])
        assert abs(values.mean() - TRUTH) < 4 * values.std() / np.sqrt(len(runs))
        covered = np.mean([one.by[name].lower <= TRUTH <= one.by[name].upper for one in runs])
        assert 0.90 <= covered <= 0.985
        told = np.mean([one.by[name].error for one in runs])
        assert told == pytest.approx(values.std(), rel=0.2)
    spread = {name: np.std([one.by[name].value for one in runs]) for name in runs[0].by}
    assert spread["dr"] < spread["ips"]
    assert spread["snips"] < spread["ips"]


def test_weights_of_one_arm_alone_are_the_arms_mean() -> None:
    one = log(3000, 1)
    even = Logged(one.action, np.full(3000, 1 / 3), one.reward, one.features, one.owner, 3)
    told = worth(even, np.array([0.0, 1.0, 0.0]))
    assert told.by["snips"].value == pytest.approx(one.reward[one.action == 1].mean())
    assert told.effective == pytest.approx((one.action == 1).sum())
    assert told.shown == (one.action == 1).sum()


def test_clipping_steadies_and_lowers() -> None:
    whole, cut = worth(log(2000, 3), TARGET), worth(log(2000, 3), TARGET, clip=2.0)
    assert cut.by["ips"].value < whole.by["ips"].value
    assert cut.by["ips"].error < whole.by["ips"].error
    assert cut.largest == 2.0
    assert cut.clipped > 0
    assert cut.effective > whole.effective
    assert cut.by["dr"].value == pytest.approx(TRUTH, abs=0.05)  # what is cut, the regression knows


def test_rows_of_one_owner_count_as_one() -> None:
    once, often = worth(log(500, 7), TARGET), worth(log(500, 7, repeats=10), TARGET)
    assert often.by["ips"].value == pytest.approx(once.by["ips"].value)
    assert often.by["ips"].error == pytest.approx(once.by["ips"].error, rel=0.01)


def test_an_empty_log_and_chances_of_zero_are_refused() -> None:
    nothing = np.zeros(0)
    with pytest.raises(DataError, match="no settled decision"):
        worth(
            Logged(nothing.astype(int), nothing, nothing, np.zeros((0, 1)), nothing.astype(int), 2),
            np.array([1.0, 0.0]),
        )
    with pytest.raises(DataError, match="chance of 0"):
        Logged(np.zeros(1, int), np.zeros(1), np.zeros(1), np.zeros((1, 1)), np.zeros(1, int), 2)
