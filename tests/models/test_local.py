"""Local ridge regression against its own definition, dropout against dropping out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.models.directed import Directed
from sensorium.models.ease import Ease
from sensorium.models.itemknn import ItemKnn
from sensorium.models.local import local_ridge, neighbours, scattered
from sensorium.models.model import Features

RNG = np.random.default_rng


def crowd(users: int = 300, items: int = 15) -> Events:
    rng = RNG(0)
    item = rng.integers(items, size=5 * users)  # some do the same again: an item follows itself too
    return Events.of(np.repeat(np.arange(users), 5).tolist(), item.tolist(), users=users, items=items)


NOTHING = Features(Vectors.absent(15, 1, "none"))


@pytest.mark.parametrize(
    "settings", [Ease(l2=4), Ease(l2=4, dropout=0.3, degree=0.5), Directed(l2=4, dropout=0.2)], ids=str
)
def test_all_items_as_neighbours_give_the_exact_matrix(settings: Ease | Directed) -> None:
    # Items that never met are outside a neighbourhood; in this crowd all did.
    exact = settings.fit(crowd(), NOTHING, rng=RNG(0)).weights
    local = replace(settings, dense_items=0, near=15).fit(crowd(), NOTHING, rng=RNG(0)).weights
    assert sparse.issparse(local)
    np.testing.assert_allclose(local.toarray(), exact, atol=1e-4)


def test_content_speaks_locally_as_it_does_in_the_whole() -> None:
    values = RNG(1).normal(size=(15, 4)).astype(np.float32)
    features = Features(Vectors(values, np.ones(15, bool), "toy"))
    settings = Ease(l2=4, content=2.0)
    exact = settings.fit(crowd(), features, rng=RNG(0)).weights
    local = replace(settings, dense_items=0, near=15).fit(crowd(), features, rng=RNG(0)).weights
    np.testing.assert_allclose(local.toarray(), exact, atol=1e-4)


def test_a_local_column_is_a_ridge_regression_on_its_neighbours() -> None:
    matrix = sparse.csr_array((RNG(2).random((50, 9)) < 0.4).astype(np.float32))
    gram = sparse.csr_array(matrix.T @ matrix)
    weights = local_ridge(gram, gram, np.full(9, 3.0, np.float32), near=3, itself=False).toarray()
    start, row, _ = neighbours(gram, gram.diagonal(), 3, False)
    chosen = row[start[4] : start[5]]
    dense = matrix.toarray()
    share = (dense.T @ dense[:, 4]) ** 2 / (dense**2).sum(0)
    share[4] = -1
    assert set(chosen) == set(np.argsort(-share, kind="stable")[:3])
    left = dense[:, chosen]
    ridge = np.linalg.solve(left.T @ left + 3 * np.eye(3), left.T @ dense[:, 4])
    np.testing.assert_allclose(weights[chosen, 4], ridge, atol=1e-5)
    assert np.count_nonzero(weights[:, 4]) == 3


def test_the_strongest_entries_are_kept_and_the_product_is_the_product() -> None:
    gram = sparse.csr_array((lambda m: m.T @ m)((RNG(3).random((50, 9)) < 0.4).astype(np.float32)))
    penalty = np.ones(9, np.float32)
    whole = local_ridge(gram, gram, penalty, near=9, itself=False).toarray()
    kept = local_ridge(gram, gram, penalty, near=9, itself=False, keep=2).toarray()
    for column in range(9):
        best = np.sort(np.argsort(-np.abs(whole[:, column]))[:2])
        assert np.array_equal(np.flatnonzero(kept[:, column]), best)
    history = sparse.csr_array((RNG(4).random((7, 9)) < 0.3).astype(np.float32))
    np.testing.assert_allclose(scattered(history, sparse.csr_array(kept)), history @ kept, atol=1e-6)


def test_dropout_is_the_mean_over_choices_left_out() -> None:
    # Ridge regression on inputs that lose each entry with probability p, the survivors scaled to keep the mean.
    rng = RNG(5)
    dense = (rng.random((30, 4)) < 0.5).astype(np.float64)
    item, p = 2, 0.4
    others = [0, 1, 3]
    left = dense[:, others]
    gram, cross = np.zeros((3, 3)), np.zeros(3)
    for _ in range(4_000):
        seen = left * (rng.random(left.shape) >= p) / (1 - p)
        gram += seen.T @ seen / 4_000
        cross += seen.T @ dense[:, item] / 4_000
    expected = np.linalg.solve(gram + 2 * np.eye(3), cross)
    user, chosen = np.nonzero(dense)
    events = Events.of(user.tolist(), chosen.tolist(), users=30, items=4)
    model = Ease(l2=2, dropout=p).fit(events, Features(Vectors.absent(4, 1, "none")), rng=RNG(0))
    np.testing.assert_allclose(model.weights[others, item], expected, atol=0.02)


def test_the_walk_is_the_product_of_its_steps() -> None:
    events = crowd(users=20, items=6)
    model = ItemKnn(weighting="rp3", popular=0.5, shrink=0, k=6).fit(
        events, Features(Vectors.absent(6, 1, "none")), rng=RNG(0)
    )
    chosen = events.matrix().toarray()
    to_person = chosen / chosen.sum(0)  # from an item to one of those who chose it
    to_item = (chosen.T / chosen.sum(1)).T
    walk = to_person.T @ to_item / chosen.sum(0) ** 0.5
    np.fill_diagonal(walk, 0)
    found = model.weights.toarray()
    scale = walk.sum() / found.sum()  # people's weights are scaled to a mean of one
    np.testing.assert_allclose(found * scale, walk, atol=1e-5)
