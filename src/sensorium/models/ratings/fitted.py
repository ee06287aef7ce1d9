"""A fitted method of rating: estimates by ids, what could not be estimated and why, new users and items folded in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.ids import Ids
from sensorium.errors import DataError
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings
from sensorium.plain import load_value, save_value

Guess = tuple[Doubles, NDArray[np.bool_]]  # estimates (N,), and whether the method could make them


class Core(Protocol):
    """What a method has learnt. Rows are those of the ratings it was fitted to; −1 is somebody or something unknown."""

    def estimates(self, user: Rows, item: Rows, ratings: Ratings) -> Guess:
        """**Shapes** user, item (N,) → (N,), (N,). Where nothing could be estimated, the value is not read."""
        ...

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        """Estimates of all items for people who are given by their ratings alone. **Shapes** (B, I)."""
        ...

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> Core:
        """The same for a table that has grown: `users` (new, or with new ratings) and `items` (new) are folded in."""
        ...


class Prediction(NamedTuple):
    """One estimate, by outside ids; `value` is the true rating where it was told."""

    user: str
    item: str
    value: float | None
    estimate: float
    details: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Many estimates beside the true values. **Shapes** (N,) all; `impossible` marks where the mean stands instead."""

    user: Rows
    item: Rows
    value: Doubles
    estimate: Doubles
    impossible: NDArray[np.bool_]
    users: Ids
    items: Ids

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Prediction]:
        for row in range(len(self)):
            yield self[row]

    def __getitem__(self, row: int) -> Prediction:
        return Prediction(
            self.users[self.user[row]], self.items[self.item[row]], float(self.value[row]), float(self.estimate[row]),
            {"was_impossible": bool(self.impossible[row])},
        )  # fmt: skip

    def best(self, k: int = 10) -> dict[str, list[tuple[str, float]]]:
        """The k items with the highest estimate of each user, best first."""
        order = np.lexsort((self.item, -self.estimate, self.user))
        out: dict[str, list[tuple[str, float]]] = {}
        for row in order.tolist():
            mine = out.setdefault(self.users[self.user[row]], [])
            if len(mine) < k:
                mine.append((self.items[self.item[row]], float(self.estimate[row])))
        return out


class Method(Protocol):
    """Settings of a method: a frozen dataclass that is fitted to ratings."""

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel: ...


@dataclass(frozen=True, eq=False)
class RatingModel:
    """A method fitted to `ratings`. `core` is what it has learnt."""

    ratings: Ratings
    core: Any
    mean: float
    settings: Any = field(default=None)

    def predict(
        self, user: object, item: object, value: float | None = None, *, clip: bool = True, time: float | None = None
    ) -> Prediction:
        """The estimate of one pair of outside ids; an id that was never rated is answered too, and `details` says so.

        `time`, in seconds since 1970, is read by methods that know the mood of a day.
        """
        rows = self.ratings.users.rows([str(user)]), self.ratings.items.rows([str(item)])
        guess, impossible = self.estimates(*rows, clip=clip, time=None if time is None else np.array([time]))
        details: dict[str, Any] = {"was_impossible": bool(impossible[0])}
        unknown = [
            what for what, known in (("user", self.ratings.knows_user(user)), ("item", self.ratings.knows_item(item)))
            if not known
        ]  # fmt: skip
        if impossible[0]:
            details["reason"] = f"unknown {' and '.join(unknown)}" if unknown else "too few neighbours"
        if hasattr(self.core, "details") and not unknown:
            details |= self.core.details(int(rows[0][0]), int(rows[1][0]), self.ratings)
        return Prediction(str(user), str(item), value, float(guess[0]), details)

    def estimates(
        self, user: Rows, item: Rows, *, clip: bool = True, time: Doubles | None = None
    ) -> tuple[Doubles, NDArray[np.bool_]]:
        """Estimates by rows (−1 is unknown), and which were impossible. **Shapes** (N,) → (N,), (N,)."""
        user, item = np.asarray(user, np.int64), np.asarray(item, np.int64)
        if getattr(self.core, "knows_silent", False):
            guess, possible = self.core.estimates(user, item, self.ratings, time)
        else:
            user = np.where((user >= 0) & (self.ratings.by_user.count[user] > 0), user, -1)
            item = np.where((item >= 0) & (self.ratings.by_item.count[item] > 0), item, -1)
            guess, possible = self.core.estimates(user, item, self.ratings)
        guess = np.where(possible, guess, self.mean)
        return (np.clip(guess, self.ratings.low, self.ratings.high) if clip else guess), ~possible

    def predictions(self, test: Ratings, *, clip: bool = True) -> Predictions:
        """Estimates of all pairs of a table, whatever its ids. Feed them to `accuracy`."""
        rows = test.on(self.ratings.users, self.ratings.items)
        guess, impossible = self.estimates(*rows, clip=clip, time=test.time)
        return Predictions(
            test.user.astype(np.int64),
            test.item.astype(np.int64),
            test.value,
            guess,
            impossible,
            test.users,
            test.items,
        )

    def folded(self, given: Lists, *, clip: bool = False) -> Doubles:
        """Estimates of all items for people who are given by their ratings (rows of items and values). **Shapes** (B, I)."""
        guess = np.asarray(self.core.folded(given, self.ratings), np.float64)
        return np.clip(guess, self.ratings.low, self.ratings.high) if clip else guess

    def neighbours(self, name: object, k: int = 10) -> list[str]:
        """The k nearest users (or items, where the method compares those), nearest first.

        **Raises** UnknownId for an id that is not known, DataError for a method that has no neighbours.
        """
        if not hasattr(self.core, "nearest"):
            raise DataError(f"{type(self.settings).__name__} compares nobody; neighbours needs Neighbours(…)")
        by_user = self.core.by == "user"
        ids = self.ratings.users if by_user else self.ratings.items
        row = ids.row(str(name), what="user" if by_user else "item")
        return ids.names(self.core.nearest(row, k))

    def extended(self, more: Ratings) -> RatingModel:
        """The same model that knows `more` ratings, of new users, new items, or both, without fitting again.

        Users with new ratings are placed by all of theirs while the items are held; new items by theirs while the users
        are held; whatever else was learnt stays.
        """
        whole = self.ratings.joined(more)
        users = np.unique(whole.users.rows(more.users)[more.user])
        before = np.zeros(len(whole.items), bool)
        before[: len(self.ratings.items)] = self.ratings.by_item.count > 0
        items = np.flatnonzero(~before & (whole.by_item.count > 0))  # an id may have had a row and no rating
        return replace(self, ratings=whole, core=self.core.extended(whole, users, items))

    def save(self, path: Path | str) -> None:
        """Into one file of arrays and plain values; nothing in it is code."""
        save_value(self, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> RatingModel:
        """**Raises** SnapshotError for a file that `save` did not write."""
        return load_value(Path(path), cls)
