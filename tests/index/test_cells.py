"""Cells against scoring everything: what they find, the scale they foretell, and how they grow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sensorium.arrays import packed
from sensorium.errors import ShapeError
from sensorium.index.cells import Asker, cells_by, cells_of
from sensorium.models.model import Pull


@pytest.fixture(scope="module")
def world():
    """20,000 items in 200 clusters with two tables, the cells, and what eight histories ask of both."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(200, size=20_000)
    centre = rng.normal(size=(200, 16))
    look = centre[cluster] @ rng.normal(size=(16, 32)) + 2.0 * rng.normal(size=(20_000, 32))
    look = (look / np.linalg.norm(look, axis=1, keepdims=True)).astype(np.float32)
    crowd = (centre[cluster][:, :12] + 0.7 * rng.normal(size=(20_000, 12))).astype(np.float32)
    asked = []
    for _ in range(8):
        own = rng.choice(np.flatnonzero(np.isin(cluster, rng.choice(200, 2))), 12, replace=False)
        near = Pull(look[own], np.float32(0.9) ** np.arange(12, dtype=np.float32), 8.0, 1.0)
        asked.append((own, (near, Pull(crowd[own].mean(0)[None], np.ones(1, np.float32), 0.0, 2.0))))
    return (look, crowd), cells_of((look, crowd)), asked


def one(cells, pulls, own, allowed, most):
    """What one asker finds; `allowed` in the order of the cells."""
    return cells.search([Asker(pulls, own, packed(allowed), most)])[0]


def naive(tables, pulls, own):
    """The blend of standardised scores over all items outside the history, in double precision."""
    out, scales = np.zeros(len(tables[0])), []
    inside = ~np.isin(np.arange(len(tables[0])), own)
    for table, pull in zip(tables, pulls, strict=True):
        dots = table.astype(np.float64) @ pull.vectors.T.astype(np.float64)
        scores = (np.exp(pull.sharpness * (dots - 1)) if pull.sharpness else dots) @ pull.weights
        scales.append((scores[inside].mean(), 1 / scores[inside].std()))
        out += pull.share * (scores - scales[-1][0]) * scales[-1][1]
    return out, scales


@pytest.mark.parametrize("share", [1.0, 0.3, 0.03, 0.005])
def test_the_ten_best_are_found_under_any_filter(world, share):
    tables, cells, asked = world
    rng, kept = np.random.default_rng(1), []
    for own, pulls in asked:
        allowed = rng.random(len(cells)) < share
        allowed[own] = False
        found = one(cells, pulls, own, allowed[cells.rows], cells.most)
        assert allowed[found.rows].all()
        assert len(np.unique(found.rows)) == len(found.rows)
        assert found.all == (allowed.sum() == len(found.rows))
        wanted = np.argsort(-np.where(allowed, naive(tables, pulls, own)[0], -np.inf))[:10]
        best = found.rows[np.argsort(-found.scores, kind="stable")[:10]]
        kept.append(len(np.intersect1d(wanted, best)) / 10)
    assert np.mean(kept) >= 0.97


def test_the_scale_is_that_of_all_items(world):
    tables, cells, asked = world
    for own, pulls in asked:
        found = one(cells, pulls, own, np.ones(len(cells), bool), cells.most)
        (near, crowd), (want_near, want_crowd) = found.scales, naive(tables, pulls, own)[1]
        assert crowd == pytest.approx(want_crowd, rel=1e-3, abs=1e-4)  # a product: exact
        assert near[1] == pytest.approx(want_near[1], rel=0.1)  # nearness: as far as cells are Gaussian


def test_who_asks_together_finds_what_they_find_alone(world):
    _, cells, asked = world
    rng = np.random.default_rng(2)
    askers = [
        Asker(pulls, own, packed(rng.random(len(cells)) < share), cells.most)
        for (own, pulls), share in zip(asked, (1.0, 0.5, 0.1, 0.02, 0.005, 0.0, 1.0, 0.3), strict=True)
    ]
    askers.append(replace(askers[0], own=np.zeros(0, np.int64), pulls=tuple(_none(pull) for pull in askers[0].pulls)))
    for asker, found in zip(askers, cells.search(askers), strict=True):
        alone = cells.search([asker])[0]
        np.testing.assert_array_equal(found.rows, alone.rows)
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.scales, alone.scales, rtol=1e-4)
        assert found.all == alone.all


def _none(pull):
    """What a stranger asks."""
    count = 0 if pull.sharpness else 1
    return replace(pull, vectors=0 * pull.vectors[:count], weights=pull.weights[:count])


def test_scores_without_shares_are_the_pulls_own(world):
    tables, _, asked = world
    own, pulls = asked[0]
    alone = Pull(pulls[0].vectors, pulls[0].weights, pulls[0].sharpness)
    cells = cells_of(tables[:1], count=50)
    found = one(cells, (alone,), own, np.ones(len(cells), bool), 500)
    np.testing.assert_allclose(found.scores, alone.scores(tables[0])[found.rows], rtol=1e-4)


def test_an_item_without_a_vector_is_worth_nothing():
    vectors = np.random.default_rng(3).normal(size=(400, 8)).astype(np.float32)
    vectors[::2] = 0
    cells = cells_of((vectors,), count=10)
    pull = Pull(vectors[1:2], np.ones(1, np.float32), 2.0)
    found = one(cells, (pull,), np.array([1]), np.ones(400, bool), 400)
    assert found.all
    assert (found.scores[found.rows % 2 == 0] == 0).all()
    assert (found.scores[found.rows % 2 == 1] > 0).all()


def test_cells_are_the_same_each_time_and_from_what_is_saved(world):
    tables, cells, _ = world
    np.testing.assert_array_equal(cells_of(tables).cell, cells.cell)
    again = cells_by(tables, cells.cell)
    np.testing.assert_array_equal(again.rows, cells.rows)
    np.testing.assert_array_equal(again.tables[0].centres, cells.tables[0].centres)
    grown = cells_by(tables, cells.cell[:-50])  # the last fifty are new
    assert len(grown) == len(cells)
    assert np.mean(grown.cell[-50:] == cells.cell[-50:]) > 0.8
    np.testing.assert_array_equal(np.sort(grown.rows), np.arange(len(cells)))


@pytest.mark.parametrize("cell", [np.zeros(9, np.int32), np.array([0, -1], np.int32), np.array([5, 0], np.int32)])
def test_cells_of_another_catalogue_are_refused(cell):
    with pytest.raises(ShapeError, match="train the run again"):
        cells_by((np.ones((4, 2), np.float32),), cell)
