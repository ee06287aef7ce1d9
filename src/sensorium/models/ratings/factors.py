"""Users and items as vectors: SVD (and PMF), SVD++, NMF. Who is new is placed by the same steps, with the others held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.errors import RecipeError
from sensorium.models.ratings.fitted import Guess, RatingModel
from sensorium.models.ratings.ratings import Doubles, Lists, Ratings
from sensorium.models.ratings.threads import spread
from sensorium.settings import INF, nearest, within

PARTS = ("user_offset", "item_offset", "user", "item", "implicit")
FAR = 1e4  # an estimate this many scales away means that the steps were too long


@dataclass(frozen=True)
class Svd:
    """mean + offsets + user·item by gradient steps; `biased=False` is probabilistic matrix factorisation (PMF).

    `learning_rates` and `l2s` override `learning_rate` and `l2` for a part: user_offset, item_offset, user, item.
    **Cost** epochs · N · size. **Source** Y. Koren, R. Bell, C. Volinsky, "Matrix factorization techniques" (2009);
    R. Salakhutdinov, A. Mnih, "Probabilistic matrix factorization" (2007).
    """

    size: int = 100
    epochs: int = 20
    biased: bool = True
    start_mean: float = 0.0
    start_deviation: float = 0.1
    learning_rate: float = 0.005
    l2: float = 0.02
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    l2s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings, RecipeError where the steps diverge."""
        return _fitted(self, "svd", ratings, rng or np.random.default_rng(0))


@dataclass(frozen=True)
class Svdpp:
    """SVD++: that somebody rated an item says something too, whatever the rating.

    `learning_rates`, `l2s` know the part `implicit` besides. **Cost** epochs · N · size, the same as `Svd`: the implicit
    vectors of a user are moved once a visit, which is exact (compiled.py). **Source** Y. Koren, "Factorization meets the
    neighborhood" (2008).
    """

    size: int = 20
    epochs: int = 20
    start_mean: float = 0.0
    start_deviation: float = 0.1
    learning_rate: float = 0.007
    l2: float = 0.02
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    l2s: Mapping[str, float] = field(default_factory=dict)
    biased: bool = True

    def __post_init__(self) -> None:
        _check(self)
        if not self.biased:
            raise RecipeError("svdpp: biased = False is not a form of it; take svd")

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings, RecipeError where the steps diverge."""
        return _fitted(self, "svdpp", ratings, rng or np.random.default_rng(0))


@dataclass(frozen=True)
class Nmf:
    """Non-negative factors by multiplicative updates; `biased` adds offsets (it overfits easily).

    **Cost** epochs · N · size. **Source** X. Luo et al., "An efficient non-negative matrix factorization-based approach to
    collaborative filtering" (2014).
    """

    size: int = 15
    epochs: int = 50
    biased: bool = False
    low: float = 0.0
    high: float = 1.0
    l2: float = 0.06
    learning_rate: float = 0.005
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    l2s: Mapping[str, float] = field(default_factory=lambda: {"user_offset": 0.02, "item_offset": 0.02})

    def __post_init__(self) -> None:
        _check(self)
        if not 0 <= self.low < self.high:
            raise RecipeError(f"nmf: starts between low = {self.low:g} and high = {self.high:g}; give 0 ≤ low < high")

    def fit(self, ratings: Ratings, *, rng: np.random.Generator | None = None) -> RatingModel:
        """**Raises** DataError without ratings."""
        return _fitted(self, "nmf", ratings, rng or np.random.default_rng(0))


def _check(settings: Any) -> None:
    within(settings, size=(1, 100_000), epochs=(0, INF), learning_rate=(0, INF), l2=(0, INF))
    for name in ("learning_rates", "l2s"):
        for part in getattr(settings, name):
            if part not in PARTS:
                raise RecipeError(f"{type(settings).__name__.lower()}: {name} of {part!r}; {nearest(part, PARTS)}")


def _by_part(settings: Any, every: float, parts: Mapping[str, float]) -> Floats:
    return np.array([parts.get(part, every) for part in PARTS], np.float32)


def _fitted(settings: Any, kind: Any, ratings: Ratings, rng: np.random.Generator) -> RatingModel:
    mean = ratings.mean
    shape = len(ratings.users), len(ratings.items), settings.size
    if kind == "nmf":
        user, item = (rng.uniform(settings.low, settings.high, (count, shape[2])) for count in shape[:2])
    else:
        user, item = (
            rng.normal(settings.start_mean, settings.start_deviation, (count, shape[2])) for count in shape[:2]
        )
    implicit = (
        rng.normal(settings.start_mean, settings.start_deviation, (shape[1], shape[2])) if kind == "svdpp" else None
    )
    core = Factors(
        kind, mean, np.zeros(shape[0], np.float32), np.zeros(shape[1], np.float32), user.astype(np.float32),
        item.astype(np.float32), None if implicit is None else implicit.astype(np.float32), None, settings,
    )  # fmt: skip
    core.walk(ratings.by_user, core.user_offset, core.user)
    if not np.isfinite(core.user).all() or np.abs(core.user).max(initial=0) > FAR * max(ratings.high - ratings.low, 1):
        raise RecipeError(f"{kind}: the steps diverge; give a smaller learning_rate than {settings.learning_rate:g}")
    core.user[ratings.by_user.count == 0] = 0  # a vector that no rating has moved says nothing, and so does a zero
    core.item[ratings.by_item.count == 0] = 0
    return RatingModel(ratings, core.seen(ratings.by_user), mean, settings)


@dataclass(frozen=True, eq=False)
class Factors:
    """**Shapes** offsets (U,), (I,); user (U, D), item (I, D), implicit (I, D) or None; `sums` (U, D) is Σ y / √n of a user."""

    kind: Literal["svd", "svdpp", "nmf"]
    mean: float
    user_offset: Floats
    item_offset: Floats
    user: Floats
    item: Floats
    implicit: Floats | None
    sums: Floats | None
    settings: Any

    def walk(self, lists: Lists, offset: Floats, user: Floats, *, hold: bool = False) -> None:
        """The epochs of the settings over some lists, in place: `offset` and `user` move, and the items unless held."""
        from sensorium.models.ratings import compiled

        rates = _by_part(self.settings, self.settings.learning_rate, self.settings.learning_rates)
        l2 = _by_part(self.settings, self.settings.l2, self.settings.l2s)
        value, mean = lists.value.astype(np.float32), np.float32(self.mean)
        epochs = self.settings.epochs
        columns = (lists.start, lists.other, value, mean, offset, _open(self.item_offset), user, _open(self.item))
        if self.implicit is not None:
            compiled.svdpp_epochs(*columns, _open(self.implicit), epochs, rates, l2, hold)
        else:
            loop = compiled.nmf_epochs if self.kind == "nmf" else compiled.svd_epochs
            loop(*columns, epochs, rates, l2, self.settings.biased, hold)

    def seen(self, lists: Lists) -> Factors:
        """With what each user's items say of them."""
        return self if self.implicit is None else replace(self, sums=self._sums(lists))

    def _sums(self, lists: Lists) -> Floats:
        from sensorium.models.ratings.compiled import sums_of

        out = np.zeros((len(lists), self.item.shape[1]), np.float32)
        spread(sums_of, len(lists), lists.start, lists.other, self.implicit, out)
        return out

    @property
    def whole(self) -> Floats:
        """The vectors that are multiplied with the items' (U, D)."""
        return self.user if self.sums is None else self.user + self.sums

    def estimates(self, user: Rows, item: Rows, ratings: Ratings) -> Guess:
        """With offsets an unknown side counts nothing; without, both must be known."""
        from sensorium.models.ratings.compiled import dots

        guess = np.zeros(len(user))
        spread(dots, len(user), self.whole, self.item, user, item, guess, each=20_000)
        if not self.settings.biased:
            return guess, (user >= 0) & (item >= 0)
        guess += self.mean
        guess[user >= 0] += self.user_offset[user[user >= 0]]
        guess[item >= 0] += self.item_offset[item[item >= 0]]
        return guess, np.ones(len(user), bool)

    def placed(
        self, given: Lists, offsets: Floats | None = None, vectors: Floats | None = None,
        there: NDArray[np.bool_] | None = None,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """Offsets (B,) and vectors (B, D) of people given by their ratings: the same steps, the items held.

        Those who are `there` (B,) already walk on from their `offsets` and `vectors`.
        """
        count, size = len(given), self.item.shape[1]
        nmf = self.kind == "nmf"
        start = (self.settings.low + self.settings.high) / 2 if nmf else self.settings.start_mean
        offset, user = np.zeros(count, np.float32), np.full((count, size), start, np.float32)
        user[given.count == 0] = 0
        if offsets is not None and vectors is not None and there is not None:
            offset[there], user[there] = offsets[there], vectors[there]
        self.walk(given, offset, user, hold=True)
        return offset, user

    def folded(self, given: Lists, ratings: Ratings) -> Doubles:
        offset, user = self.placed(given)
        if self.implicit is not None:
            user = user + self._sums(given)
        guess = (user @ self.item.T).astype(np.float64)
        if self.settings.biased:
            guess += self.mean + offset[:, None] + self.item_offset[None, :]
        return guess

    def extended(self, ratings: Ratings, users: Rows, items: Rows) -> Factors:
        """New items are placed as users are, the other way about (their implicit vector is the mean one)."""
        more_users, more_items = len(ratings.users) - len(self.user), len(ratings.items) - len(self.item)
        grown = replace(
            self, user=_longer(self.user, more_users), user_offset=_longer(self.user_offset, more_users),
            item=_longer(self.item, more_items), item_offset=_longer(self.item_offset, more_items),
            implicit=None if self.implicit is None else np.concatenate(
                [self.implicit, np.repeat(self.implicit.mean(0, keepdims=True), more_items, 0)]).astype(np.float32),
        )  # fmt: skip
        chosen = picked(ratings.by_user, users, keep=~np.isin(ratings.by_user.other, items))
        # Whoever was there goes on from where they stand; the walk of a newcomer begins where all begin.
        offset, user = grown.placed(
            chosen, grown.user_offset[users], grown.user[users], (grown.user[users] != 0).any(axis=1)
        )
        grown.user_offset[users], grown.user[users] = offset, user
        grown = grown.seen(ratings.by_user)
        turned = replace(
            grown, kind="nmf" if self.kind == "nmf" else "svd", user=grown.item, item=grown.whole, implicit=None, sums=None,
            user_offset=grown.item_offset, item_offset=grown.user_offset, settings=_turned(self.settings),
        )  # fmt: skip
        grown.item_offset[items], grown.item[items] = turned.placed(picked(ratings.by_item, items))
        return grown


def _open(values: Floats) -> Floats:
    """The values where they may be written to, or a copy: a loop is compiled for arrays of one kind only."""
    return values if values.flags.writeable else values.copy()


def _turned(settings: Any) -> Any:
    """The settings with the rates of users and items exchanged."""
    names = {"user": "item", "item": "user", "user_offset": "item_offset", "item_offset": "user_offset"}
    return replace(
        settings, l2s={names.get(k, k): v for k, v in settings.l2s.items()},
        learning_rates={names.get(k, k): v for k, v in settings.learning_rates.items()},
    )  # fmt: skip


def _longer(values: Any, more: int) -> Any:
    return np.concatenate([values, np.zeros((more, *values.shape[1:]), values.dtype)])


def picked(lists: Lists, rows: Rows, *, keep: NDArray[np.bool_] | None = None) -> Lists:
    """Some of the lists, in that order, with only the entries that `keep` (N,) marks."""
    place = np.concatenate([np.arange(lists.start[r], lists.start[r + 1]) for r in rows] + [np.zeros(0, np.int64)])
    row = np.repeat(np.arange(len(rows)), lists.count[rows])
    if keep is not None:
        place, row = place[keep[place]], row[keep[place]]
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))]).astype(np.int64)
    return Lists(start, lists.other[place], lists.value[place], lists.order[place])
