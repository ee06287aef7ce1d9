"""What items borrow from their content: against an independent derivation, and in tiny worlds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sensorium.checks.conformance import mixed_world
from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.models.content import Content
from sensorium.models.ease import Ease
from sensorium.models.ials import Ials
from sensorium.models.itemknn import ItemKnn
from sensorium.models.kin import Kin
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features
from sensorium.models.nearness import Cosines
from sensorium.models.popularity import Popularity
from sensorium.models.profile import Profile

RNG = np.random.default_rng


def world(items: int = 20, users: int = 60, size: int = 6):
    """Items with random content; the last three have no events, the last but three no content."""
    rng = RNG(5)
    user = np.repeat(np.arange(users), 4)
    item = np.concatenate([rng.choice(items - 3, 4, replace=False) for _ in range(users)])
    events = Events.of(list(user), list(item), users=users, items=items, time=list(np.arange(len(user)) * 60.0))
    values = rng.normal(size=(items, size)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    present = np.ones(items, bool)
    present[[2, items - 4, items - 1]] = False
    values[~present] = 0
    return events, Features(Vectors(values, present, "toy"), blocks={"image": slice(0, 2), "text": slice(2, size)})


def last_of_four(events: Events) -> Fold:
    """Every fourth event held out."""
    last = np.arange(len(events)) % 4 == 3
    return Fold(events.take(~last), events.take(last))


def dense(lift) -> np.ndarray:
    """The matrix L (I, K) of a lift, written out."""
    out = np.zeros((len(lift.known), len(lift.mean)))
    for i, column in enumerate(lift.known):
        if column >= 0:
            out[i, column] += lift.own[i]
        if lift.place[i] >= 0:
            out[i] += (1 - lift.own[i]) * (lift.content[lift.place[i]] @ lift.map + lift.mean)
    return out


@pytest.mark.parametrize("warmth", [0.0, 3.0])
def test_what_content_says_is_a_weighted_ridge_regression(warmth: float) -> None:
    events, features = world()
    rows, known = crowd_known(events, events.items)
    lift = Kin(l2=0.7, warmth=warmth).lift(events, features, known)
    columns = RNG(0).normal(size=(len(rows), 5))  # what is to be foretold: any five numbers of each known item
    counts = np.bincount(events.item, minlength=events.items)[rows]
    weight = np.where(features.items.present[rows], counts / (counts + 1), 0)
    mean = (weight[:, None] * columns).sum(0) / weight.sum()
    # The same regression by least squares over rows scaled by √weight, the penalty as further rows.
    given = features.items.values[rows].astype(float)
    left = np.concatenate([np.sqrt(weight)[:, None] * given, np.sqrt(0.7) * np.eye(given.shape[1])])
    right = np.concatenate([np.sqrt(weight)[:, None] * (columns - mean), np.zeros((given.shape[1], 5))])
    slope = np.linalg.lstsq(left, right, rcond=None)[0]
    told = dense(lift) @ columns
    for i in range(events.items):
        own = counts[known[i]] / (counts[known[i]] + warmth) if known[i] >= 0 else 0.0
        if not features.items.present[i]:
            own = float(known[i] >= 0)
        expected = own * columns[known[i]] if known[i] >= 0 else np.zeros(5)
        if features.items.present[i]:
            expected = expected + (1 - own) * (features.items.values[i] @ slope + mean)
        np.testing.assert_allclose(told[i], expected, atol=1e-4)


@pytest.mark.parametrize("warmth", [0.0, 3.0])
@pytest.mark.parametrize("sparse_weights", [False, True])
def test_the_score_is_history_lift_weights_lift(warmth: float, sparse_weights: bool) -> None:
    events, features = world()
    settings = ItemKnn(k=5, kin=Kin(warmth=warmth)) if sparse_weights else Ease(l2=3, kin=Kin(warmth=warmth))
    model = settings.fit(events, features, rng=RNG(0))
    histories = events.histories([0, 7, 31])
    weights = model.weights.toarray() if sparse.issparse(model.weights) else model.weights
    spread = dense(model.lift)
    expected = histories.matrix(events.items, decay=model.decay).toarray() @ spread @ weights @ spread.T
    np.testing.assert_allclose(model.score(histories), expected, atol=1e-4)


@pytest.mark.parametrize("settings", [ItemKnn(), Ease(l2=3), Ials(size=4), Popularity(), Profile()])
def test_a_catalogue_that_grows_scores_as_one_that_was_whole(settings) -> None:
    events, features = world()
    features = Features(
        features.items, people=Vectors(RNG(1).normal(size=(60, 3)).astype("f4"), np.ones(60, bool), "p")
    )
    whole = settings.fit(events, features, rng=RNG(0))
    early = Features(features.items.take(np.arange(17)), people=features.people)
    grown = settings.fit(events.resized(60, 17), early, rng=RNG(0)).extended(features)
    histories = events.histories([0, 7, -1], features.people)
    np.testing.assert_allclose(grown.score(histories), whole.score(histories), atol=1e-5)
    assert np.abs(whole.score(histories)[:2, 17:19]).max() > 0  # new items with content are scored
    assert np.all(whole.score(histories)[:, 19] == 0)  # one without anything is not


def test_items_with_few_events_are_what_their_twins_are() -> None:
    # Items 0 and 1 are twins in content; 0 is chosen with 2 by many, 1 by one person alone, 3 stands for itself.
    user, item = [], []
    for u in range(12):
        user += [u, u]
        item += [0, 2] if u % 2 else [3, 4]
    user, item = [*user, 12, 12], [*item, 1, 3]
    events = Events.of(user, item, users=13, items=5)
    values = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3]]
    features = Features(Vectors(values, np.ones(5, bool), "toy"))
    history = Events.of([0], [2], users=1, items=5).histories([0])
    cold = Ease(l2=1, kin=Kin(l2=0.1)).fit(events, features, rng=RNG(0)).score(history)[0]
    warm = Ease(l2=1, kin=Kin(l2=0.1, warmth=5)).fit(events, features, rng=RNG(0)).score(history)[0]
    assert warm[1] > cold[1]
    assert warm[1] > warm[3]


def test_tuned_cosines_score_as_the_fitted_model() -> None:
    events, features = world()
    fold = last_of_four(events)
    cosines = Cosines.of(fold, features)
    histories = fold.train.histories(np.arange(60))
    for weights in ({}, {"image": 0.0}, {"image": 2.0, "text": 0.3}):
        model = Content(sharpness=4, decay=0.8, weights=weights).fit(fold.train, features, rng=RNG(0))
        told = cosines.score(4, 0.8, 0.0, weights)(histories)
        np.testing.assert_allclose(told, model.score(histories), atol=1e-5)
    few = Cosines.of(fold, features, memory=4 * 20 * 2 * 3)  # three items' worth of cosines: fewer people
    assert few.people < 60


def test_weights_that_were_chosen_for_other_modalities_leave_something() -> None:
    events, features = world()
    fold = last_of_four(events)
    tuned = Content(weights={"image": 0.0, "text": 0.0, "audio": 2.0}).tuned(fold, features, rng=RNG(0))
    assert any(tuned.weights.get(modality, 1.0) > 0 for modality in features.blocks)


def test_what_a_lift_over_more_features_has_in_common_with_the_one_before():
    rng = np.random.default_rng(3)
    events, features = mixed_world(people=40, items=30)
    known = np.where(np.bincount(events.item, minlength=30) > 0, 0, -1)
    known[known == 0] = np.arange((known == 0).sum())
    before = Kin(l2=0.7, warmth=2.0).lift(events, features, known)
    for _ in range(30):
        rows = np.concatenate([np.arange(30), rng.integers(30, size=rng.integers(3))])
        more = features.take(rows)
        values, present = more.items.values.copy(), more.items.present.copy()
        changed = rng.integers(30, size=rng.integers(3))
        values[changed] = rng.normal(size=(len(changed), values.shape[1]))
        present[changed] = rng.random(len(changed)) < 0.5
        values[~present] = 0
        after = before.over(replace(more, items=replace(more.items, values=values, present=present)))
        differ = np.ones(len(rows), bool)
        differ[:30] = ~np.isclose(dense(before), dense(after)[:30], atol=0).all(axis=1)
        told = after.unlike(before)
        assert set(np.flatnonzero(differ)) <= set(told.tolist()) <= {*changed.tolist(), *range(30, len(rows))}
