"""Slope One: an item is rated as much above another as it was by those who rated both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.errors import DataError
from sensorium.models.ratings.fitted import Guess, RatingModel
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings
from sensorium.models.ratings.threads import spread

MOST = 40_000  # items: two tables of 6 GB


@dataclass(frozen=True)
class SlopeOne:
    """The user's mean plus the mean difference of the item to what they rated.

    **Cost** Σ over users of the squared number of ratings, I² memory. **Source** D. Lemire, A. Maclachlan, "Slope One
    predictors for online rating-based collaborative filtering" (2005).
    """

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings, or for more items than can be compared."""
        if len(ratings.items) > MOST:
            raise DataError(f"slope one: {len(ratings.items):,} items are more than {MOST:,}; take svd")
        return RatingModel(ratings, SlopeCore.of(ratings), ratings.mean, self)


@dataclass(frozen=True, eq=False)
class SlopeCore:
    """**Shapes** apart (I, I): mean of value row − value column; both (I, I): how many rated the two."""

    apart: Floats
    both: Floats
    mean: float

    @classmethod
    def of(cls, ratings: Ratings) -> SlopeCore:
        from sensorium.models.ratings.slopeone_loop import add_differences

        items, lists = len(ratings.items), ratings.by_user
        total, both = np.zeros((items, items), np.float32), np.zeros((items, items), np.float32)
        add_differences(lists.start, lists.other, lists.value, total, both)
        return cls((total / np.maximum(both, 1)).astype(np.float32), both, ratings.mean)

    def _guess(self, row: Rows, item: Rows, lists: Lists) -> Doubles:
        from sensorium.models.ratings.slopeone_loop import slopes

        out = np.zeros(len(item))
        spread(slopes, len(item), row, item, lists.start, lists.other, self.apart, self.both, out)
        place = np.repeat(np.arange(len(lists)), lists.count)
        mean = np.bincount(place, lists.value, len(lists)) / np.maximum(lists.count, 1)
        return np.where(lists.count > 0, mean, self.mean)[row] + out if len(lists) else out

    def estimates(self, user: Rows, item: Rows, ratings: Ratings) -> Guess:
        return self._guess(user, item, ratings.by_user), (user >= 0) & (item >= 0)

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        """Nothing need be learnt: the differences are the items', the mean is the newcomer's."""
        items = len(ratings.items)
        row, column = np.repeat(np.arange(len(given)), items), np.tile(np.arange(items), len(given))
        return self._guess(row, column, given).reshape(len(given), items)

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> SlopeCore:
        """The differences are sums, so they are simply taken again: exact, and as quick as one pass."""
        return SlopeCore.of(ratings)
