"""One code path for a known person, a new one, a session and a stranger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from sensorium.answer import answer
from sensorium.data.catalog import Catalog
from sensorium.data.events import Events, confidence
from sensorium.data.ids import Ids
from sensorium.data.vectors import Vectors
from sensorium.errors import UnknownId
from sensorium.feedback.store import Entry
from sensorium.models.model import Features
from sensorium.rank.query import Query


@dataclass(frozen=True, eq=False)
class Nearness:
    """The sum of products with the history's items: a stand-in whose right answers are plain."""

    vectors: np.ndarray

    def score(self, histories, candidates=None):
        scores = histories.matrix(len(self.vectors)) @ (self.vectors @ self.vectors.T)
        return scores if candidates is None else scores[:, candidates]

    def extended(self, features):
        return self


@dataclass(frozen=True, eq=False)
class World:
    catalog: Catalog
    user_ids: Ids
    events: Events
    features: Features
    model: Nearness
    index: None = None
    hidden: tuple[int, ...] = field(default=())


@pytest.fixture
def world():
    """Even items are red, odd ones blue; item 9 is blue and nobody saw it; item 8 is the red favourite."""
    vectors = np.zeros((10, 2), np.float32)
    vectors[np.arange(10), np.arange(10) % 2] = 1 + np.arange(10) / 100
    events = Events.of([0, 0, 1, 1, 2, 2], [0, 2, 1, 3, 8, 8], users=3, items=10, time=[1, 2, 3, 4, 5, 6])
    catalog = Catalog(Ids(f"i{n}" for n in range(10)), {}, [f"Item {n}" for n in range(10)])
    items = Vectors(vectors, np.ones(10, bool), "test")
    blocks = {"image": slice(0, 1), "text": slice(1, 2)}
    return World(catalog, Ids(["red", "blue", "fan"]), events, Features(items, blocks=blocks), Nearness(vectors))


def acts(*items, kind="view", user="new"):
    return [Entry(user, item, kind, 100.0 + n) for n, item in enumerate(items)]


def test_a_known_person_gets_their_colour_and_nothing_seen(world):
    assert answer(world, Query(user="red", k=3)).ids() == ["i8", "i6", "i4"]
    assert answer(world, Query(user="blue", k=2)).ids() == ["i9", "i7"]  # the first is an item nobody saw


def test_a_new_person_with_live_events_equals_a_session_of_the_same_items(world):
    live = answer(world, Query(user="new", k=4), acts("i1", "i3", "i5"))
    session = answer(world, Query(like=("i1", "i3", "i5"), k=4))
    assert live.ids() == session.ids()
    assert live.ids()[:2] == ["i9", "i7"]
    assert [e.score for e in live.items] == [e.score for e in session.items]
    assert not live.notes


def test_live_events_of_a_known_person_count_and_are_seen(world):
    turned = answer(world, Query(user="red", k=2), acts("i1", "i3", "i5", user="red"))
    assert turned.ids() == ["i9", "i7"]


def test_unlike_turns_away(world):
    assert answer(world, Query(unlike=("i0",), k=3)).ids()[0] in {"i1", "i3", "i5", "i7", "i9"}


def test_a_stranger_gets_what_is_popular_and_is_told(world):
    ranking = answer(world, Query(user="who", k=2, explain=True))
    assert ranking.ids()[0] == "i8"
    assert any("stranger" in note for note in ranking.notes)
    assert any("popular" in note for note in ranking.notes)
    assert ranking.items[0].base == pytest.approx(ranking.items[0].score)


def test_hidden_excluded_and_repeated(world):
    assert answer(replace(world, hidden=(8,)), Query(user="red", k=1)).ids() == ["i6"]
    assert answer(world, Query(user="red", k=1, exclude=("i8", "zz"))).ids() == ["i6"]
    assert "i2" in answer(world, Query(user="red", k=10, repeat=True)).ids()
    disliked = answer(world, Query(user="red", k=10, repeat=True), acts("i2", kind="dislike", user="red"))
    assert "i2" not in disliked.ids()
    assert "i0" in disliked.ids()
    empty = answer(replace(world, hidden=tuple(range(10))), Query(user="red"))
    assert len(empty) == 0
    assert empty.notes


def test_a_kind_that_the_recipe_counts_against_an_item_keeps_it_away(world):
    weights = {"view": 1.0, "banned": -4.0, "skip": 2.0}
    query = Query(user="red", k=10, repeat=True)
    banned = answer(world, query, acts("i2", kind="banned", user="red"), weights=weights)
    assert "i2" not in banned.ids()
    assert "i0" in banned.ids()
    assert "i2" in answer(world, query, acts("i2", kind="skip", user="red"), weights=weights).ids()
    # In the snapshot as in the log.
    events = replace(world.events, kinds=("view", "banned"), kind=np.array([0, 1, 0, 0, 0, 0], np.int16))
    known = answer(replace(world, events=events), query, weights=weights)
    assert "i2" not in known.ids()
    assert "i0" in known.ids()


def test_what_a_query_is_for_or_against_weighs_what_the_recipe_says(world):
    from sensorium.rank.history import history_of
    from sensorium.rank.lookup import look_up

    events = replace(world.events, kinds=("view", "banned"))
    lookup, weights = look_up(world.catalog, events), {"view": 2.0, "banned": -4.0}
    asked = history_of(events, lookup, -1, like=[3], unlike=[5], weights=weights)
    assert [asked.kinds[kind] for kind in asked.kind] == ["banned", "view"]
    assert asked.weight.tolist() == [-4.0, 2.0]
    usual = history_of(world.events, lookup, -1, unlike=[5])
    assert [usual.kinds[kind] for kind in usual.kind] == ["dislike"]


def test_reviews_have_a_scale_as_ratings_have(world):
    from sensorium.rank.lookup import look_up

    value = np.array([1, 5, 2, 3, 4, np.nan], np.float32)
    assert look_up(world.catalog, replace(world.events, kinds=("review",), value=value)).scale == 2.0
    assert look_up(world.catalog, replace(world.events, value=value)).scale == 0.0  # seconds watched, say


def test_unknown_items_are_told(world):
    with pytest.raises(UnknownId, match="i99"):
        answer(world, Query(like=("i99",)))
    assert "not in this run" in answer(world, Query(user="red"), acts("i99", user="red")).notes[0]


def test_reasons_sum_to_the_score_and_name_the_right_source(world):
    ranking = answer(world, Query(user="red", k=3, explain=True))
    for entry in ranking.items:
        assert sum(r.amount for r in entry.reasons) + entry.base == pytest.approx(entry.score, rel=1e-5)
    amounts = {r.item: r.source for r in ranking.items[0].reasons}
    assert amounts == {"i0": "image", "i2": "image"}
    assert {r.kind for r in ranking.items[0].reasons} == {"view"}


def test_diversity_brings_the_other_colour(world):
    plain = answer(world, Query(user="red", k=2)).ids()
    spread = answer(world, Query(user="red", k=2, diversity=0.8)).ids()
    assert plain == ["i8", "i6"]
    assert spread[0] == "i8"
    assert spread[1] in {"i1", "i3", "i5", "i7", "i9"}


def test_the_history_is_the_same_as_that_of_the_events(world):
    from sensorium.rank.history import history_of
    from sensorium.rank.lookup import look_up

    lookup = look_up(world.catalog, world.events)
    for user in (-1, 0, 1, 2):
        mine, theirs = history_of(world.events, lookup, user), world.events.histories([user])
        for name in ("start", "item", "kind", "weight", "time", "now"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        np.testing.assert_array_equal(confidence(mine, 1.0), confidence(theirs, 1.0))
