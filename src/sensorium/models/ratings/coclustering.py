"""Co-clustering: users and items in groups, a rating what the two groups and the two means say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.models.ratings.fitted import Guess, RatingModel
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings
from sensorium.settings import INF, within


@dataclass(frozen=True)
class CoClustering:
    """Mean of the two clusters + (user's mean − its cluster's) + (item's mean − its cluster's), by alternating assignment.

    **Cost** epochs · N · clusters. **Source** T. George, S. Merugu, "A scalable collaborative filtering framework based on
    co-clustering" (2005).
    """

    user_clusters: int = 3
    item_clusters: int = 3
    epochs: int = 20

    def __post_init__(self) -> None:
        within(self, user_clusters=(1, INF), item_clusters=(1, INF), epochs=(0, INF))

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings."""
        mean, rng = ratings.mean, rng or np.random.default_rng(0)
        user = rng.integers(0, self.user_clusters, len(ratings.users))
        item = rng.integers(0, self.item_clusters, len(ratings.items))
        core = _averaged(self, ratings, user, item)
        for _ in range(self.epochs):
            user = core.user_groups(ratings.by_user, item)
            item = core.item_groups(ratings.by_item, user)
            core = _averaged(self, ratings, user, item)
        return RatingModel(ratings, core, mean, self)


def _means(row: NDArray[np.integer], value: Doubles, count: int, usual: float) -> Doubles:
    many = np.bincount(row, minlength=count)
    return np.where(many > 0, np.bincount(row, value, count) / np.maximum(many, 1), usual)


def _averaged(settings: CoClustering, ratings: Ratings, user: Rows, item: Rows) -> Clusters:
    """What the clusters say: the mean of all stands for an empty one."""
    mean = ratings.mean
    groups, things = settings.user_clusters, settings.item_clusters
    u, i, value = user[ratings.user], item[ratings.item], ratings.value
    return Clusters(
        mean, user, item, _means(ratings.user, value, len(user), mean), _means(ratings.item, value, len(item), mean),
        _means(u, value, groups, mean), _means(i, value, things, mean),
        _means(u * things + i, value, groups * things, mean).reshape(groups, things),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Clusters:
    """**Shapes** user, user_mean (U,), item, item_mean (I,), user_cluster (G,), item_cluster (H,), both (G, H)."""

    mean: float
    user: Rows
    item: Rows
    user_mean: Doubles
    item_mean: Doubles
    user_cluster: Doubles
    item_cluster: Doubles
    both: Doubles

    def user_groups(self, lists: Lists, item: Rows, mean: Doubles | None = None) -> Rows:
        """The cluster in which each list errs least (B,)."""
        mean = self.user_mean if mean is None else mean
        base = self.both[:, item] - self.user_cluster[:, None] + (self.item_mean - self.item_cluster[item])[None, :]
        return _least(lists, mean, base)

    def item_groups(self, lists: Lists, user: Rows, mean: Doubles | None = None) -> Rows:
        mean = self.item_mean if mean is None else mean
        base = self.both.T[:, user] - self.item_cluster[:, None] + (self.user_mean - self.user_cluster[user])[None, :]
        return _least(lists, mean, base)

    def estimates(self, user: Rows, item: Rows, ratings: Ratings) -> Guess:
        """Of an unknown pair the mean; of a pair with one side known, that side's mean."""
        u, i = self.user[user], self.item[item]
        both = (
            self.both[u, i] + self.user_mean[user] - self.user_cluster[u] + self.item_mean[item] - self.item_cluster[i]
        )
        guess = np.where(user >= 0, np.where(item >= 0, both, self.user_mean[user]), self.item_mean[item])
        return np.where((user < 0) & (item < 0), self.mean, guess), np.ones(len(user), bool)

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        place = np.repeat(np.arange(len(given)), given.count)
        mean = _means(place, given.value, len(given), self.mean)
        group = self.user_groups(given, self.item, mean)
        its = self.item_mean - self.item_cluster[self.item]
        whole = self.both[group][:, self.item] + (mean - self.user_cluster[group])[:, None] + its[None, :]
        return np.where(given.count[:, None] > 0, whole, self.item_mean[None, :])

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> Clusters:
        """Newcomers join the cluster in which they err least."""
        more_users, more_items = len(ratings.users) - len(self.user), len(ratings.items) - len(self.item)
        grown = replace(
            self, user=np.pad(self.user, (0, more_users)), item=np.pad(self.item, (0, more_items)),
            user_mean=_means(ratings.user, ratings.value, len(ratings.users), self.mean),
            item_mean=_means(ratings.item, ratings.value, len(ratings.items), self.mean),
        )  # fmt: skip
        # A new item says nothing of a user's cluster before it has one of its own: items first, by users who have one.
        grown.item[items] = grown.item_groups(ratings.by_item, grown.user)[items]
        grown.user[users] = grown.user_groups(ratings.by_user, grown.item)[users]
        return grown


def _least(lists: Lists, mean: Doubles, base: Doubles) -> Rows:
    """**Shapes** base (G, X): what cluster g says of a member's other side → (B,)."""
    row = np.repeat(np.arange(len(lists)), lists.count)
    left = lists.value - mean[row]
    error = np.stack([np.bincount(row, (left - line[lists.other]) ** 2, len(lists)) for line in base])
    return np.argmin(error, axis=0).astype(np.int64)
