"""Rules, filters, diversity, candidates and reasons, each in a world small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.data.catalog import Catalog
from sensorium.data.content import Attributes
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError
from sensorium.index.index import index_of
from sensorium.models.model import Features
from sensorium.rank import filters
from sensorium.rank.candidates import FOUND, candidates
from sensorium.rank.explain import occluded
from sensorium.rank.filters import Masks, allowed
from sensorium.rank.history import history_of
from sensorium.rank.lookup import look_up
from sensorium.rank.query import Query, parse_rule
from sensorium.rank.rerank import spread_out

FACTS = [
    Attributes({"price": 10.0, "genres": ("Comedy", "Drama"), "colour": "red"}),
    Attributes({"price": 20.0, "genres": ("Horror",), "colour": "Blue"}),
    Attributes({"price": 30.0, "genres": ("Drama",)}),
    None,
]
CATALOG = Catalog(Ids("abcd"), {"attributes": FACTS})
NOBODY = Events.of([], [], users=0, items=4)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("price<=20", "ab"), ("price < 20", "a"), ("price>=20", "bc"), ("price>1970-01-01", "abc"),
        ("price=10|30", "ac"), ("genres=comedy|HORROR", "ab"), ("genres!=Drama", "bd"), ("colour=blue", "b"),
    ],
)  # fmt: skip
def test_rules_keep_what_they_say(rule, kept):
    mask = allowed(4, look_up(CATALOG, NOBODY).columns, [parse_rule(rule)])
    assert "".join(CATALOG.ids.names(np.flatnonzero(mask))) == kept


@pytest.mark.parametrize("room", [0, filters.MASK_BYTES])
@pytest.mark.parametrize("order", [None, np.array([2, 0, 3, 1])])
def test_kept_masks_say_what_rules_say_again_and_again(order, room, monkeypatch):
    monkeypatch.setattr(filters, "MASK_BYTES", room)
    columns = look_up(CATALOG, NOBODY).columns
    masks = Masks(4, columns, hidden=[3], order=order)
    for _ in range(2):
        for lines in (["genres=comedy|horror"], ["genres!=Drama|Horror"], ["price<=20", "genres!=Horror"], []):
            rules = [parse_rule(line) for line in lines]
            wanted = allowed(4, columns, rules, without=[0, 3])
            np.testing.assert_array_equal(masks.by_row(masks.allowed(rules, np.array([0, 0]))), wanted)
            wanted[0] = True
            np.testing.assert_array_equal(masks.by_row(masks.allowed(rules, np.array([0]), besides=[0])), wanted)
    with pytest.raises(RecipeError, match=r"rule 'genres=drama\|Comdy': .* did you mean 'Comedy'"):
        masks.allowed([parse_rule("genres=drama|Comdy")], np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("prise<=20", "did you mean 'price'"), ("genres=Comdy", "did you mean 'Comedy'"), ("colour<3", "holds words"),
        ("price<=cheap", "needs one number"), ("price", "write 'price<=20'"), ("genres=A||B", "empty"),
        ("price=red", "is neither"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_meant_is_told(rule, told):
    with pytest.raises(RecipeError, match=told):
        allowed(4, look_up(CATALOG, NOBODY).columns, [parse_rule(rule)])


@pytest.mark.parametrize("wrong", [{"k": 0}, {"diversity": 2.0}, {"like": "item7"}, {"like": ("a",), "unlike": ("a",)}])
def test_a_query_that_cannot_be_answered_is_told(wrong):
    with pytest.raises(RecipeError, match="query"):
        Query(**wrong)


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.7, 1.0])
def test_diversity_equals_the_textbook_loop(diversity):
    rng = np.random.default_rng(0)
    scores, vectors = rng.random(30).astype(np.float32), rng.normal(size=(30, 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = (scores - scores.min()) / np.ptp(scores)
    chosen = [int(np.argmax(scores))]
    while len(chosen) < 8:
        left = [c for c in range(30) if c not in chosen]
        gain = [(1 - diversity) * relevance[c] - diversity * max(unit[c] @ unit[o] for o in chosen) for c in left]
        chosen.append(left[int(np.argmax(gain))])
    assert spread_out(scores, vectors, 8, diversity).tolist() == chosen


class Linear:
    """score = history counts @ table, plus a start: leaving one out is exact for it."""

    def __init__(self, table):
        self.table = table

    def score(self, histories, candidates=None):
        scores = histories.matrix(len(self.table)) @ self.table + np.float32(0.5)
        return scores if candidates is None else scores[:, candidates]

    def extended(self, features):
        return self


def test_leaving_out_finds_the_weights_of_a_linear_model():
    table = np.random.default_rng(1).random((6, 6)).astype(np.float32)
    events = Events.of([0, 0, 0, 0], [0, 1, 0, 3], users=1, items=6)
    history = history_of(events, look_up(Catalog(Ids("abcdef"), {}), events), 0)
    model, rows = Linear(table), np.array([2, 4])
    scores = model.score(history, rows)[0]
    parts = occluded(model, history, rows, scores, Features(Vectors.absent(6, 1, "none")))
    wanted = np.zeros((2, 4))
    wanted[:, [1, 2, 3]] = table[[1, 0, 3]][:, rows].T  # item 0 counts at its newest event, place 2
    np.testing.assert_allclose(parts.values[:, :, 0], wanted, atol=1e-6)
    np.testing.assert_allclose(parts.base, 0.5, atol=1e-6)


def test_large_catalogues_unite_near_companion_popular_and_new():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(20_000, 8)).astype(np.float32)
    features = Features(Vectors(vectors, np.ones(len(vectors), bool), "test"))
    users, items = rng.integers(0, 500, 30_000), rng.integers(0, 19_000, 30_000)
    events = Events.of([*users, 500, 0], [*items, 7, 7], users=501, items=20_000)
    catalog = Catalog(Ids(map(str, range(20_000))), {})
    lookup = look_up(catalog, events)
    keep = np.ones(20_000, bool)
    keep[7] = False
    pool = candidates(
        history_of(events, lookup, 500), Linear(vectors), features, events, lookup, index_of(vectors), keep, 10,
        all_up_to=1000,
    )  # fmt: skip
    assert {FOUND[place] for place in pool.found} == {"near", "companion", "popular", "new"}
    assert len(pool.rows) <= 5200
    assert 7 not in pool.rows
    assert (np.diff(pool.rows) > 0).all()
    assert 19_999 in pool.rows  # the newest, touched by nobody
    nearest = np.argsort(-(vectors @ vectors[7]), kind="stable")[1:100]
    assert np.isin(nearest[nearest != 7], pool.rows).all()
