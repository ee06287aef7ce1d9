"""What people did, in the order of time, and the histories that models read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.vectors import Vectors
from sensorium.errors import ShapeError

KINDS: Mapping[str, float] = {
    "view": 1.0, "click": 1.0, "play": 1.0, "listen": 1.0, "cart": 3.0, "like": 3.0, "share": 3.0, "buy": 5.0,
    "rating": 1.0, "review": 1.0, "skip": -1.0, "dislike": -1.0, "hide": -1.0,
}  # fmt: skip
"""How much one event of a kind says; below zero it speaks against the item. A rating's weight also moves with its value."""
RATED = ("rating", "review", "rate")  # kinds whose value is a rating, with which their weight moves


@dataclass(frozen=True, eq=False)
class Events:
    """Columns of equal length, sorted by time (ties keep the order of the file).

    **Shapes** every column (E,). `weight` is the strength after preparation: the weight of the kind, and for a rating
    1 + (value − the person's mean) ÷ half the scale. `time` counts seconds since 1970, or, where the file has no
    times (`timed` is False), the place in the file. `users`, `items`: how many rows there are of each.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    kind: NDArray[np.int16]  # a place in `kinds`
    value: Floats  # a rating, a quantity, seconds watched; NaN where the file says nothing
    weight: Floats
    time: NDArray[np.float64]
    users: int
    items: int
    kinds: tuple[str, ...] = ("view",)
    timed: bool = True
    text: NDArray[np.object_] | None = None  # the words of a review, None where there are none
    review: NDArray[np.int32] | None = None  # their row in the table of review vectors (Features.reviews), −1: none
    logged: NDArray[np.int64] | None = None  # the position in the feedback log, 0: from a table; None: all are

    def __post_init__(self) -> None:
        for name in ("item", "kind", "value", "weight", "time"):
            if getattr(self, name).shape != self.user.shape:
                raise ShapeError(f"events: column {name} has {len(getattr(self, name))} rows, user {len(self.user)}")

    @classmethod
    def of(
        cls, user: Sequence[int], item: Sequence[int], *, users: int, items: int,
        time: Sequence[float] | None = None, weight: Sequence[float] | None = None, kind: Sequence[int] | None = None,
        kinds: tuple[str, ...] = ("view",), value: Sequence[float] | None = None,
    ) -> Events:  # fmt: skip
        """Events from plain columns, sorted by time; what is left out takes the plainest value."""
        count = len(user)
        moments = np.arange(count, dtype=np.float64) if time is None else np.asarray(time, np.float64)
        order = np.argsort(moments, kind="stable")
        kind_column = np.zeros(count, np.int16) if kind is None else np.asarray(kind, np.int16)
        usual = np.array([KINDS.get(k, 1.0) for k in kinds], np.float32)[kind_column]
        weights = usual if weight is None else np.asarray(weight, np.float32)
        values = np.full(count, np.nan, np.float32) if value is None else np.asarray(value, np.float32)
        return cls(
            user=np.asarray(user, np.int32)[order], item=np.asarray(item, np.int32)[order], kind=kind_column[order],
            value=values[order], weight=weights[order], time=moments[order], users=users,
            items=items, kinds=kinds, timed=time is not None,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: NDArray[np.bool_] | Rows) -> Events:
        """Some of the events, by mask or by ascending places; the counts of people and items stay."""
        text = None if self.text is None else self.text[chosen]
        review = None if self.review is None else self.review[chosen]
        logged = None if self.logged is None else self.logged[chosen]
        columns = {name: getattr(self, name)[chosen] for name in ("user", "item", "kind", "value", "weight", "time")}
        return replace(self, text=text, review=review, logged=logged, **columns)

    def resized(self, users: int, items: int) -> Events:
        """The same events in a world with more people and items."""
        return replace(self, users=users, items=items)

    def merged(self, later: Events) -> Events:
        """These events and `later`, sorted by time again; kinds are united by name."""
        kinds = (*self.kinds, *(kind for kind in later.kinds if kind not in self.kinds))
        moved = np.array([kinds.index(kind) for kind in later.kinds] or [0], np.int16)[later.kind]
        time = np.concatenate([self.time, later.time])
        order = np.argsort(time, kind="stable")
        text = None
        if self.text is not None or later.text is not None:
            texts = [e.text if e.text is not None else np.full(len(e), None, object) for e in (self, later)]
            text = np.concatenate(texts)[order]
        review = None
        if self.review is not None or later.review is not None:
            rows = [e.review if e.review is not None else np.full(len(e), -1, np.int32) for e in (self, later)]
            review = np.concatenate(rows)[order]
        logged = None
        if self.logged is not None or later.logged is not None:
            places = [e.logged if e.logged is not None else np.zeros(len(e), np.int64) for e in (self, later)]
            logged = np.concatenate(places)[order]
        return Events(
            user=np.concatenate([self.user, later.user])[order], item=np.concatenate([self.item, later.item])[order],
            kind=np.concatenate([self.kind, moved])[order], value=np.concatenate([self.value, later.value])[order],
            weight=np.concatenate([self.weight, later.weight])[order], time=time[order],
            users=max(self.users, later.users), items=max(self.items, later.items), kinds=kinds,
            timed=self.timed and later.timed, text=text, review=review, logged=logged,
        )  # fmt: skip

    @cached_property
    def _by_person(self) -> tuple[Rows, Rows, Rows]:
        """The order by person, and in time within a person (E,); how many events each has (U,), and where they start."""
        counts = np.bincount(self.user, minlength=self.users) if len(self) else np.zeros(self.users, np.int64)
        # Person and place in one number: a plain sort of it is stable, and four times as fast as a stable one.
        key = self.user.astype(np.int64) << 32
        key |= np.arange(len(self))
        key.sort()
        key &= 0xFFFFFFFF
        return key, counts, np.concatenate([[0], np.cumsum(counts)])

    def histories(self, users: Sequence[int] | Rows, people: Vectors | None = None) -> Histories:
        """The histories of some people, in that order; a row of −1, or a person without events, gets an empty one."""
        users = np.asarray(users, np.int64)
        order, counts, starts = self._by_person
        known = (users >= 0) & (users < self.users)
        begin = np.where(known, starts[np.where(known, users, 0)], 0)
        length = np.where(known, counts[np.where(known, users, 0)], 0) if self.users else np.zeros(len(users), int)
        start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        place = order[np.arange(start[-1]) - np.repeat(start[:-1] - begin, length)]
        now = np.full(len(users), self.time[-1] if len(self) else 0.0)
        has = length > 0
        now[has] = self.time[place[start[1:][has] - 1]]
        profile = None
        if people is not None:
            inside = (users >= 0) & (users < len(people))
            profile = np.where(inside[:, None], people.values[np.where(inside, users, 0)], np.float32(0))
        return Histories(
            start=start, item=self.item[place], kind=self.kind[place], weight=self.weight[place],
            time=self.time[place], now=now, kinds=self.kinds, user=users, profile=profile, timed=self.timed,
            review=None if self.review is None else self.review[place],
        )  # fmt: skip

    def matrix(self, strength: float = 0.0) -> sparse.csr_array:
        """Who did something with what, as (U, I) float32: the strongest event of each pair.

        An event for an item counts 1 + strength·(weight − 1), an event of a negative *kind* counts its weight, so that
        strength 0 is the plain 0/1 matrix (with −1 for what was skipped) and strength 1 takes the weights as they are.
        """
        return _strongest(self.user, self.item, confidence(self, strength), (self.users, self.items))


@dataclass(frozen=True, eq=False)
class Histories:
    """A batch of histories, one after the other: history b is `slice(start[b], start[b + 1])`, oldest event first.

    **Shapes** start (B + 1,), the event columns (N,), now (B,), profile (B, P) or None.
    `now` is the moment asked for: the last event of the history unless the caller knows better. `user` is only for
    reports; models must not read it (a person is their history). −1 is a stranger.
    """

    start: Rows
    item: NDArray[np.int32]
    kind: NDArray[np.int16]
    weight: Floats
    time: NDArray[np.float64]
    now: NDArray[np.float64]
    kinds: tuple[str, ...] = ("view",)
    user: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    profile: Floats | None = None
    timed: bool = True
    review: NDArray[np.int32] | None = None  # (N,), see Events.review

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def row(self) -> Rows:
        """For each event, the history it belongs to (N,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    @property
    def back(self) -> Rows:
        """For each event, how many steps before the end of its history it stands; the newest is 0 (N,)."""
        return np.repeat(self.start[1:], np.diff(self.start)) - 1 - np.arange(len(self.item))

    def take(self, rows: Sequence[int] | Rows) -> Histories:
        """Some of the histories, in that order."""
        rows = np.asarray(rows, np.int64)
        length = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        place = np.arange(start[-1]) + np.repeat(self.start[:-1][rows] - start[:-1], length)
        return replace(
            self, start=start, item=self.item[place], kind=self.kind[place], weight=self.weight[place],
            time=self.time[place], now=self.now[rows], user=self.user[rows] if len(self.user) else self.user,
            profile=None if self.profile is None else self.profile[rows],
            review=None if self.review is None else self.review[place],
        )  # fmt: skip

    def only(self, keep: NDArray[np.bool_]) -> Histories:
        """The same histories with only the events that `keep` (N,) marks."""
        counts = np.zeros(len(self), np.int64)
        np.add.at(counts, self.row[keep], 1)
        columns = {name: getattr(self, name)[keep] for name in ("item", "kind", "weight", "time")}
        columns["review"] = None if self.review is None else self.review[keep]
        return replace(self, start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), **columns)

    def last(self, count: int) -> Histories:
        """The newest `count` events of each history."""
        return self.only(self.back < count)

    def matrix(self, items: int, *, decay: float = 1.0, strength: float = 0.0) -> sparse.csr_array:
        """(B, I) float32; an event `k` steps before the end counts `decay**k` times its confidence (see Events.matrix)."""
        values = confidence(self, strength) * np.float32(decay) ** self.back.astype(np.float32)
        return _strongest(self.row, self.item, values, (len(self), items))


@dataclass(frozen=True, eq=False)
class Fold:
    """What may be learnt from and what must be foretold: the one form of every split.

    `held_out` holds the targets: its people are asked, with their histories from `train`. `candidates` are the item
    rows that are ranked (None: all). For a split by item they are the cold items.
    """

    train: Events
    held_out: Events
    candidates: Rows | None = None


def confidence(events: Events | Histories, strength: float) -> Floats:
    """How much each event speaks for its item, in float32 (see Events.matrix)."""
    negative, moves = _ways(events.kinds)
    # Only a rating may weigh below zero and yet be a positive kind; another kind does where a recipe says so.
    against = negative[events.kind] | (~moves[events.kind] & (events.weight < 0))
    if strength == 0 and not against.any():
        return np.ones(len(against), np.float32)
    return np.where(against, events.weight, 1 + np.float32(strength) * (events.weight - 1)).astype(np.float32)


@lru_cache(maxsize=64)
def _ways(kinds: tuple[str, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which kinds speak against an item, and which are ratings."""
    return (
        np.array([KINDS.get(kind, 1.0) < 0 for kind in kinds] or [False]),
        np.array([kind in RATED for kind in kinds] or [False]),
    )


def _strongest(row: NDArray, column: NDArray, values: Floats, shape: tuple[int, int]) -> sparse.csr_array:
    """A sparse matrix that keeps, of several values in one cell, the one furthest from zero."""
    order = np.lexsort((np.abs(values), column, row))
    row, column, values = row[order], column[order], values[order]
    last = np.ones(len(row), bool)
    last[:-1] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
    matrix = sparse.csr_array((values[last], (row[last], column[last])), shape=shape, dtype=np.float32)
    matrix.sort_indices()
    return matrix
