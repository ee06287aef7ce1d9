"""The least one can do: a draw from the distribution of all ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Rows
from sensorium.models.ratings.fitted import Guess, RatingModel
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings


@dataclass(frozen=True)
class Normal:
    """A normal draw with the mean and deviation of the ratings; the same pair always gets the same draw."""

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings."""
        seed = int((rng or np.random.default_rng(0)).integers(2**31))
        return RatingModel(ratings, NormalCore(ratings.mean, float(ratings.value.std()), seed), ratings.mean, self)


@dataclass(frozen=True)
class NormalCore:
    """A draw is a hash of seed and pair, so neither the order of questions nor threads change it."""

    mean: float
    deviation: float
    seed: int

    def estimates(self, user: Rows, item: Rows, ratings: Ratings) -> Guess:
        return self.mean + self.deviation * self._draws(user, item), np.ones(len(user), bool)

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        """Somebody who is known by ratings alone gets the draws of the unknown user."""
        items = np.arange(len(ratings.items))
        line = self.mean + self.deviation * self._draws(np.full(len(items), -1), items)
        return np.repeat(line[None], len(given), 0)

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> NormalCore:
        return self

    def _draws(self, user: Rows, item: Rows) -> Doubles:
        from scipy.special import ndtri

        with np.errstate(over="ignore"):  # whole numbers that wrap around are what mixes them
            key = (user.astype(np.uint64) << np.uint64(32)) ^ (item.astype(np.uint64) & np.uint64(0xFFFFFFFF))
            key = key + np.uint64(self.seed) * np.uint64(0x9E3779B97F4A7C15)
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
            key ^= key >> np.uint64(31)
        return np.asarray(ndtri(((key >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53), np.float64)
