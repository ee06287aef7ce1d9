"""What is usual: the mean, how kind a user is, how liked an item is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.models.ratings.fitted import Guess, RatingModel
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings
from sensorium.settings import INF, within


@dataclass(frozen=True)
class Baseline:
    """Mean + user's offset + item's offset, by alternating least squares or by gradient steps.

    `user_l2` and `item_l2` count ratings (als); `l2` and `learning_rate` are of sgd. `epochs` 0 means 10 for als, 20 for sgd.
    **Cost** epochs · N for N ratings. **Source** Y. Koren, "Factor in the neighbors" (2010).
    """

    method: Literal["als", "sgd"] = "als"
    epochs: int = 0
    user_l2: float = 15.0
    item_l2: float = 10.0
    l2: float = 0.02
    learning_rate: float = 0.005

    def __post_init__(self) -> None:
        within(self, epochs=(0, INF), user_l2=(0, INF), item_l2=(0, INF), l2=(0, INF), learning_rate=(0, INF))

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings."""
        return RatingModel(ratings, self.offsets(ratings), ratings.mean, self)

    def offsets(self, ratings: Ratings) -> Offsets:
        """The learnt state alone, for methods that build on it."""
        mean, users, items = ratings.mean, len(ratings.users), len(ratings.items)
        if self.method == "sgd":
            from sensorium.models.ratings.compiled import baseline_sgd

            lists = ratings.by_user
            user, item = np.zeros(users), np.zeros(items)
            baseline_sgd(
                lists.start, lists.other, lists.value, user, item, mean, self.epochs or 20, self.learning_rate, self.l2
            )
            return Offsets(mean, user, item, self)
        residual = ratings.value - mean
        user, item = np.zeros(users), np.zeros(items)
        user_count, item_count = ratings.by_user.count, ratings.by_item.count
        for _ in range(self.epochs or 10):
            item = _shrunk(ratings.item, residual - user[ratings.user], item_count, self.item_l2)
            user = _shrunk(ratings.user, residual - item[ratings.item], user_count, self.user_l2)
        return Offsets(mean, user, item, self)


def _shrunk(row: NDArray[np.integer], left: Doubles, count: Rows, l2: float) -> Doubles:
    return np.bincount(row, left, len(count)) / np.maximum(l2 + count, 1e-12)


@dataclass(frozen=True, eq=False)
class Offsets:
    """**Shapes** user (U,), item (I,)."""

    mean: float
    user: Doubles
    item: Doubles
    settings: Baseline

    def estimates(self, user: Rows, item: Rows, ratings: Ratings) -> Guess:
        """An unknown user or item counts nothing."""
        return self.at(user, item), np.ones(len(user), bool)

    def at(self, user: Rows, item: Rows) -> Doubles:
        """**Shapes** (N,) → (N,); −1 is unknown."""
        return self.mean + np.where(user >= 0, self.user[user], 0) + np.where(item >= 0, self.item[item], 0)

    def user_offsets(self, given: Lists) -> Doubles:
        """The offsets of people given by their ratings, the items held. **Shapes** (B,)."""
        row = np.repeat(np.arange(len(given)), given.count)
        left = given.value - self.mean - self.item[given.other]
        if self.settings.method == "als":
            return _shrunk(row, left, given.count, self.settings.user_l2)
        return _walked(row, left, given.count, self.settings)

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        return self.mean + self.user_offsets(given)[:, None] + self.item[None, :]

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> Offsets:
        grown = replace(
            self, user=np.pad(self.user, (0, len(ratings.users) - len(self.user))),
            item=np.pad(self.item, (0, len(ratings.items) - len(self.item))),
        )  # fmt: skip
        grown.user[users] = grown.user_offsets(ratings.by_user)[users]
        lists = ratings.by_item
        row = np.repeat(np.arange(len(lists)), lists.count)
        left = lists.value - self.mean - grown.user[lists.other]
        if self.settings.method == "als":
            grown.item[items] = _shrunk(row, left, lists.count, self.settings.item_l2)[items]
        else:
            grown.item[items] = _walked(row, left, lists.count, self.settings)[items]
        return grown


def _walked(row: Rows, left: Doubles, count: Rows, settings: Baseline) -> Doubles:
    """Where the steps of sgd arrive, each one going to the mean of what is left: a geometric approach, in closed form."""
    total = np.bincount(row, left, len(count))
    goal = total / np.maximum(count, 1) / (1 + settings.l2)
    steps = (settings.epochs or 20) * count
    return goal * (1 - (1 - settings.learning_rate * (1 + settings.l2)) ** steps)
