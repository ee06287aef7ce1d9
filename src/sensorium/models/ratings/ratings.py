"""A table of ratings: rows inside, ids outside, and the scale on which people rate."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.errors import DataError

Doubles = NDArray[np.float64]
Twice = Literal["error", "last", "mean"]


@dataclass(frozen=True, eq=False)
class Lists:
    """Ratings grouped by one side: list x is `slice(start[x], start[x + 1])`, other side ascending.

    **Shapes** start (X + 1,), other (N,), value (N,); `order` (N,) is each entry's place in the table it came from.
    """

    start: Rows
    other: NDArray[np.int32]
    value: Doubles
    order: Rows

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def count(self) -> Rows:
        """How many ratings each list holds (X,)."""
        return np.diff(self.start)


@dataclass(frozen=True, eq=False)
class Ratings:
    """Who rated what how: one value a pair of user and item.

    **Shapes** columns (N,): rows of `users` and of `items`, the value, and the moment in seconds where it is known.
    `low`, `high`: the scale; estimates are clipped to it. An id may have no rating at all: it is then not *known*.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    value: Doubles
    users: Ids
    items: Ids
    low: float
    high: float
    time: Doubles | None = None

    @classmethod
    def of(
        cls, users: Sequence[Any], items: Sequence[Any], values: Sequence[float] | NDArray[Any],
        *, scale: tuple[float, float] = (1.0, 5.0), time: Sequence[float] | NDArray[Any] | None = None,
        twice: Twice = "error",
    ) -> Ratings:  # fmt: skip
        """Ratings from columns of outside ids (anything that prints as the id) and numbers.

        `twice` says what a pair that stands twice means. **Raises** DataError for columns of different length, a value
        that is no number or off the scale, a time that is no number, a pair that stands twice.

        >>> ratings = Ratings.of(["ann", "bob", "ann"], ["film", "film", "book"], [5, 3, 4])
        >>> len(ratings), ratings.mean, ratings.users.names([0, 1])
        (3, 4.0, ['ann', 'bob'])
        """
        names, things = [str(u) for u in users], [str(i) for i in items]
        values = np.asarray(values, np.float64)
        if not len(names) == len(things) == len(values):
            raise DataError(
                f"ratings: {len(names)} users, {len(things)} items and {len(values)} values; give as many of each"
            )
        moments = None if time is None else np.asarray(time, np.float64)
        if moments is not None and (moments.shape != values.shape or not np.isfinite(moments).all()):
            raise DataError(f"ratings: {moments.size} times for {len(values)} values; give one finite number each")
        user_ids, item_ids = Ids(dict.fromkeys(names)), Ids(dict.fromkeys(things))
        made = cls(
            user_ids.rows(names).astype(np.int32), item_ids.rows(things).astype(np.int32), values, user_ids, item_ids,
            float(scale[0]), float(scale[1]), moments,
        )  # fmt: skip
        return made.checked()._once(twice)

    @classmethod
    def of_events(cls, events: Events, *, users: Ids | None = None, items: Ids | None = None) -> Ratings:
        """The ratings that events state: their `value` where they have one, else their weight; the last of a pair counts.

        The scale is what was seen, whole numbers where all values are whole.
        """
        stated = np.isfinite(events.value)
        values = np.where(stated, np.where(stated, events.value, 0), events.weight).astype(np.float64)
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        made = cls(
            events.user, events.item, values, users or Ids(map(str, range(events.users))),
            items or Ids(map(str, range(events.items))), low, max(high, low + 1e-6), events.time,
        )  # fmt: skip
        return made._once("last")

    def __len__(self) -> int:
        return len(self.value)

    def checked(self) -> Ratings:
        """Itself. **Raises** DataError where the scale or a value is not what it should be."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise DataError(f"ratings: the scale goes from {self.low:g} to {self.high:g}; the first must be the lower")
        wrong = ~((self.value >= self.low) & (self.value <= self.high))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"ratings: row {row + 1} has the value {self.value[row]:g}, off the scale {self.low:g} to {self.high:g}; "
                "give scale=(lowest, highest)"
            )
        return self

    def _once(self, twice: Twice) -> Ratings:
        """One rating a pair; which, `twice` says."""
        key = self.user.astype(np.int64) * max(len(self.items), 1) + self.item
        found, first, place, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        if len(found) == len(key):
            return self
        if twice == "error":
            row = int(first[count > 1].min())
            raise DataError(
                f"ratings: user {self.users[self.user[row]]!r} rated item {self.items[self.item[row]]!r} "
                f"{int(count[place[row]])} times; give twice='last' or twice='mean'"
            )
        if twice == "last":
            last = np.zeros(len(found), np.int64)
            np.maximum.at(last, place, np.arange(len(key)))
            return self.take(np.sort(last))
        mean = np.bincount(place, self.value) / count
        return replace(self.take(np.sort(first)), value=mean[place[np.sort(first)]])

    def take(self, chosen: Rows | NDArray[np.bool_]) -> Ratings:
        """Some of the ratings, by places or by mask; ids and scale stay, so that rows mean the same."""
        time = None if self.time is None else self.time[chosen]
        return replace(self, user=self.user[chosen], item=self.item[chosen], value=self.value[chosen], time=time)

    def joined(self, more: Ratings) -> Ratings:
        """These ratings and `more`; ids are appended, so no row changes; a pair rated anew keeps the newer value."""
        users, items = self.users.extended(more.users), self.items.extended(more.items)
        user, item = users.rows(more.users)[more.user], items.rows(more.items)[more.item]
        both = self.time is not None and more.time is not None
        return replace(
            self, user=np.concatenate([self.user, user]).astype(np.int32),
            item=np.concatenate([self.item, item]).astype(np.int32), value=np.concatenate([self.value, more.value]),
            users=users, items=items, time=np.concatenate([self.time, more.time]) if both else None,
        )._once("last")  # fmt: skip

    def on(self, users: Ids, items: Ids) -> tuple[Rows, Rows]:
        """The rows of these ratings among other ids, −1 where unknown there."""
        user = self.user.astype(np.int64) if users is self.users else users.rows(self.users)[self.user]
        item = self.item.astype(np.int64) if items is self.items else items.rows(self.items)[self.item]
        return user, item

    @property
    def mean(self) -> float:
        """The mean of all values. **Raises** DataError without any."""
        if not len(self):
            raise DataError("ratings: there are none to learn from; the table or the fold is empty")
        return float(self.value.mean())

    @functools.cached_property
    def by_user(self) -> Lists:
        """Each user's ratings."""
        return _grouped(self.user, self.item, self.value, len(self.users))

    @functools.cached_property
    def by_item(self) -> Lists:
        """Each item's ratings."""
        return _grouped(self.item, self.user, self.value, len(self.items))

    def knows_user(self, name: object) -> bool:
        """Whether the user has a rating here."""
        row = self.users.rows([str(name)])[0]
        return bool(row >= 0 and self.by_user.count[row])

    def knows_item(self, name: object) -> bool:
        """Whether the item has a rating here."""
        row = self.items.rows([str(name)])[0]
        return bool(row >= 0 and self.by_item.count[row])

    def triples(self) -> Iterator[tuple[str, str, float]]:
        """(user, item, value) with outside ids, in the order of the table."""
        for user, item, value in zip(self.user.tolist(), self.item.tolist(), self.value.tolist(), strict=True):
            yield self.users[user], self.items[item], value

    def unrated(self, users: Iterable[object] | None = None, *, fill: float | None = None) -> Ratings:
        """Every pair of a known user and a known item that is not rated here; `fill` (the mean) stands as its value.

        >>> ratings = Ratings.of(["a", "a", "b"], ["x", "y", "x"], [1, 2, 3])
        >>> list(ratings.unrated().triples())
        [('b', 'y', 2.0)]
        """
        items = np.flatnonzero(self.by_item.count)
        rows = np.flatnonzero(self.by_user.count)
        if users is not None:
            asked = [self.users.row(str(name), what="user") for name in users]
            rows = rows[np.isin(rows, asked)]
        left = [
            np.setdiff1d(items, self.by_user.other[self.by_user.start[u] : self.by_user.start[u + 1]]) for u in rows
        ]
        item = np.concatenate([*left, np.zeros(0, np.int64)]).astype(np.int32)
        user = np.repeat(rows, [len(part) for part in left]).astype(np.int32)
        value = np.full(len(user), self.mean if fill is None else fill, np.float64)
        return replace(self, user=user, item=item, value=value, time=None)


def _grouped(side: NDArray[np.int32], other: NDArray[np.int32], value: Doubles, count: int) -> Lists:
    order = np.lexsort((other, side)).astype(np.int64)
    start = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(side, minlength=count), out=start[1:])
    return Lists(start, np.ascontiguousarray(other[order], np.int32), value[order], order)


def read_ratings(
    path: Path | str, *, columns: str = "user item rating timestamp", separator: str | None = None,
    scale: tuple[float, float] = (1.0, 5.0), skip: int = 0, twice: Twice = "error",
) -> Ratings:  # fmt: skip
    """Ratings from a text file: `columns` names what stands in a line, in order (`_` is passed over).

    `separator` None takes a tab, `::`, a semicolon or a comma, whichever the first line holds. **Raises** DataError for
    a line that has too few fields or a rating that is no number, with its number.
    """
    names = columns.replace(",", " ").split()
    missing = {"user", "item", "rating"} - set(names)
    if missing:
        raise DataError(f"read_ratings: columns={columns!r} names no {', '.join(sorted(missing))}")
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()[skip:]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error})") from None
    lines = [line for line in lines if line.strip()]
    if separator is None:
        first = lines[0] if lines else ""
        separator = next((mark for mark in ("\t", "::", ";", ",") if mark in first), " ")
    rows = csv.reader(lines, delimiter=separator) if len(separator) == 1 else (line.split(separator) for line in lines)
    table: list[list[str]] = []
    for number, row in enumerate(rows, skip + 1):
        if len(row) < len(names):
            raise DataError(f"{path}: line {number} has {len(row)} fields, columns={columns!r} needs {len(names)}")
        table.append(row)
    column = {name: [row[place].strip() for row in table] for place, name in enumerate(names) if name != "_"}
    numbers = {}
    for name in ("rating", "timestamp"):
        if name in column:
            try:
                numbers[name] = np.array([float(text) for text in column[name]], np.float64)
            except ValueError as error:
                raise DataError(
                    f"{path}: a {name} is no number ({error}); skip={skip} header lines were passed over"
                ) from None
    return Ratings.of(
        column["user"], column["item"], numbers["rating"], scale=scale, time=numbers.get("timestamp"), twice=twice
    )
