"""Splits of tiny logs whose parts can be told by eye, and the promises that hold for every split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from sensorium.build import Material
from sensorium.data.events import Events, Fold
from sensorium.data.prepare import weighed
from sensorium.data.readers import read
from sensorium.data.split import Split, SplitSettings, split
from sensorium.errors import DataError, RecipeError
from sensorium.evaluate.run import parted
from sensorium.recipe import recipe_of


def pairs(events: Events) -> list[tuple[int, int]]:
    return list(zip(events.user.tolist(), events.item.tolist(), strict=True))


def log(seed: int = 0, users: int = 40, items: int = 30, count: int = 900) -> Events:
    rng = np.random.default_rng(seed)
    return Events.of(
        rng.integers(0, users, count).tolist(),
        rng.integers(0, items, count).tolist(),
        users=users,
        items=items,
        time=rng.integers(0, 300, count).tolist(),
    )


def test_the_last_new_item_is_the_test_and_the_one_before_it_the_validation() -> None:
    events = Events.of([0, 0, 0, 0, 1, 1, 2], [5, 6, 7, 8, 5, 6, 9], time=[1, 2, 3, 4, 1, 2, 1], users=3, items=10)
    parts = split(events, SplitSettings())
    assert pairs(parts.test.held_out) == [(1, 6), (0, 8)]
    assert pairs(parts.validation.held_out) == [(0, 7)]
    assert pairs(parts.validation.train) == [(0, 5), (1, 5), (2, 9), (0, 6)]
    assert pairs(parts.train) == [(0, 5), (1, 5), (2, 9), (0, 6), (0, 7)]
    assert parts.test.train is parts.train


def test_what_is_done_again_is_no_target() -> None:
    events = Events.of([0] * 6, [1, 2, 3, 1, 3, 2], time=range(6), users=1, items=4)
    parts = split(events, SplitSettings())
    assert pairs(parts.test.held_out) == [(0, 3), (0, 1), (0, 3), (0, 2)]  # from the first event of item 3 on
    assert pairs(parts.validation.held_out) == [(0, 2)]
    assert pairs(parts.validation.train) == [(0, 1)]


def test_what_was_skipped_is_no_target() -> None:
    events = Events.of(
        [0] * 4, [1, 2, 3, 4], time=range(4), kind=[0, 0, 0, 1], kinds=("view", "skip"), users=1, items=5
    )
    parts = split(events, SplitSettings())
    assert pairs(parts.test.held_out) == [(0, 3), (0, 4)]
    assert pairs(parts.validation.held_out) == [(0, 2)]


def test_ties_in_time_keep_the_order_of_the_file() -> None:
    events = Events.of([0, 0, 0], [2, 0, 1], time=[7, 7, 7], users=1, items=3)
    parts = split(events, SplitSettings())
    assert pairs(parts.test.held_out) == [(0, 1)]
    assert pairs(parts.validation.held_out) == [(0, 0)]


def test_one_moment_divides_everybody() -> None:
    events = Events.of([0] * 20, range(20), time=range(20), users=1, items=20)
    parts = split(events, SplitSettings(by="time"))
    assert parts.test.held_out.time.tolist() == [18, 19]
    assert parts.validation.held_out.time.tolist() == [16, 17]


def test_events_of_one_moment_stay_together() -> None:
    events = log()
    parts = split(events, SplitSettings(by="time"))
    assert parts.train.time.max() < parts.test.held_out.time.min()
    assert parts.validation.train.time.max() < parts.validation.held_out.time.min()
    assert abs(len(parts.test.held_out) / len(events) - 0.1) < 0.02


def test_a_split_by_item_asks_for_items_nobody_met() -> None:
    events = log()
    parts = split(events, SplitSettings(by="items"), seed=3)
    assert parts.test.candidates is not None
    assert parts.validation.candidates is not None
    assert len(parts.test.candidates) == 3
    assert not np.isin(parts.train.item, parts.test.candidates).any()
    assert not np.isin(parts.validation.train.item, [*parts.test.candidates, *parts.validation.candidates]).any()
    assert set(parts.test.held_out.item.tolist()) == set(parts.test.candidates.tolist())
    assert parts.mixed().candidates is None


def test_at_random_takes_a_tenth_of_each_person() -> None:
    events = Events.of(np.repeat(np.arange(5), 50).tolist(), list(range(50)) * 5, users=5, items=50)
    parts = split(events, SplitSettings(by="random"), seed=1)
    assert np.bincount(parts.test.held_out.user).tolist() == [5] * 5
    assert np.bincount(parts.validation.held_out.user).tolist() == [5] * 5
    again = split(events, SplitSettings(by="random"), seed=1)
    other = split(events, SplitSettings(by="random"), seed=2)
    assert pairs(again.test.held_out) == pairs(parts.test.held_out) != pairs(other.test.held_out)


@pytest.mark.parametrize("by", ["leave-last-out", "time", "random", "items"])
def test_nothing_is_lost_and_nothing_of_the_test_is_seen_before(by: str) -> None:
    events = log(seed=5)
    parts = split(events, SplitSettings(by=by), seed=7)  # type: ignore[arg-type]
    held = [parts.validation.train, parts.validation.held_out, parts.test.held_out]
    assert sorted(p for part in held for p in pairs(part)) == sorted(pairs(events))
    assert len(parts.train) == len(parts.validation.train) + len(parts.validation.held_out)
    assert by == "time" or not set(pairs(parts.test.held_out)) - set(pairs(parts.train)) & set(pairs(parts.train))
    if by in ("random", "items"):
        assert not set(pairs(parts.test.held_out)) & set(pairs(parts.train))
        assert not set(pairs(parts.validation.held_out)) & set(pairs(parts.validation.train))


def given(train: Events, test: Events, valid: Events | None = None) -> Split:
    files = {"train": train, "test": test} | ({} if valid is None else {"valid": valid})
    return split(train, SplitSettings(by="given"), seed=0, given=files)


def test_given_files_are_taken_as_they_are() -> None:
    train = Events.of([0, 0], [0, 1], users=1, items=4)
    valid, test = Events.of([0], [2], users=1, items=4), Events.of([0], [3], users=1, items=4)
    parts = given(train, test, valid)
    assert pairs(parts.validation.train) == [(0, 0), (0, 1)]
    assert pairs(parts.validation.held_out) == [(0, 2)]
    assert sorted(pairs(parts.train)) == [(0, 0), (0, 1), (0, 2)]
    assert pairs(parts.test.held_out) == [(0, 3)]


def test_a_missing_validation_is_carved_as_large_as_the_test() -> None:
    train = Events.of(np.repeat(np.arange(10), 8).tolist(), list(range(8)) * 10, users=10, items=10)
    test = Events.of(np.repeat(np.arange(10), 2).tolist(), [8, 9] * 10, users=10, items=10)
    parts = given(train, test)
    assert np.bincount(parts.validation.held_out.user).tolist() == [2] * 10  # 20 % of 8
    assert len(parts.train) == len(train)


def test_a_test_that_follows_in_time_gets_a_validation_that_does() -> None:
    train = Events.of([0] * 4, [0, 1, 2, 3], time=[1, 2, 3, 4], users=1, items=5)
    test = Events.of([0], [4], time=[5], users=1, items=5)
    assert pairs(given(train, test).validation.held_out) == [(0, 3)]


def test_a_test_of_buys_gets_a_validation_of_buys_with_all_their_events() -> None:
    train = Events.of(
        [0] * 6, [0, 1, 1, 2, 3, 3], time=range(6), kind=[0, 0, 1, 1, 0, 0], kinds=("view", "buy"), users=1, items=5
    )
    test = Events.of([0], [4], time=[9], kind=[0], kinds=("buy",), users=1, items=5)
    parts = given(train, test)
    assert pairs(parts.validation.held_out) == [(0, 2)]
    assert not set(pairs(parts.validation.held_out)) & set(pairs(parts.validation.train))


def test_too_little_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="holds nothing out"):
        split(Events.of([0], [0], users=1, items=1), SplitSettings())
    with pytest.raises(DataError, match="files train and test"):
        split(log(), SplitSettings(by="given"))
    with pytest.raises(RecipeError, match="shares above 0"):
        SplitSettings(test=0.8, validation=0.3)


def ratings(seed: int = 0) -> Events:
    """Ratings of 1 to 5, with views among them."""
    events, rng = log(seed), np.random.default_rng(seed + 1)
    value = rng.integers(1, 6, len(events)).astype(np.float32)
    kind = (rng.random(len(events)) < 0.7).astype(np.int16)
    value[kind == 0] = np.nan
    return weighed(replace(events, kind=kind, value=value, kinds=("view", "rating")), {"rating": 2.0})


def in_parts(events: Events, by: str) -> Split:
    """A split by name. A given one has every fifth event in the test file, and perhaps every fifth in that of valid."""
    place = np.arange(len(events)) % 5
    files = {"train": events.take(place > 0), "test": events.take(place == 0)}
    if by == "given with valid":
        files |= {"train": events.take(place > 1), "valid": events.take(place == 1)}
    settings = SplitSettings(by="given" if by.startswith("given") else by)  # type: ignore[arg-type]
    return split(events, settings, seed=1, given=files, kinds={"rating": 2.0})


WAYS = ("leave-last-out", "time", "random", "items", "given", "given with valid")


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("fold", ["validation", "test"])
def test_a_held_out_rating_changes_no_weight_that_is_learnt_from(by: str, fold: str) -> None:
    events = replace(ratings(), text=np.arange(900).astype(str).astype(object))  # the text tells which event it is
    before: Fold = getattr(in_parts(events, by), fold)
    assert before.train.text is not None
    learnt = np.isin(events.text, before.train.text)
    changed = np.where(learnt, events.value, events.value * 10 - 30).astype(np.float32)
    after: Fold = getattr(in_parts(weighed(replace(events, value=changed), {"rating": 2.0}), by), fold)
    assert not np.array_equal(after.held_out.value, before.held_out.value, equal_nan=True)
    for column in ("user", "item", "kind", "value", "weight", "time"):
        assert getattr(after.train, column).tobytes() == getattr(before.train, column).tobytes()


def test_ratings_are_centred_by_those_of_the_training_part_alone() -> None:
    events = Events.of(
        [0] * 4 + [1] * 2, [0, 1, 2, 3, 0, 1], users=2, items=4, time=[1, 2, 3, 4, 1, 2], kind=[0] * 6,
        kinds=("rating",), value=[1, 3, 5, 9, 2, 8],
    )  # fmt: skip
    parts = split(weighed(events, {}), SplitSettings(), kinds={})
    # Learnt from: person 0 rated 1, 3, 5 and person 1 rated 2: means 3 and 2, half the scale 2. Then 1, 3 and 2: half is 1.
    assert pairs(parts.train) == [(0, 0), (1, 0), (0, 1), (0, 2)]
    assert parts.train.weight.tolist() == [0, 1, 1, 2]
    assert parts.validation.train.weight.tolist() == [0, 1, 2]
    assert parts.test.train is parts.train
    assert split(events, SplitSettings()).train.weight.tolist() == [1, 1, 1, 1]  # as they were


def test_an_evaluation_weighs_its_training_parts_as_the_recipe_says(tmp_path: Path) -> None:
    table = tmp_path / "ratings.csv"
    rows = ["user_id,item_id,rating,timestamp", "a,p,1,100", "a,q,3,200", "a,r,5,300", "a,s,9,400", "b,p,2,100"]
    table.write_text("\n".join(rows) + "\n", "utf-8")
    recipe = recipe_of(events=str(table), split="leave-last-out")
    recipe = replace(recipe, events=replace(recipe.events, kinds={"rating": 2.0}))
    material = cast(Material, SimpleNamespace(dataset=read(recipe)))
    parts = parted(material, recipe)
    assert material.dataset.events.kinds == ("rating",)
    assert parts.train.weight.tolist() == [0, 2, 2, 4]
    assert parts.validation.train.weight.tolist() == [0, 2, 4]


@pytest.mark.parametrize("by", ["time", "given"])
def test_a_test_of_nothing_but_skips_is_refused_in_one_line(by: str) -> None:
    kinds = ("view", "skip")
    kind = [0] * 18 + [1] * 2
    events = Events.of(
        [n % 4 for n in range(20)], list(range(20)), users=4, items=20, time=list(range(20)), kind=kind, kinds=kinds
    )
    given = (
        {"train": events.take(np.arange(20) < 18), "test": events.take(np.arange(20) >= 18)} if by == "given" else None
    )
    with pytest.raises(DataError, match="nothing to foretell"):
        split(events, SplitSettings(by=by), given=given)
