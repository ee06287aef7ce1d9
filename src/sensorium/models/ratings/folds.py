"""Ways of dividing a table of ratings into what is learnt from and what is foretold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sensorium.errors import DataError
from sensorium.models.ratings.ratings import Ratings, read_ratings

Parted = Iterator[tuple[Ratings, Ratings]]


class Folds(Protocol):
    """Every way of dividing gives pairs of (learnt from, foretold); the same seed gives the same pairs."""

    def split(self, ratings: Ratings) -> Parted: ...


@dataclass(frozen=True)
class KFold:
    """Every rating is foretold once. **Raises** DataError for fewer ratings than folds.

    >>> ratings = Ratings.of(list("aabbcc"), list("xyxyxy"), [1, 2, 3, 4, 5, 1])
    >>> [(len(train), len(test)) for train, test in KFold(3).split(ratings)]
    [(4, 2), (4, 2), (4, 2)]
    """

    folds: int = 5
    seed: int = 0
    shuffle: bool = True

    def split(self, ratings: Ratings) -> Parted:
        if not 2 <= self.folds <= len(ratings):
            raise DataError(f"KFold: {self.folds} folds of {len(ratings)} ratings; give from 2 to {len(ratings)}")
        order = np.arange(len(ratings))
        if self.shuffle:
            order = np.random.default_rng(self.seed).permutation(order)
        for part in np.array_split(order, self.folds):
            held = np.zeros(len(ratings), bool)
            held[part] = True
            yield ratings.take(~held), ratings.take(np.sort(part))


@dataclass(frozen=True)
class RepeatedKFold:
    """`KFold` several times over, each time shuffled anew."""

    folds: int = 5
    repeats: int = 10
    seed: int = 0

    def split(self, ratings: Ratings) -> Parted:
        seeds = np.random.default_rng(self.seed).integers(2**31, size=self.repeats)
        for seed in seeds.tolist():
            yield from KFold(self.folds, seed).split(ratings)


@dataclass(frozen=True)
class ShuffleSplit:
    """`folds` independent draws of a test part; a share below 1, or a whole number of ratings."""

    folds: int = 5
    test: float = 0.2
    train: float | None = None
    seed: int = 0
    shuffle: bool = True

    def split(self, ratings: Ratings) -> Parted:
        count = len(ratings)
        test = _sized(self.test, count, np.ceil, "test")
        train = count - test if self.train is None else _sized(self.train, count, np.floor, "train")
        if test < 1 or train < 1 or test + train > count:
            raise DataError(f"ShuffleSplit: {train} to learn from and {test} to foretell do not fit in {count} ratings")
        rng = np.random.default_rng(self.seed)
        for _ in range(self.folds):
            order = rng.permutation(count) if self.shuffle else np.arange(count)
            # Without shuffling the last ratings of the table are foretold.
            yield ratings.take(np.sort(order[:train])), ratings.take(np.sort(order[count - test :]))


def _sized(size: float, count: int, rounded: Any, what: str) -> int:
    if isinstance(size, bool) or not size > 0 or (size >= 1 and size != int(size)):
        raise DataError(f"ShuffleSplit: {what} = {size!r} should be a share below 1 or a whole number of ratings")
    return int(rounded(size * count)) if size < 1 else int(size)


@dataclass(frozen=True)
class LeaveOneOut:
    """One rating of every user is foretold; users with at most `least` ratings are left out of both parts."""

    folds: int = 5
    least: int = 0
    seed: int = 0

    def split(self, ratings: Ratings) -> Parted:
        lists = ratings.by_user
        users = np.flatnonzero(lists.count > self.least)
        if not len(users):
            raise DataError(f"LeaveOneOut: no user has more than {self.least} ratings; give a lower `least`")
        among = np.zeros(len(lists), bool)
        among[users] = True
        rng = np.random.default_rng(self.seed)
        for _ in range(self.folds):
            chosen = lists.order[lists.start[users] + rng.integers(0, lists.count[users])]
            held = np.zeros(len(ratings), bool)
            held[chosen] = True
            yield ratings.take(among[ratings.user] & ~held), ratings.take(np.sort(chosen))


@dataclass(frozen=True)
class PredefinedKFold:
    """Pairs that were divided already: `PredefinedKFold.read([("u1.base", "u1.test"), …])`."""

    pairs: tuple[tuple[Ratings, Ratings], ...]

    @classmethod
    def read(cls, files: Sequence[tuple[Path | str, Path | str]], **how: Any) -> PredefinedKFold:
        """The files of each fold; `how` is what `read_ratings` takes."""
        return cls(tuple((read_ratings(train, **how), read_ratings(test, **how)) for train, test in files))

    def split(self, ratings: Ratings | None = None) -> Parted:
        if not self.pairs:
            raise DataError("PredefinedKFold: there are no folds; give at least one pair of tables")
        yield from self.pairs


def divided(ratings: Ratings, test: float = 0.2, *, seed: int = 0, shuffle: bool = True) -> tuple[Ratings, Ratings]:
    """One random division: (learnt from, foretold)."""
    return next(ShuffleSplit(1, test, None, seed, shuffle).split(ratings))


def rescaled(ratings: Ratings, low: float, high: float) -> Ratings:
    """The same ratings on another scale, moved linearly: 1–10 becomes 1–5."""
    value = low + (ratings.value - ratings.low) * (high - low) / (ratings.high - ratings.low)
    return replace(ratings, value=value, low=low, high=high).checked()
