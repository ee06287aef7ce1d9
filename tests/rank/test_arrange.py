"""Lists with pins, caps and chance: against the plain order, against what is counted, and against many draws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sensorium.errors import RecipeError
from sensorium.rank.arrange import EXPLORED, PINNED, arranged
from sensorium.rank.query import Query
from sensorium.rank.rerank import spread_out

RNG = np.random.default_rng(7)
SCORES = RNG.normal(size=60).astype(np.float32)
VECTORS = RNG.normal(size=(60, 8)).astype(np.float32)
PLAIN = np.argsort(-SCORES)


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.9, 1.0])
def test_a_cap_nothing_reaches_changes_nothing(diversity):
    values = [{"kind": (str(place),)} for place in range(60)]
    long_way = arranged(SCORES, VECTORS, 10, diversity=diversity, values=values, caps={"kind": 1})
    assert long_way.place.tolist() == spread_out(SCORES, VECTORS, 10, diversity).tolist()
    assert arranged(SCORES, VECTORS, 10, diversity=diversity).place.tolist() == long_way.place.tolist()
    assert long_way.propensity.tolist() == [1.0] * 10


def test_pins_stand_and_the_rest_keeps_its_order():
    worst = int(PLAIN[-1])
    told = arranged(SCORES, None, 5, pins={worst: 1})
    assert told.place.tolist() == [PLAIN[0], worst, *PLAIN[1:4]]
    assert told.how.tolist() == [0, PINNED, 0, 0, 0]


def test_caps_are_kept_even_where_one_value_fills_the_top():
    scores = np.arange(500, 0, -1).astype(np.float32)
    values = [{"brand": ("big",) if place < 490 else (f"small{place}",)} for place in range(500)]
    told = arranged(scores, None, 6, values=values, caps={"brand": 2}).place.tolist()
    assert told == [0, 1, 490, 491, 492, 493]
    pinned = arranged(scores, None, 6, values=values, caps={"brand": 2}, pins={400: 5}).place.tolist()
    assert pinned == [0, 490, 491, 492, 493, 400]  # the pinned one, too, is of the big brand
    assert arranged(scores[:490], None, 6, values=values, caps={"brand": 2}).place.tolist() == [0, 1]
    both = [{"tag": ("a", "b")}, {"tag": ("b",)}, {"tag": ("a",)}, {}]
    assert arranged(scores[:4], None, 4, values=both, caps={"tag": 1}).place.tolist() == [0, 3]


def test_propensities_are_the_shares_that_many_draws_show():
    """The first place, over 20,000 seeds: every item's share is its propensity, within five standard errors."""
    draws = 20_000
    share: Counter[int] = Counter()
    told: dict[int, float] = {}
    for seed in range(draws):
        line = arranged(SCORES[:8], None, 2, exploration=0.4, rng=np.random.default_rng(seed))
        share[int(line.place[0])] += 1
        told[int(line.place[0])] = float(line.propensity[0])
    assert set(told) == set(range(8))
    assert sum(told.values()) == pytest.approx(1.0)
    for place, propensity in told.items():
        error = np.sqrt(propensity * (1 - propensity) / draws)
        assert abs(share[place] / draws - propensity) < 5 * error


def test_inverse_propensities_estimate_the_value_of_the_greedy_list():
    """The clicks of the greedy first place, estimated from explored lists alone."""
    pays = np.linspace(0.9, 0.1, 8)[np.argsort(np.argsort(-SCORES[:8]))]
    best, worth = int(np.argmax(SCORES[:8])), []
    for seed in range(5_000):
        line = arranged(SCORES[:8], None, 3, exploration=0.7, rng=np.random.default_rng(seed))
        first = int(line.place[0])
        worth.append((first == best) * pays[first] / line.propensity[0])
    assert np.mean(worth) == pytest.approx(pays[best], abs=4 * np.std(worth) / np.sqrt(len(worth)))


def test_chance_is_an_argument_and_keeps_pins_and_caps():
    values = [{"half": (str(place % 2),)} for place in range(60)]
    ask = {"values": values, "caps": {"half": 4}, "pins": {3: 0}, "exploration": 1.0}
    lists = [arranged(SCORES, None, 8, rng=np.random.default_rng(seed), **ask).place.tolist() for seed in (1, 1, 2)]
    assert lists[0] == lists[1] != lists[2]
    for line in lists:
        assert line[0] == 3
        assert len(set(line)) == 8
        assert Counter(place % 2 for place in line) == {0: 4, 1: 4}
    told = arranged(SCORES, None, 8, rng=np.random.default_rng(1), **ask)
    assert told.how.tolist() == [PINNED] + [EXPLORED] * 7
    assert told.propensity[:2].tolist() == [1.0, 1 / 59]
    halves = [place % 2 for place in told.place.tolist()]
    full = next(n for n in range(8) if halves[:n].count(0) == 4 or halves[:n].count(1) == 4)  # then one half is closed
    left = 30 - halves[:full].count(1 - max(set(halves[:full]), key=halves[:full].count))
    assert told.propensity[full] == 1 / left


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"boosts": {"price<": 1.0}}, "rule 'price<'"), ({"boosts": {"a=b": float("nan")}}, "deviations from"),
        ({"pins": {"a": 11}}, "places 1 to 10"), ({"pins": {"a": 1, "b": 1}}, "pinned to one place"),
        ({"caps": {"genre": 0}}, "at least 1"), ({"exploration": 1.5}, "a share"), ({"seed": -1}, "whole number"),
        ({"modalities": {"picture": 1.0}}, "unknown modality"), ({"modalities": {"image": -1.0}}, "from 0 to 100"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_granted_is_told(wrong, told):
    with pytest.raises(RecipeError, match=told):
        Query(**wrong)
