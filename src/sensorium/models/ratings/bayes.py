"""The best engine for ratings: Bayesian factorisation that also reads who rated what, what is said of users and items, and days."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.errors import DataError
from sensorium.models.ratings.days import DAY, Days
from sensorium.models.ratings.factors import picked
from sensorium.models.ratings.fitted import Guess, RatingModel
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings
from sensorium.models.ratings.sampled import Side, rows_drawn
from sensorium.settings import INF, within


@dataclass(frozen=True, eq=False)
class Sides:
    """What is known of users (U, P) and items (I, Q) besides ratings; a row is a row of the ratings' ids, zeros say nothing."""

    users: Floats | None = None
    items: Floats | None = None

    def checked(self, ratings: Ratings) -> Sides:
        """Itself. **Raises** DataError where the rows are not those of the ratings."""
        for what, values, ids in (("users", self.users, ratings.users), ("items", self.items, ratings.items)):
            if values is not None and (values.ndim != 2 or len(values) != len(ids)):
                raise DataError(
                    f"sides of {what}: shape {values.shape}, but the ratings have {len(ids)} {what}; give a row each"
                )
        return self


@dataclass(frozen=True)
class Bayes:
    """Offsets and factors with a normal prior whose mean is a regression on features, all sampled by Gibbs.

    Features are which items a user has rated (so the prior mean is SVD++'s implicit part), who has rated an item, and
    `Sides`. Where ratings have times, a user's mood of a day is sampled too. An estimate is the mean over `keep` of the
    `sweeps` after `burn`, with each user at their posterior mean; precisions and penalties are sampled, so little is
    left to tune. A day's mood is learnt from all ratings of that day, later ones too: give `days=False` where the future
    is foretold. **Cost** sweeps · (N · size² + (U + I) · size³).
    **Source** R. Salakhutdinov, A. Mnih, "Bayesian probabilistic matrix factorization using MCMC" (2008); J. Simm et al.,
    "Macau: scalable Bayesian factorization with high-dimensional side information using MCMC" (2017); S. Rendle, L. Zhang,
    Y. Koren, "On the difficulty of evaluating baselines" (2019); Y. Koren, "Collaborative filtering with temporal dynamics"
    (2009), for the day.
    """

    size: int = 12
    sweeps: int = 160
    burn: int = 30
    keep: int = 32
    implicit: bool = True
    days: bool = True
    rank: int = 200
    sides: Sides | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        within(self, size=(1, 512), sweeps=(1, INF), burn=(0, self.sweeps - 1), keep=(1, INF), rank=(1, INF))

    def beside(self, sides: Sides | None) -> Bayes:
        """The same, with what is known of users and items: for `cross_validate` and whatever fits by itself."""
        return replace(self, sides=sides)

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings, or for sides of other shapes."""
        mean, rng = ratings.mean, rng or np.random.default_rng(0)
        sides = (self.sides or Sides()).checked(ratings)
        by_user, by_item = ratings.by_user, ratings.by_item
        size = self.size + 1
        user = Side(self._read(by_user, len(by_item), sides.users), size, self.rank, rng)
        item = Side(self._read(by_item, len(by_user), sides.items), size, self.rank, rng)
        days = Days.of(ratings) if self.days and ratings.time is not None else Days.none()
        mood, moods = np.zeros(len(days)), np.zeros(len(days))
        spread_of_moods, noise = 10.0, 1 / max(float(ratings.value.var()), 1e-6)
        kept: list[tuple[Any, ...]] = []
        wanted = {
            *np.linspace(self.burn, self.sweeps - 1, min(self.keep, self.sweeps - self.burn))
            .round()
            .astype(int)
            .tolist()
        }
        for sweep in range(self.sweeps):
            left = ratings.value - mean - days.each(mood)
            user.prior(rng)
            user.rows = rows_drawn(by_user, left[by_user.order], item.rows, user, noise, rng)
            item.prior(rng)
            item.rows = rows_drawn(by_item, left[by_item.order], user.rows, item, noise, rng)
            left = ratings.value - mean - _products(user.rows, item.rows, ratings)
            if len(days):
                mood, spread_of_moods = days.drawn(left, noise, spread_of_moods, rng)
                left = left - days.each(mood)
            noise = float(rng.gamma(0.5 * (len(left) + 2)) / (0.5 * (left @ left + 1.0)))
            if sweep in wanted:
                centre = rows_drawn(
                    by_user, (ratings.value - mean - days.each(mood))[by_user.order], item.rows, user, noise
                )
                kept.append((centre, item.rows, *user.learnt(), *item.learnt(), noise))
                moods += mood
        learnt: list[Any] = [np.stack(part).astype(np.float32) for part in zip(*kept, strict=True)]
        core = BayesCore(
            mean, learnt[0], learnt[1], learnt[2], learnt[3], learnt[4], learnt[5], learnt[6], learnt[7], learnt[8],
            sides.users, sides.items, self.implicit, days.keys, moods / len(kept),
        )  # fmt: skip
        return RatingModel(ratings, core, mean, replace(self, sides=None))

    def _read(self, lists: Lists, others: int, sides: Floats | None) -> sparse.csr_array:
        return read_features(lists, others, sides, self.implicit)


def read_features(lists: Lists, others: int, sides: Any, implicit: bool) -> sparse.csr_array:
    """Which of the `others` each list holds, and its sides, every part a row of length one. **Shapes** (X, others + P)."""
    parts = []
    if implicit:
        worth = 1 / np.sqrt(np.maximum(np.repeat(lists.count, lists.count), 1))
        parts.append(sparse.csr_array((worth, lists.other, lists.start), shape=(len(lists), others)))
    if sides is not None:
        values = np.asarray(sides, np.float64)
        parts.append(sparse.csr_array(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)))
    return sparse.csr_array(sparse.hstack(parts)) if parts else sparse.csr_array((len(lists), 0))


def _products(user: Doubles, item: Doubles, ratings: Ratings) -> Doubles:
    mine, its = user[ratings.user], item[ratings.item]
    return mine[:, 0] + its[:, 0] + np.einsum("nk,nk->n", mine[:, 1:], its[:, 1:])


@dataclass(frozen=True, eq=False)
class BayesCore:
    """S samples. **Shapes** users (S, U, K), items (S, I, K): offset, then factors; of each side its mean (S, K), precision
    (S, K, K) and link (S, P, K) from features; noise (S,); days (G,) user and day, moods (G,)."""

    mean: float
    users: Floats
    items: Floats
    user_mean: Floats
    user_precision: Floats
    user_link: Floats
    item_mean: Floats
    item_precision: Floats
    item_link: Floats
    noise: Floats
    user_sides: Floats | None
    item_sides: Floats | None
    implicit: bool
    days: Rows
    moods: Doubles

    knows_silent = True  # somebody without ratings is what is said of them

    @functools.cached_property
    def _joined(self) -> tuple[Floats, Floats]:
        """Vectors whose product is the estimate, all samples side by side; the last row is the unknown one."""
        user = np.concatenate([self.users, self.user_mean[:, None]], axis=1)
        item = np.concatenate([self.items, self.item_mean[:, None]], axis=1)
        return _side_by_side(user, True), _side_by_side(item, False)

    def estimates(self, user: Rows, item: Rows, ratings: Ratings, time: Doubles | None = None) -> Guess:
        """An unknown user or item is the average one."""
        from sensorium.models.ratings.compiled import dots
        from sensorium.models.ratings.threads import spread

        mine, its = self._joined
        guess = np.zeros(len(user))
        known = np.where(user < 0, len(mine) - 1, user), np.where(item < 0, len(its) - 1, item)
        spread(dots, len(user), mine, its, *known, guess, each=2_000)
        guess += self.mean
        if time is not None and len(self.days):
            key = (user << 32) + np.floor(time / DAY).astype(np.int64)
            place = np.minimum(np.searchsorted(self.days, key), len(self.days) - 1)
            guess += np.where((self.days[place] == key) & (user >= 0), self.moods[place], 0)
        return guess, np.ones(len(user), bool)

    def _placed(self, given: Lists, sides: Any, of_users: bool) -> Floats:
        """The posterior means of lists, the other side held. **Shapes** (S, B, K)."""
        other = self.items if of_users else self.users
        mean, precision, link = (
            (self.user_mean, self.user_precision, self.user_link) if of_users
            else (self.item_mean, self.item_precision, self.item_link)
        )  # fmt: skip
        # Whoever came after the fit is no feature: the link has no row for them.
        width = link.shape[1] - (0 if sides is None else sides.shape[1])
        known = picked(given, np.arange(len(given)), keep=given.other < width) if self.implicit else given
        features = read_features(known, width, sides, self.implicit)
        out = np.zeros((len(mean), len(given), mean.shape[1]))
        left = given.value - self.mean
        for s in range(len(mean)):
            side = Side.held(mean[s] + features @ link[s].astype(np.float64), precision[s])
            out[s] = rows_drawn(given, left, other[s].astype(np.float64), side, float(self.noise[s]))
        return out.astype(np.float32)

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        sides = None if self.user_sides is None else np.zeros((len(given), self.user_sides.shape[1]), np.float32)
        user = _side_by_side(self._placed(given, sides, True), True)
        return self.mean + (user @ self._joined[1][:-1].T).astype(np.float64)

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> BayesCore:
        more = len(ratings.users) - self.users.shape[1], len(ratings.items) - self.items.shape[1]
        # Who is new is the average one until placed.
        grown = replace(
            self, users=np.concatenate([self.users, np.repeat(self.user_mean[:, None], more[0], 1)], axis=1),
            items=np.concatenate([self.items, np.repeat(self.item_mean[:, None], more[1], 1)], axis=1),
            user_sides=_longer(self.user_sides, more[0]), item_sides=_longer(self.item_sides, more[1]),
        )  # fmt: skip
        chosen = picked(ratings.by_user, users, keep=~np.isin(ratings.by_user.other, items))
        grown.users[:, users] = grown._placed(chosen, _rows(grown.user_sides, users), True)
        grown.items[:, items] = grown._placed(picked(ratings.by_item, items), _rows(grown.item_sides, items), False)
        return replace(grown)


def _side_by_side(samples: Floats, of_users: bool) -> Floats:
    """(S, X, K) → (X, S · (K + 1)): offset · 1 + 1 · offset + factors · factors, the mean over samples."""
    one = np.ones((*samples.shape[:2], 1), np.float32)
    parts = [samples[:, :, :1], one, samples[:, :, 1:]] if of_users else [one, samples[:, :, :1], samples[:, :, 1:]]
    wide = np.concatenate(parts, axis=2).transpose(1, 0, 2).reshape(samples.shape[1], -1)
    return np.ascontiguousarray(wide / np.float32(len(samples) if of_users else 1), np.float32)


def _rows(sides: Floats | None, rows: Rows) -> Floats | None:
    return None if sides is None else sides[rows]


def _longer(sides: Floats | None, more: int) -> Floats | None:
    return None if sides is None else np.concatenate([sides, np.zeros((more, sides.shape[1]), sides.dtype)])
