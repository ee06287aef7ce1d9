"""Decayed counts with known answers: what is old counts half, and what is stored later moves them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.feedback.store import Entry
from sensorium.rank.crowd import HALF_LIFE_SECONDS, TREND_SECONDS, Crowd, Following, crowd_of

NOW = 1.7e9
IDS = Ids("abcd")
LATER = NOW + 100 * HALF_LIFE_SECONDS


def crowd(times: list[float], items: list[int], **more: object) -> Crowd:
    return crowd_of(Events.of([0] * len(items), items, time=times, users=1, items=4, **more), 4)  # type: ignore[arg-type]


def entries(*lines: tuple[str, str, float]) -> list[Entry]:
    return [Entry("u", item, kind, time, position=place) for place, (item, kind, time) in enumerate(lines, 11)]


def reading(log: list[Entry], most: int = 2) -> Callable[[int], list[Entry]]:
    return lambda after: [one for one in log if one.position > after][:most]


def followed(base: Crowd, log: list[Entry], until: float = LATER) -> Crowd:
    return Following(base, IDS, {"view": 1.0, "dislike": -1.0}, 10).upon(reading(log), until)


def test_an_event_counts_half_after_the_half_life() -> None:
    told = crowd([NOW - 2 * HALF_LIFE_SECONDS, NOW - HALF_LIFE_SECONDS, NOW], [0, 1, 2])
    assert told.popularity.tolist() == [0.25, 0.5, 1, 0]
    assert told.popular.tolist() == [2, 1, 0]
    assert told.trending.tolist() == [2]
    day = crowd([NOW - TREND_SECONDS, NOW], [3, 1])
    assert day.trend.tolist() == [0, 1, 0, 0.5]
    assert day.trending.tolist() == [1, 3]


def test_what_is_stored_later_moves_the_counts() -> None:
    base = crowd([NOW, NOW, NOW], [0, 0, 1])
    buys = entries(*[("d", "buy", NOW + HALF_LIFE_SECONDS)] * 5, ("b", "dislike", NOW), ("zz", "view", NOW))
    told = followed(base, buys)
    assert told.popularity.tolist() == [1, 0.5, 0, 5]
    assert told.popular.tolist() == [3, 0, 1]
    assert told.trending.tolist() == [3]
    old = followed(base, entries(("c", "view", NOW - HALF_LIFE_SECONDS)))
    assert old.popularity.tolist() == [2, 1, 0.5, 0]
    assert base.popularity.tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize("timed", [True, False])
def test_moved_on_is_as_if_it_were_learnt(timed: bool) -> None:
    rng = np.random.default_rng(0)
    times, items = np.sort(rng.uniform(NOW - 3 * HALF_LIFE_SECONDS, NOW, 60)), rng.integers(0, 4, 60)
    cut = 30 if timed else 0
    log = entries(*[("abcd"[item], "view", time) for time, item in zip(times[cut:], items[cut:], strict=True)])
    whole = crowd(times.tolist(), items.tolist())
    steps = Following(crowd(times[:cut].tolist(), items[:cut].tolist()), IDS, {}, 10)
    for end in range(0, len(log) + 1, 5):
        told = steps.upon(reading(log[:end]), LATER)
    at_once = followed(crowd(times[:cut].tolist(), items[:cut].tolist()), log)
    for one in (told, at_once):
        np.testing.assert_allclose(one.popularity, whole.popularity, rtol=1e-5)
        np.testing.assert_allclose(one.trend, whole.trend, rtol=1e-5)
        assert one.popular.tolist() == whole.popular.tolist()
        assert one.trending.tolist() == whole.trending.tolist()


def test_a_future_event_counts_once_its_time_has_come() -> None:
    base, log = crowd([NOW], [0]), entries(("b", "view", NOW + 50), ("b", "view", NOW + 10), ("c", "view", NOW))
    steps = Following(base, IDS, {}, 10)
    assert steps.upon(reading(log), NOW + 1).popularity.round(3).tolist() == [1, 0, 1, 0]
    assert steps.upon(reading(log), NOW + 20).popularity.round(3).tolist() == [1, 1, 1, 0]
    assert steps.upon(reading(log), NOW + 60).popularity.round(3).tolist() == [1, 2, 1, 0]
    assert steps.upon(reading(log), NOW + 70) is steps.upon(reading(log), NOW + 80)


def test_without_times_the_snapshot_is_as_new_as_the_first_event() -> None:
    events = Events.of([0, 0, 0], [0, 0, 1], users=1, items=4)
    base = crowd_of(replace(events, timed=False), 4)
    assert base.popularity.tolist() == [2, 1, 0, 0]
    assert base.trending.tolist() == []
    told = followed(base, entries(("d", "buy", NOW), ("d", "buy", NOW + HALF_LIFE_SECONDS)))
    assert told.popularity.tolist() == [1, 0.5, 0, 1.5]


@pytest.mark.parametrize("time", [-1e300, 0.0, 4e9 * HALF_LIFE_SECONDS])
def test_times_may_be_anything(time: float) -> None:
    log = entries(("a", "view", time), ("b", "view", NOW), ("c", "view", time), ("b", "view", NOW))
    told = followed(crowd([], []), log, until=1e300)
    assert np.isfinite(told.popularity).all()
    assert told.popularity[1] == (2 if time < NOW else 0)
    assert set(told.popular.tolist()) <= {0, 1, 2}


def long_log(rng: np.random.Generator, count: int) -> list[Entry]:
    """Events of items that are known and of others, in no order of time; some are of the future, but not the first.

    They lie whole half-lives apart, so that nothing is rounded, in whatever order they are counted.
    """
    ages = rng.integers(-9, 3, count)
    ages[0] = min(ages[0], 0)
    kinds, items = rng.choice(["view", "buy", "dislike"], count).tolist(), rng.choice([*"abcdefgh"], count).tolist()
    return entries(*zip(items, kinds, (NOW + ages * HALF_LIFE_SECONDS).tolist(), strict=True))


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_grown_is_as_if_it_had_known_all_items_from_the_start(seed: int, timed: bool) -> None:
    rng = np.random.default_rng(seed)
    base, log = crowd([NOW] * 3, [0, 1, 1]), long_log(rng, 120)
    if not timed:
        base = crowd_of(replace(Events.of([0, 0, 0], [0, 1, 1], users=1, items=4), timed=False), 4)
    weights, ids, until = {"dislike": -1.0}, IDS, NOW
    steps = Following(base, ids, weights, 10)
    for end in range(0, len(log), 10):
        stored = log[:end]
        told = steps.upon(reading(stored, 7), until)
        if seed % 2:
            _ = told.popular, told.trending, told.popularity, told.trend
        if end % 30 == 20:  # the log holds more by now than has been read
            more = {20: "e", 50: "gf", 80: "zyh", 110: "x"}[end]
            asked: list[str] = []

            def happened(name: str, end: int = end, asked: list[str] = asked) -> list[Entry]:
                asked.append(name)
                return [one for one in log[: end + 5] if one.item == name]

            old, ids = steps, Ids([*ids, *more])
            steps = old.grown(ids, happened)
            assert set(asked) <= {one.item for one in stored} & set(more)
            assert old.upon(reading(stored), until) is told
        whole = Following(base.grown(len(ids)), ids, weights, 10).upon(reading(stored), until)
        told = steps.upon(reading(stored), until)
        np.testing.assert_array_equal(told.popularity, whole.popularity)
        np.testing.assert_array_equal(told.trend, whole.trend)
        assert told.popular.tolist() == whole.popular.tolist()
        assert told.trending.tolist() == whole.trending.tolist()
        assert told.end == whole.end
        assert len(told.popularity) == len(ids)
        if end % 40 == 30:
            until += HALF_LIFE_SECONDS


def test_a_future_event_of_an_item_that_becomes_known_waits_for_its_time() -> None:
    log = entries(("e", "view", NOW + 50), ("b", "view", NOW + 60), ("e", "view", NOW))
    steps = Following(crowd([NOW], [0]), IDS, {}, 10)
    assert steps.upon(reading(log), NOW + 1).popularity.tolist() == [1, 0, 0, 0]
    grown = steps.grown(Ids("abcde"), lambda name: [one for one in log if one.item == name])
    assert grown.upon(reading(log), NOW + 1).popularity.tolist() == [1, 0, 0, 0, 1]
    assert grown.upon(reading(log), NOW + 55).popularity.round(3).tolist() == [1, 0, 0, 0, 2]
    assert grown.upon(reading(log), NOW + 65).popularity.round(3).tolist() == [1, 1, 0, 0, 2]
    assert steps.upon(reading(log), NOW + 65).popularity.round(3).tolist() == [1, 1, 0, 0]


def test_growing_while_others_ask_counts_each_event_once() -> None:
    log = entries(*[("abcde"[place % 5], "view", NOW) for place in range(3000)])
    stored: list[Entry] = []
    steps, stop = Following(crowd([NOW], [0]), IDS, {}, 10), threading.Event()

    def ask() -> None:
        seen = 1.0
        while not stop.is_set():
            now = float(steps.upon(reading(stored, 3), NOW).popularity.sum())
            assert now >= seen
            seen = now

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            while len(stored) < len(log):
                stored += log[len(stored) : len(stored) + 30]
                grown = steps.grown(Ids("abcde"), lambda name: [one for one in log if one.item == name])
                assert grown.upon(reading(log, 1000), NOW).popularity.tolist() == [601, 600, 600, 600, 600]
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert steps.upon(reading(log, 1000), NOW).popularity.tolist() == [601, 600, 600, 600]
