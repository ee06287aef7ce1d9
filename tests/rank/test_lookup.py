"""Tables beside a snapshot: those moved on by what is added or told anew are those built anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sensorium.data.catalog import Catalog
from sensorium.data.content import Attribute, Attributes, Content
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.errors import RecipeError
from sensorium.rank.filters import fulfilled
from sensorium.rank.lookup import Column, Lookup, look_up
from sensorium.rank.query import parse_rule

WORDS = ("Comedy", "comedy", "COMEDY", "Drama", "Straße", "STRASSE", "7", "Sci-Fi")
RULES = ("{}=comedy", "{}!=drama", "{}=Comdy", "{}<5", "{}=3", "{}=7", "{}=strasse")
NAMES = ("price", "genres", "colour", "mixed", "rare")


def said(rng: np.random.Generator) -> Content | None:
    """What a random item says: numbers, words, both by turns, a word twice, and often nothing."""
    if rng.random() < 0.2:
        return None
    few = tuple(rng.choice(WORDS, rng.integers(0, 4)).tolist())
    word, number = str(rng.choice(WORDS)), float(rng.integers(0, 9))
    every: list[tuple[str, Attribute]] = [
        ("price", number), ("genres", few), ("colour", word), ("mixed", [number, int(number), word, few][rng.integers(4)]),
    ]  # fmt: skip
    values = {every[place][0]: every[place][1] for place in rng.permutation(4) if rng.random() < 0.5}
    if rng.random() < 0.05:
        values["rare"] = [number, word, float("nan")][rng.integers(3)]
    return Attributes(values)


def told(columns: dict[str, Column], items: int) -> list[Any]:
    """What every rule keeps, or what is told of it."""
    out: list[Any] = []
    for name in (*NAMES, "prize"):
        for rule in RULES:
            try:
                out.append(fulfilled(parse_rule(rule.format(name)), columns, items).tolist())
            except RecipeError as error:
                out.append(str(error))
    return out


def assert_same(one: Lookup, other: Lookup) -> None:
    items = len(one.crowd.long.counts)
    assert one.events is other.events
    assert one.scale == other.scale
    assert one.new.tolist() == other.new.tolist()
    for name in ("popularity", "trend", "popular", "trending"):
        np.testing.assert_array_equal(getattr(one.crowd, name), getattr(other.crowd, name))
        assert getattr(one.crowd, name).dtype == getattr(other.crowd, name).dtype
    for name in ("by_user", "by_item"):
        for row in range(-1, items + 2):
            assert getattr(one, name).of(row).tolist() == getattr(other, name).of(row).tolist()
    assert list(one.columns) == list(other.columns)
    for mine, theirs in zip(one.columns.values(), other.columns.values(), strict=True):
        np.testing.assert_array_equal(mine.numbers, theirs.numbers)
        assert mine.stated.tolist() == theirs.stated.tolist()
        for index in ("words", "spellings"):
            left, right = getattr(mine, index), getattr(theirs, index)
            assert {word: rows.tolist() for word, rows in left.items()} == {w: r.tolist() for w, r in right.items()}
            assert all((np.diff(rows) > 0).all() and rows.dtype == np.int32 for rows in left.values())
        assert mine.spelled == theirs.spelled
    assert told(dict(one.columns), items) == told(dict(other.columns), items)


class Watched(Sequence[Any]):
    """Contents that note which rows of them are read, and cannot be gone through."""

    def __init__(self, contents: Sequence[Any]) -> None:
        self.contents, self.rows = contents, set[int]()

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, row: Any) -> Any:
        self.rows.add(row)
        return self.contents[row]

    def __iter__(self) -> Any:
        raise AssertionError("all rows are read")


@pytest.mark.parametrize("seed", range(6))
def test_moved_on_is_built_anew(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = int(rng.integers(0, 12))
    contents = [said(rng) if seed else None for _ in range(items)]
    count = 20 if items else 0
    events = Events.of(
        rng.integers(0, 5, count).tolist(), rng.integers(0, max(items, 1), count).tolist(), users=5, items=items,
        time=rng.uniform(0, 1e7, count).tolist() if seed % 2 else None, kinds=("rating",),
        value=rng.integers(1, 6, count).tolist(),
    )  # fmt: skip
    catalog = Catalog(Ids(map(str, range(items))), {"attributes": contents} if seed else {})
    lookup = look_up(catalog, events)
    for step in range(50):
        if rng.random() < 0.5:  # orders and places that are there go along
            _ = lookup.by_item, lookup.crowd.popular, lookup.crowd.trending, lookup.crowd.trend
        known, more = len(catalog), int(rng.integers(0, 3))
        changed = np.flatnonzero(rng.random(known) < rng.choice([0, 0.1, 0.5]))
        contents = [*contents, *(said(rng) for _ in range(more))]
        for row in changed.tolist():
            contents[row] = None if step % 10 == 9 else said(rng)
        before = {name: dict(column.words) for name, column in lookup.columns.items()}
        catalog = Catalog(Ids(map(str, range(known + more))), {"attributes": contents})
        events = events.resized(5, known + more)
        rows, watched, old = np.append(changed, np.arange(known, known + more)), Watched(contents), lookup
        lookup = old.over(Catalog(catalog.ids, {"attributes": watched}), events, rows)
        first = {int(np.argmax(column.stated)) for column in lookup.columns.values()}
        assert watched.rows <= {*rows.tolist(), *first}
        assert_same(lookup, look_up(catalog, events))
        assert lookup.by_user is old.by_user
        for name, words in before.items():  # what others look up stays
            assert all(old.columns[name].words[word] is rows for word, rows in words.items())


def test_a_column_comes_and_goes_and_others_are_shared() -> None:
    events = Events.of([0], [0], users=1, items=2)
    ids = Ids("ab")

    def catalog(*values: dict[str, Attribute]) -> Catalog:
        return Catalog(ids, {"attributes": [Attributes(one) for one in values]})

    lookup = look_up(catalog({"price": 1.0}, {"colour": "Red", "price": 2.0}), events)
    second = lookup.over(catalog({"price": 1.0}, {"size": "L", "price": 2.0}), events, np.array([1]))
    assert list(second.columns) == ["price", "size"]
    assert second.columns["price"] is lookup.columns["price"]
    with pytest.raises(RecipeError, match="no item has 'colour'; known: price, size"):
        fulfilled(parse_rule("colour=red"), second.columns, 2)
    bare = second.over(Catalog(ids, {}), events, np.array([0, 1]))
    assert bare.columns == {}
    assert list(lookup.columns["colour"].words) == ["red"]


def test_words_are_spelled_by_the_first_row_that_has_them() -> None:
    said = [Attributes({"genres": ("Horror", "drama")}), Attributes({"genres": ("Drama", "Comedy", "drama")})]
    column = look_up(Catalog(Ids("ab"), {"attributes": said}), Events.of([], [], users=0, items=2)).columns["genres"]
    assert column.spelled == ("Horror", "drama", "Comedy", "Drama")
    assert {word: rows.tolist() for word, rows in column.words.items()} == {
        "horror": [0],
        "drama": [0, 1],
        "comedy": [1],
    }
