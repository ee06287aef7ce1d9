"""Cells against scoring everything: what they find, the scale they foretell, and how they grow."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from sensorium.arrays import packed
from sensorium.errors import ShapeError
from sensorium.index import cells as module
from sensorium.index.cells import Asker, Table, cells_by, cells_of
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


def longer(tables, count, seed=4):
    """The tables in memory of their own, with `count` rows more, which are next to some that are there."""
    rng = np.random.default_rng(seed)
    like = rng.integers(len(tables[0]), size=count)
    noise = [0.1 * rng.normal(size=(count, table.shape[1])).astype(np.float32) for table in tables]
    return tuple(np.concatenate([table, table[like] + one]) for table, one in zip(tables, noise, strict=True))


def moved(tables, *rows):
    """The tables, each with other vectors in some rows of its own."""
    out = tuple(table.copy() for table in tables)
    for table, places in zip(out, rows, strict=True):
        own = np.array(places, np.int64)
        table[own] = table[own + 1] * np.float32(1.5)
    return out


def absent(tables, own):
    """The tables without a vector of some rows."""
    out = tuple(table.copy() for table in tables)
    for table in out:
        table[own] = 0
    return out


CHANGES = {
    "nothing": lambda tables: tuple(tables),
    "the same elsewhere in memory": lambda tables: longer(tables, 0),
    "one new": lambda tables: longer(tables, 1),
    "many new": lambda tables: longer(tables, 900),
    "new in the memory of the known": lambda tables: tuple(tables),  # see `starting`
    "changed": lambda tables: moved(tables, [3, 70, 9_999], [70]),
    "many changed in one table": lambda tables: moved(tables, range(0, 19_000, 20), []),
    "both": lambda tables: moved(longer(tables, 300), range(0, 9_000, 30), [5]),
    "one becomes absent": lambda tables: absent(tables, [17]),
    "a new one is absent": lambda tables: absent(longer(tables, 1), [20_000]),
    "one is absent no more": lambda tables: moved(longer(tables, 2), [0], [0]),  # see `starting`
    "more than few new": lambda tables: longer(tables, 1_100),
    "more than few changed": lambda tables: moved(longer(tables, 1), [1], range(1_100)),
}


def starting(change, tables, cells):
    """The cells that grow: those of the world, but for what a change needs."""
    if change == "new in the memory of the known":
        return cells_by([table[:-40] for table in tables], cells.cell[:-40])
    if change == "one is absent no more":
        return cells_by(absent(tables, [0]), cells.cell)
    return cells


def agree(grown, fresh, rtol=1e-5):
    """Cells that are the same: exactly where nothing is summed over all items."""
    for name in ("cell", "start", "rows"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(fresh, name))
        assert getattr(grown, name).dtype == getattr(fresh, name).dtype
    np.testing.assert_array_equal(grown.sizes, fresh.sizes)
    for one, other in zip(grown.tables, fresh.tables, strict=True):
        for field in fields(Table):
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            assert (ours is None) == (theirs is None)
            if ours is None:
                continue
            assert (ours.dtype, ours.shape, ours.flags.c_contiguous) == (theirs.dtype, theirs.shape, True)
            if field.name in ("values", "close", "present"):
                np.testing.assert_array_equal(ours, theirs)
            else:
                np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())


def held(cells):
    """All arrays of some cells, copied."""
    arrays = [cells.cell, cells.start, cells.rows]
    arrays += [getattr(table, field.name) for table in cells.tables for field in fields(Table)]
    return [None if array is None else array.copy() for array in arrays]


@pytest.mark.parametrize("change", CHANGES)
def test_grown_cells_are_those_that_all_vectors_give(world, change):
    tables, cells, asked = world
    old, now = starting(change, tables, cells), CHANGES[change](tables)
    before = held(old)
    grown, fresh = old.grown(now), cells_by(now, old.cell)
    agree(grown, fresh)
    for array, copy in zip(held(old), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert all(np.shares_memory(one.values, table) for one, table in zip(grown.tables, now, strict=True))
    askers = [Asker(pulls, own, packed(np.ones(len(fresh), bool)), fresh.most) for own, pulls in asked[:3]]
    for found, wanted in zip(grown.search(askers), fresh.search(askers), strict=True):
        np.testing.assert_array_equal(found.rows, wanted.rows)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.scales, wanted.scales, rtol=1e-4)


def test_only_what_changed_is_looked_at(world, monkeypatch):
    tables, cells, _ = world
    now = moved(longer(tables, 3), [5], [])
    monkeypatch.setattr(module, "cells_by", lambda *_: pytest.fail("all vectors were looked at"))
    assert len(cells.grown(now)) == len(cells) + 3
    again = cells.grown(longer(tables, 0))
    assert again.rows is cells.rows
    assert all(one.close is other.close for one, other in zip(again.tables, cells.tables, strict=True))


def test_an_empty_cell_takes_a_new_item(world):
    tables, cells, _ = world
    cell = np.where(cells.cell == 5, 6, cells.cell)
    old = cells_by(tables, cell)
    now = [np.concatenate([table, np.full((2, table.shape[1]), 1e-4, np.float32)]) for table in tables]
    grown = old.grown(now)
    assert (old.sizes[5], grown.sizes[5]) == (0, 2)  # whose mean is zero, next to which they are
    agree(grown, cells_by(now, cell))
    emptied = absent(now, np.flatnonzero(cell == 7)[:1])
    agree(grown.grown(emptied), cells_by(emptied, grown.cell))


@pytest.mark.parametrize("count", [1, 2])
def test_one_table_or_two_may_become_too_large_to_be_held_twice(world, monkeypatch, count):
    tables, cells, _ = world
    old, now = cells_by(tables[:count], cells.cell), longer(tables[:count], 5)
    monkeypatch.setattr(module, "CLOSE_BYTES", tables[0].nbytes)
    grown = old.grown(now)
    assert [table.close is None for table in grown.tables] == [True, False][:count]
    agree(grown, cells_by(now, cells.cell))
    more = longer(now, 5)
    agree(grown.grown(more), cells_by(more, grown.cell))
    monkeypatch.undo()
    agree(grown.grown(more), cells_by(more, grown.cell))


def test_what_is_told_does_not_drift():
    rng = np.random.default_rng(5)
    tables = [rng.normal(size=(1_500, size)).astype(np.float32) + np.float32(1) for size in (16, 6)]
    cells = cells_of(tables, count=40)
    for turn in range(200):
        tables = longer(tables, 1 + turn % 3, seed=turn)
        tables = moved(tables, rng.integers(1_500, size=4), rng.integers(1_500, size=1))
        for table in tables:  # lengths do not grow without end
            np.clip(table, -5, 5, out=table)
        cells = cells.grown(tables)
    fresh = cells_by(tables, cells.cell)
    agree(cells, fresh, rtol=1e-4)
    for one, other in zip(cells.tables, fresh.tables, strict=True):
        np.testing.assert_allclose(one.around, other.around, atol=1e-5 * np.abs(other.around).max())


def test_cells_do_not_grow_to_another_catalogue(world):
    tables, cells, _ = world
    look, crowd = tables
    for other in ([look], [crowd, look], [look[:-1], crowd[:-1]], (*longer([look], 1), crowd), []):
        with pytest.raises(ShapeError, match="cannot grow"):
            cells.grown(other)
