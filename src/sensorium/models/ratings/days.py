"""The mood of a day: how much kinder than usual a user rates on one date."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Rows
from sensorium.models.ratings.ratings import Doubles, Ratings

DAY = 86_400.0  # seconds


@dataclass(frozen=True, eq=False)
class Days:
    """**Shapes** keys (G,): user · 2³² + day, ascending; place (N,): the group of each rating."""

    keys: Rows
    place: Rows

    @classmethod
    def of(cls, ratings: Ratings) -> Days:
        assert ratings.time is not None
        keys, place = np.unique((ratings.user.astype(np.int64) << 32) + np.floor(ratings.time / DAY).astype(np.int64),
                                return_inverse=True)  # fmt: skip
        return cls(keys, place)

    @classmethod
    def none(cls) -> Days:
        """No times are known."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    def each(self, mood: Doubles) -> Doubles | float:
        """What the day adds to each rating (N,)."""
        return mood[self.place] if len(self) else 0.0

    def drawn(self, left: Doubles, noise: float, precision: float, rng: np.random.Generator) -> tuple[Doubles, float]:
        """Moods (G,) from what is left of each rating (N,), and the precision of their prior, both sampled."""
        sure = precision + noise * np.bincount(self.place, minlength=len(self))
        mood = noise * np.bincount(self.place, left, len(self)) / sure + rng.normal(size=len(self)) / np.sqrt(sure)
        return mood, float(rng.gamma(0.5 * (2 + len(self))) / (0.5 * (0.2 + mood @ mood)))
