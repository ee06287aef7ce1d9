"""Alternating least squares: half-steps against the normal equations, penalties, priors, and what is added later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sensorium.checks.conformance import mixed_world
from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.models.ials import Ials, half_step, penalties
from sensorium.models.model import Features

RNG = np.random.default_rng


def halves(users: int = 40, items: int = 12, seed: int = 0) -> Events:
    """Even people take even items, odd people odd ones."""
    rng = RNG(seed)
    item = np.concatenate([2 * rng.choice(items // 2, 4, replace=False) + u % 2 for u in range(users)])
    return Events.of(np.repeat(np.arange(users), 4).tolist(), item.tolist(), users=users, items=items)


NOTHING = Features(Vectors.absent(12, 1, "none"))


def test_a_half_step_solves_the_normal_equations() -> None:
    rng = RNG(1)
    dense = rng.normal(size=(5, 8)) * (rng.random((5, 8)) < 0.5) * 9  # confidences, some below zero
    other, prior = rng.normal(size=(8, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    penalty = rng.random(5).astype(np.float32) + 0.1
    out = np.zeros((5, 3), np.float32)
    half_step(sparse.csr_array(dense.astype(np.float32)), other, penalty, prior, out, steps=20)
    for u in range(5):
        weight = np.where(dense[u] != 0, np.maximum(np.abs(dense[u]), 1), 1)
        left = other.T @ (weight[:, None] * other) + penalty[u] * np.eye(3)
        right = other.T @ np.maximum(dense[u], 0) + penalty[u] * prior[u]
        np.testing.assert_allclose(out[u], np.linalg.solve(left, right), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("frequency", [0.0, 1.0])
def test_a_fitted_person_is_the_person_folded_in(frequency: float) -> None:
    events = halves()
    model = Ials(size=4, frequency=frequency, epochs=60).fit(events, NOTHING, rng=RNG(0))
    folded = model.user_vectors(events.histories([3]))[0]
    matrix = events.matrix()
    people = np.zeros((1, 4), np.float32)
    n = np.diff(matrix.indptr)
    penalty = np.float32(0.1) * penalties(n[3:4], model.settings, 12, float(np.mean(10 * n + 12)))
    half_step(sparse.csr_array(matrix[[3]] * np.float32(10)), model.factors, penalty, people * 0, people, steps=20)
    np.testing.assert_allclose(folded, people[0], atol=1e-3)
    scores = model.score(events.histories([2, 3]))
    assert scores[0, ::2].mean() > scores[0, 1::2].mean() + 0.5
    assert scores[1, 1::2].mean() > scores[1, ::2].mean() + 0.5


def test_penalties_grow_with_frequency_and_keep_their_mean() -> None:
    settings = Ials(alpha=2.0, frequency=1.0)
    given = penalties(np.array([0, 10, 20]), settings, 30, mean=50.0)
    np.testing.assert_allclose(given, [30 / 50, 50 / 50, 70 / 50], rtol=1e-6)
    assert np.array_equal(penalties(np.array([0, 10]), replace(settings, frequency=0.0), 30, 50.0), [1, 1])


def test_content_is_the_prior_of_an_item_hardly_chosen() -> None:
    events = halves()
    keep = ~((events.item == 4) & (np.arange(len(events)) > 8))  # item 4 is chosen by very few
    events = events.take(keep)
    values = np.zeros((12, 2), np.float32)
    values[np.arange(12), np.arange(12) % 2] = 1
    features = Features(Vectors(values, np.ones(12, bool), "toy"))
    plain = Ials(size=4, l2=20).fit(events, features, rng=RNG(0)).score(events.histories([8]))[0]
    told = Ials(size=4, l2=20, prior=1.0).fit(events, features, rng=RNG(0)).score(events.histories([8]))[0]
    assert told[4] / told[::2].max() > plain[4] / plain[::2].max()


def test_new_items_are_folded_in_from_those_who_took_them_and_nothing_else_moves() -> None:
    events = halves()
    model = Ials(size=4).fit(events.take(events.item < 11), NOTHING, rng=RNG(0))  # nobody had item 11 yet
    still = model.updated(events, NOTHING, epochs=0)
    assert np.array_equal(still.factors[:11], model.factors)
    scores = still.score(events.histories([0, 1]))
    assert scores[1, 11] > scores[0, 11] + 0.3
    moved = model.updated(events, NOTHING, epochs=2)
    assert not np.array_equal(moved.factors[:11], model.factors)
    assert np.array_equal(moved.factors, model.updated(events, NOTHING, epochs=2).factors)


def test_an_update_nears_what_a_refit_finds() -> None:
    early, late = halves(seed=0), halves(seed=1)
    events = early.merged(replace(late, time=late.time + len(early)))
    settings = Ials(size=12, epochs=40)
    model = settings.fit(early, NOTHING, rng=RNG(0))
    whole = settings.fit(events, NOTHING, rng=RNG(0))
    histories = events.histories(np.arange(10))
    aim = whole.score(histories)
    before = np.abs(model.score(histories) - aim).mean()
    after = np.abs(model.updated(events, NOTHING, epochs=10).score(histories) - aim).mean()
    assert after < before


def test_vectors_that_are_known_already_are_made_again_where_something_changed_alone() -> None:
    events, features = mixed_world(people=40, items=30)
    model = Ials().fit(events, features, rng=np.random.default_rng(0))
    _ = model.item_vectors()
    grown = features.take(np.concatenate([np.arange(30), [2, 7]]))
    values = grown.items.values.copy()
    values[5] = values[9]
    grown = replace(grown, items=replace(grown.items, values=values))
    after = model.extended(grown)
    assert "_placed" in vars(after)
    fresh = replace(model, lift=model.lift.over(grown)).item_vectors()
    assert np.allclose(after.item_vectors(), fresh, atol=1e-6)
    assert np.shares_memory(after.item_vectors(), vars(after)["_placed"])
