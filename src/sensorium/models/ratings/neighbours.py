"""Estimates from the ratings of those who rate alike: k nearest users, or k nearest items."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.errors import DataError
from sensorium.models.ratings.baseline import Baseline, Offsets
from sensorium.models.ratings.factors import picked
from sensorium.models.ratings.fitted import Guess, RatingModel
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings
from sensorium.models.ratings.threads import spread
from sensorium.settings import INF, within

Centre = Literal["none", "mean", "zscore", "baseline"]
Similarity = Literal["cosine", "msd", "pearson", "pearson_baseline"]
MOST = 60_000  # rows of a table of likeness: 14 GB


@dataclass(frozen=True)
class Neighbours:
    """The weighted mean rating of the k most alike, around a centre: nothing, a mean, mean and deviation, or the baseline.

    Only positive likeness counts. `least` neighbours must be found, or the centre alone stands (with no centre, the
    estimate is impossible). `support`: how many ratings two must have in common; `shrinkage` is of pearson_baseline.
    **Cost** Σ over users (or items) of the squared number of ratings, X² memory. **Source** Y. Koren, "Factor in the
    neighbors" (2010); B. Sarwar et al., "Item-based collaborative filtering" (2001).
    """

    k: int = 40
    least: int = 1
    centre: Centre = "none"
    similarity: Similarity = "msd"
    by: Literal["user", "item"] = "user"
    support: int = 1
    shrinkage: float = 100.0
    baseline: Baseline = field(default_factory=Baseline)

    def __post_init__(self) -> None:
        within(self, k=(1, INF), least=(0, INF), support=(1, INF), shrinkage=(0, INF))

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings, or for more rows than can be compared."""
        mean = ratings.mean
        count = len(ratings.users if self.by == "user" else ratings.items)
        if count > MOST:
            instead = "item" if self.by == "user" else "user"
            raise DataError(
                f"neighbours: comparing {count:,} {self.by}s takes {4e-9 * count**2:.0f} GB; give by={instead!r}, or take svd"
            )
        wanted = self.centre == "baseline" or self.similarity == "pearson_baseline"
        offsets = self.baseline.offsets(ratings) if wanted else None
        core = NeighbourCore(self.by, count, np.zeros((0, 0), np.float32), offsets, mean, self)
        own, other = core.sides(ratings)
        likeness = core.alike(own, core._own if wanted else None, other)
        return RatingModel(ratings, replace(core, likeness=likeness), mean, self)


@dataclass(frozen=True, eq=False)
class NeighbourCore:
    """**Shapes** likeness (X, X) of the X = `rows` users or items."""

    by: str
    rows: int
    likeness: Floats
    offsets: Offsets | None
    mean: float
    settings: Neighbours

    def sides(self, ratings: Ratings) -> tuple[Lists, Lists]:
        """The ratings by what is compared, and by the other side."""
        return (ratings.by_user, ratings.by_item) if self.by == "user" else (ratings.by_item, ratings.by_user)

    def alike(self, own: Lists, own_offset: Doubles | None, other: Lists) -> Floats:
        """Likeness of some lists to all rows that `other` speaks of, `own_offset` the lists' baselines. **Shapes** (B, X)."""
        from sensorium.models.ratings.likeness import COSINE, MSD, PEARSON, likeness_rows

        settings = self.settings
        measure = {"cosine": COSINE, "msd": MSD}.get(settings.similarity, PEARSON)
        mine, theirs, shrinkage, count = own.value, other.value, -1.0, self.rows
        if settings.similarity == "pearson_baseline":
            assert own_offset is not None
            mine, theirs = self._left(own, own_offset, self._other), self._left(other, self._other, self._own)
            shrinkage = settings.shrinkage
        out = np.zeros((len(own), count), np.float32)

        def rows(begin: int, end: int) -> None:
            likeness_rows(
                begin, end, own.start, own.other, mine, other.start, other.other, theirs, measure, settings.support,
                shrinkage, out[begin:end],
            )  # fmt: skip

        spread(rows, len(own))
        return out

    @property
    def _own(self) -> Doubles:
        """The baseline offsets of what is compared."""
        assert self.offsets is not None
        return self.offsets.user if self.by == "user" else self.offsets.item

    @property
    def _other(self) -> Doubles:
        assert self.offsets is not None
        return self.offsets.item if self.by == "user" else self.offsets.user

    def _left(self, lists: Lists, row_offset: Doubles, other_offset: Doubles) -> Doubles:
        """Values less their baseline."""
        row = np.repeat(np.arange(len(lists)), lists.count)
        return lists.value - self.mean - row_offset[row] - other_offset[lists.other]

    def _centres(self, own: Lists) -> tuple[Doubles, Doubles]:
        """The mean and the deviation of each list (1 where the method uses none)."""
        count = np.maximum(own.count, 1)
        row = np.repeat(np.arange(len(own)), own.count)
        centre = np.bincount(row, own.value, len(own)) / count
        if self.settings.centre != "zscore":
            return centre, np.ones(len(own))
        deviation = np.sqrt(np.bincount(row, (own.value - centre[row]) ** 2, len(own)) / count)
        overall = float(np.sqrt(((own.value - own.value.mean()) ** 2).mean())) if len(own.value) else 1.0
        return centre, np.where(deviation > 0, deviation, overall or 1.0)

    def _worth(self, own: Lists, other: Lists) -> Doubles:
        """What each entry of `other` says: its value, or how far it is from its own list's centre."""
        match self.settings.centre:
            case "none":
                return other.value
            case "baseline":
                return self._left(other, self._other, self._own)
        centre, deviation = self._centres(own)
        return (other.value - centre[other.other]) / deviation[other.other]

    def estimates(self, user: Rows, item: Rows, ratings: Ratings) -> Guess:
        own, other = self.sides(ratings)
        asked, among = (user, item) if self.by == "user" else (item, user)
        near, found = self._near(asked, among, self.likeness, other, self._worth(own, other))
        known = (user >= 0) & (item >= 0)
        match self.settings.centre:
            case "none":
                return near, known & (found >= max(self.settings.least, 1))
            case "baseline":
                assert self.offsets is not None
                return self.offsets.at(user, item) + near, np.ones(len(user), bool)
        centre, deviation = self._centres(own)
        return centre[asked] + deviation[asked] * near, known

    def _near(self, asked: Rows, among: Rows, likeness: Floats, other: Lists, worth: Doubles) -> tuple[Doubles, Rows]:
        from sensorium.models.ratings.likeness import near_means

        out, found = np.zeros(len(asked)), np.zeros(len(asked), np.int64)
        spread(
            near_means, len(asked), asked, among, likeness, other.start, other.other, worth,
            min(self.settings.k, max(likeness.shape[1], 1)), self.settings.least, out, found,
        )  # fmt: skip
        return out, found

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        """By users the newcomers are compared with all users; by items their own ratings are the neighbourhood."""
        people, items = len(given), len(ratings.items)
        own, other = self.sides(ratings)
        offset = self.offsets.user_offsets(given) if self.offsets is not None else None
        row, column = np.repeat(np.arange(people), items), np.tile(np.arange(items), people)
        if self.by == "user":
            near, found = self._near(row, column, self.alike(given, offset, other), other, self._worth(own, other))
            centre, deviation = self._centres(given)
            place, known = row, given.count[row] > 0
        else:
            if self.settings.centre == "baseline":
                assert offset is not None
                worth = self._left(given, offset, self._own)
            else:
                worth = self._worth(own, given)
            near, found = self._near(column, row, self.likeness, given, worth)
            centre, deviation = self._centres(own)
            place, known = column, own.count[column] > 0
        match self.settings.centre:
            case "none":
                guess = np.where(found >= max(self.settings.least, 1), near, self.mean)
            case "baseline":
                assert self.offsets is not None
                assert offset is not None
                guess = self.mean + offset[row] + self.offsets.item[column] + near
            case _:
                guess = np.where(known, centre[place] + deviation[place] * near, self.mean)
        return guess.reshape(people, items)

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> NeighbourCore:
        """Whoever has new ratings is compared with everybody anew; the likeness of the others stays."""
        offsets = None if self.offsets is None else self.offsets.extended(ratings, users, items)
        own, other = self.sides(ratings)
        grown = replace(self, offsets=offsets, rows=len(own))
        # An item that was rated by somebody new is moved too, and so is a user who rated a new item.
        moved = users if self.by == "user" else np.unique(ratings.item[np.isin(ratings.user, users)]).astype(np.int64)
        likeness = np.zeros((len(own), len(own)), np.float32)
        likeness[: self.rows, : self.rows] = self.likeness
        rows = grown.alike(picked(own, moved), None if offsets is None else grown._own[moved], other)
        likeness[moved] = rows
        likeness[:, moved] = rows.T
        return replace(grown, likeness=likeness)

    def nearest(self, row: int, k: int) -> Rows:
        """The rows most alike, most first; equal ones by row. Likeness below zero stands at the end."""
        line = self.likeness[row].astype(np.float64)
        line[row] = -np.inf
        order = np.argsort(-line, kind="stable")
        return order[: min(k, len(line) - 1)]

    def details(self, user: int, item: int, ratings: Ratings) -> dict[str, Any]:
        """How many neighbours an estimate has."""
        other = self.sides(ratings)[1]
        asked, among = (user, item) if self.by == "user" else (item, user)
        found = self._near(np.array([asked]), np.array([among]), self.likeness, other, other.value)[1]
        return {"actual_k": int(found[0])}
