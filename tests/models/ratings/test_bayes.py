"""The Bayesian engine: its draws against plain algebra, and what sides and days are worth where they decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sensorium.errors import DataError, RecipeError
from sensorium.models.ratings import Bayes, Ratings, Sides, cross_validate, rmse
from sensorium.models.ratings.sampled import Side, rows_drawn

FEW = Bayes(size=3, sweeps=40, burn=15, keep=12)


def table(users: int = 40, items: int = 24, share: float = 0.4, seed: int = 0) -> Ratings:
    """Half of the users love even items, half odd ones."""
    rng = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(users) for i in range(items) if rng.random() < share]
    value = [4.5 if (u + i) % 2 else 1.5 for u, i in pairs]
    time = [86_400.0 * rng.integers(0, 4) for _ in pairs]
    return Ratings.of([f"u{u:02}" for u, _ in pairs], [f"i{i:02}" for _, i in pairs], value, time=time)


RATINGS = table()


def test_a_rows_posterior_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    lists, other = RATINGS.by_user, rng.normal(size=(len(RATINGS.items), 4))
    precision, expected = np.eye(4) * 2 + 0.3, rng.normal(size=(len(lists), 4))
    side = Side.held(expected, precision)
    found = rows_drawn(lists, lists.value, other, side, 1.7)
    for u in (0, 5, 11):
        span = slice(lists.start[u], lists.start[u + 1])
        design = other[lists.other[span]].copy()
        target = lists.value[span] - design[:, 0]
        design[:, 0] = 1
        sure = precision + 1.7 * design.T @ design
        assert np.allclose(found[u], np.linalg.solve(sure, precision @ expected[u] + 1.7 * design.T @ target))


def test_draws_have_the_posteriors_mean_and_spread() -> None:
    lists, other = RATINGS.by_user, np.random.default_rng(1).normal(size=(len(RATINGS.items), 3))
    side = Side.held(np.zeros((len(lists), 3)), np.eye(3))
    mean = rows_drawn(lists, lists.value, other, side, 1.0)
    rng = np.random.default_rng(2)
    draws = np.stack([rows_drawn(lists, lists.value, other, side, 1.0, rng) for _ in range(4000)])[:, 0]
    design = other[lists.other[: lists.start[1]]].copy()
    design[:, 0] = 1
    assert np.allclose(draws.mean(0), mean[0], atol=0.05)
    assert np.allclose(np.cov(draws.T), np.linalg.inv(np.eye(3) + design.T @ design), atol=0.05)


def test_sides_speak_for_the_silent() -> None:
    """Users 0 and 1 have no ratings; which group they are of decides."""
    some = RATINGS.take(RATINGS.user > 1)
    group = np.array([int(name[1:]) % 2 for name in RATINGS.users])
    items = np.array([int(name[1:]) % 2 for name in RATINGS.items])
    sides = Sides(np.eye(2, dtype=np.float32)[group], np.eye(2, dtype=np.float32)[items])
    model = FEW.beside(sides).fit(some, rng=np.random.default_rng(0))
    for user in range(2):
        for item in range(6):
            name, thing = RATINGS.users[user], RATINGS.items[item]
            likes = (int(name[1:]) + int(thing[1:])) % 2
            assert (model.predict(name, thing).estimate > 3) == bool(likes)
    with pytest.raises(DataError, match="sides of users"):
        FEW.beside(Sides(np.zeros((3, 2), np.float32))).fit(some)


def test_a_days_mood_is_found_and_used() -> None:
    """On even days everybody gives one and a half stars more."""
    assert RATINGS.time is not None
    day = (RATINGS.time // 86_400) % 2
    moody = replace(RATINGS, value=np.clip(2.0 + 1.5 * (day == 0) + (RATINGS.value - 3) * 0.5, 1, 5))
    held = np.random.default_rng(0).random(len(moody)) < 0.1
    train, test = moody.take(~held), moody.take(held)
    model = FEW.fit(train, rng=np.random.default_rng(0))
    assert rmse(model.predictions(test)) < 0.75 * rmse(model.predictions(replace(test, time=None)))
    user, item = test.users[test.user[0]], test.items[test.item[0]]
    assert model.predict(user, item, time=0.0).estimate > model.predict(user, item, time=86_400.0).estimate


def test_a_newcomer_is_what_somebody_there_is() -> None:
    """Folded in by the same ratings, a known user gets the estimates they have (days apart)."""
    model = replace(FEW, days=False).fit(RATINGS, rng=np.random.default_rng(0))
    folded = model.folded(RATINGS.by_user)
    pairs = np.divmod(np.arange(folded.size), folded.shape[1])
    assert np.abs(folded.ravel() - model.estimates(*pairs, clip=False)[0]).max() < 1e-3


def test_it_cross_validates_whatever_the_threads() -> None:
    one, two = (cross_validate(replace(FEW, sweeps=60, burn=30), RATINGS, jobs=jobs) for jobs in (1, 2))
    assert np.array_equal(one.test["rmse"], two.test["rmse"])
    assert one.mean("rmse") < 0.7


def test_settings_that_cannot_be_are_told() -> None:
    with pytest.raises(RecipeError, match="burn"):
        Bayes(sweeps=10, burn=10)
