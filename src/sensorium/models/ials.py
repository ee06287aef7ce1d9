"""Implicit alternating least squares: people and items as vectors, an unknown person folded in by one small solve."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows, one_blas_thread, threads
from sensorium.data.events import Events, Fold, Histories
from sensorium.models.choose import asked_at_once, climb
from sensorium.models.content import carried
from sensorium.models.kin import Kin, Lift, warmest
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features, Pull
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets

STEPS = 3  # of conjugate gradients in a half-step: the next half-step starts from where this one ends
EVERY = 3  # epochs between two regressions from content to factors
RIDGE = 1.0  # their penalty
RATIOS = (0.03, 0.3, 3.0, 10.0)  # of penalty to confidence, that validation tries


@dataclass(frozen=True)
class Ials:
    """Matrix factorisation with confidence `alpha` for what was chosen and 1 for all else.

    The penalty of a person with n choices among I items is `l2` · ((alpha·n + I) ÷ its mean over people)^`frequency`, and
    the same of items: 0 is the plain penalty, 1 the one of weighted matrix factorisation. `prior` draws every vector to
    that share of what its content (of a person: their profile) predicts, by a regression refitted as the factors move,
    instead of to zero. Items without events get the vector that their content predicts (`kin`).

    **Cost** epochs · (3 nnz · size + (U + I) · size²) · 2. **Source** Y. Hu, Y. Koren, C. Volinsky, "Collaborative
    filtering for implicit feedback datasets" (2008); S. Rendle et al., "Revisiting the performance of iALS on item
    recommendation benchmarks" (2022); conjugate gradients: G. Takács et al. (2011).
    """

    size: int = 64
    l2: float = 0.1
    alpha: float = 10.0
    frequency: float = 0.0
    prior: float = 0.0
    epochs: int = 15
    decay: float = 1.0
    strength: float = 0.0
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, size=(1, 4096), l2=(0, INF), alpha=(0, INF), frequency=(0, 2), prior=(0, 1), epochs=(1, INF))
        within(self, decay=(0, 1), strength=(0, INF))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> IalsModel:
        rows, known = crowd_known(events, events.items)
        lift = self.kin.lift(events, features, known)
        size = min(self.size, max(1, min(events.users, len(rows)) - 1))
        seed = int(rng.integers(2**31))
        people = people_start(size, events.users, seed)
        items = people_start(size, len(rows), seed + 1)
        return _alternated(self, events, features, lift, rows, people, items, self.epochs, np.zeros(len(rows), bool))

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Ials:
        """Penalty and confidence together, frequency, size and prior, then how far items borrow, by NDCG@10 on validation."""
        most = asked_at_once(fold.train.items)

        def value(settings: Ials) -> float:
            model = settings.fit(fold.train, features, rng=np.random.default_rng(0))
            return rank_targets(model.score, fold, features.people, most=most).ndcg()

        best, height = self, value(self)
        # The right penalty grows with the confidence, so the two move together: first their ratio, then both at that ratio.
        ratio = self.l2 / self.alpha if self.alpha else 1.0
        for alpha, ratios in ((self.alpha, RATIOS), (3.0, (1.0,)), (30.0, (1.0,)), (None, (0.5, 2.0))):
            standing = best
            for share in ratios:
                confidence = standing.alpha if alpha is None else alpha
                found = share if ratios is RATIOS else share * ratio
                tried = replace(standing, alpha=confidence, l2=round(found * confidence, 6))
                reached = value(tried)
                if reached > height:
                    best, height = tried, reached
            ratio = best.l2 / best.alpha if best.alpha else 1.0
        told = features.items.present.any() or features.people is not None
        grid: dict[str, tuple[float, ...]] = {"frequency": (0.0, 0.5, 1.0), "size": (32, 64, 128)}
        best, height = climb(best, {**grid, "prior": (0.0, 0.3, 1.0)} if told else grid, value)
        if not features.items.present.any():
            return best
        model = best.fit(fold.train, features, rng=np.random.default_rng(0))
        _, known = crowd_known(fold.train, fold.train.items)

        def borrowed(kin: Kin) -> float:
            lent = replace(model, lift=kin.lift(fold.train, features, known))
            return rank_targets(lent.score, fold, features.people, most=most).ndcg()

        return replace(best, kin=warmest(best.kin, borrowed, height, features)[0])


@dataclass(frozen=True, eq=False)
class IalsModel:
    """**Shapes** factors (K, F) of the items that have events; profile (P, F), what a profile says of a person's vector.

    `mean` is that of alpha·n + I over people, by which the penalty of a person who is folded in is scaled.
    """

    factors: Floats
    lift: Lift
    settings: Ials
    mean: float = 1.0
    profile: Floats | None = None

    def item_vectors(self) -> Floats:
        """**Shapes** (I, F)."""
        return self._placed

    @functools.cached_property
    def _placed(self) -> Floats:
        return self.lift.scores(np.ascontiguousarray(self.factors.T), np.arange(len(self.lift.known))).T.copy()

    @functools.cached_property
    def _whole(self) -> Floats:
        return self.factors.T @ self.factors

    @functools.cached_property
    def _nothing(self) -> Floats:
        """What a profile says that says nothing (F,)."""
        return np.zeros(self.factors.shape[1], np.float32)

    def tables(self) -> tuple[Floats, ...]:
        """**Shapes** (I, F)."""
        return (self._placed,)

    def pulls(self, history: Histories) -> tuple[Pull, ...]:
        """The person of `user_vectors`, of one history."""
        from sensorium.models.ials_kernels import folded

        asked = self.settings
        weight = carried(history, asked.decay, asked.strength)
        count = np.array([len(set(history.item.tolist()))])
        penalty = np.float32(asked.l2) * penalties(count, asked, len(self.factors), self.mean)[0]
        said = self._nothing
        if self.profile is not None and history.profile is not None:
            said = (history.profile @ self.profile)[0]
        person = folded(self._placed, history.item, np.float32(asked.alpha) * weight, self._whole, penalty, said)
        return (Pull(person[None], np.ones(1, np.float32)),)

    def user_vectors(self, histories: Histories) -> Floats:
        """Each history folded in: the exact least-squares person for these items. **Shapes** (B, F)."""
        items, asked = self.item_vectors(), self.settings
        matrix = histories.matrix(len(items), decay=asked.decay, strength=asked.strength)
        size = items.shape[1]
        penalty = asked.l2 * penalties(np.diff(matrix.indptr), asked, len(self.factors), self.mean)
        left = self._whole[None] + penalty[:, None, None] * np.eye(size, dtype=np.float32)
        right = np.zeros((len(histories), size), np.float32)
        if self.profile is not None and histories.profile is not None:
            right += penalty[:, None] * (histories.profile @ self.profile)
        for b in range(len(histories)):
            span = slice(matrix.indptr[b], matrix.indptr[b + 1])
            chosen = items[matrix.indices[span]]
            confident = np.float32(asked.alpha) * matrix.data[span]
            left[b] += (chosen * np.maximum(np.abs(confident) - 1, 0)[:, None]).T @ chosen
            right[b] += np.maximum(confident, 0) @ chosen
        return np.linalg.solve(left, right[:, :, None])[:, :, 0].astype(np.float32)

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C)."""
        items = self.item_vectors()
        return self.user_vectors(histories) @ (items if candidates is None else items[candidates]).T

    def extended(self, features: Features) -> IalsModel:
        """Items that nobody chose get the vector their content predicts."""
        out = replace(self, lift=self.lift.over(features))
        if "_placed" in self.__dict__:  # where a large catalogue grows by one item the others stay where they are
            rows = out.lift.unlike(self.lift)
            placed = np.empty((len(out.lift.known), self.factors.shape[1]), np.float32)
            placed[: len(self._placed)] = self._placed
            placed[rows] = out.lift.scores(np.ascontiguousarray(self.factors.T), rows).T
            out.__dict__["_placed"] = placed
        return out

    def updated(self, events: Events, features: Features, *, epochs: int = 2) -> IalsModel:
        """The model after more was done: `epochs` half-steps on both sides from the old factors. Cheaper than refitting.

        `events` is all that is known now. With `epochs` 0 the old factors stay as they are, and items that are new are
        folded in from the people who took them.
        """
        rows, known = crowd_known(events, events.items)
        lift = self.settings.kin.lift(events, features, known)
        here = np.full(events.items, -1)
        here[: len(self.lift.known)] = self.lift.known
        old = here[rows] >= 0
        items = np.zeros((len(rows), self.factors.shape[1]), np.float32)
        items[old] = self.factors[here[rows[old]]]
        everyone = events.histories(np.arange(events.users))
        grown = replace(self, lift=replace(self.lift, known=here, own=np.where(here >= 0, 1, 0).astype(np.float32),
                                           place=np.full(events.items, -1)))  # fmt: skip
        people = np.concatenate([grown.user_vectors(everyone.take(part)) for part in parts(events.users)])
        if epochs == 0 and old.all():
            return replace(self, lift=lift)
        return _alternated(self.settings, events, features, lift, rows, people, items, epochs, old)


def parts(count: int, size: int = 512) -> list[Rows]:
    """The numbers below `count` in batches; one empty batch where there are none."""
    return [np.arange(begin, min(begin + size, count)) for begin in range(0, max(count, 1), size)]


def people_start(size: int, count: int, seed: int) -> Floats:
    """Small random vectors (count, size) to start from."""
    return (np.random.default_rng(seed).standard_normal((count, size)) * 0.1 / np.sqrt(size)).astype(np.float32)


def penalties(count: NDArray[np.integer], settings: Ials, others: int, mean: float) -> Floats:
    """What `l2` is multiplied with for rows of `count` entries among `others`: ((alpha·n + others) ÷ mean)^frequency."""
    return (((settings.alpha * count + others) / max(mean, 1e-9)) ** settings.frequency).astype(np.float32)


def _alternated(
    settings: Ials, events: Events, features: Features, lift: Lift, rows: Rows, people: Floats, items: Floats,
    epochs: int, old: NDArray[np.bool_],
) -> IalsModel:  # fmt: skip
    """Half-steps in turn, people first. With `epochs` 0, one of the items that are not `old` alone."""
    matrix = events.matrix(settings.strength)[:, rows]
    matrix.data *= np.float32(settings.alpha)
    turned = sparse.csr_array(matrix.T.tocsr())
    turned.sort_indices()
    n, m = np.diff(matrix.indptr), np.diff(turned.indptr)
    mean = float(np.mean(settings.alpha * n + len(rows))) if len(n) else 1.0
    means = float(np.mean(settings.alpha * m + len(n))) if len(m) else 1.0
    person = np.float32(settings.l2) * penalties(n, settings, len(rows), mean)
    item = np.float32(settings.l2) * penalties(m, settings, len(n), means)
    told = features.items.values[rows] if settings.prior and features.items.present.any() else None
    said = features.people.values[: events.users] if settings.prior and features.people is not None else None
    if said is not None and len(said) < events.users:
        said = np.concatenate([said, np.zeros((events.users - len(said), said.shape[1]), np.float32)])
    at_people, at_items, profile = np.zeros_like(people), np.zeros_like(items), None
    for epoch in range(epochs):
        if epoch % EVERY == 1:
            if said is not None:
                profile = _predicted(said, people, n, settings.prior)
                at_people = said @ profile
            if told is not None:
                at_items = told @ _predicted(told, items, m, settings.prior)
        half_step(matrix, items, person, at_people, people)
        half_step(turned, people, item, at_items, items)
    if epochs == 0:
        fresh = items.copy()
        half_step(turned, people, item, at_items, fresh, steps=items.shape[1])
        items = np.where(old[:, None], items, fresh)
    return IalsModel(items, lift, settings, mean, profile)


def half_step(
    matrix: sparse.csr_array, other: Floats, penalty: Floats, prior: Floats, out: Floats, *, steps: int = STEPS
) -> None:
    """Moves `out` (R, F) towards the least-squares answer to `matrix` (R, C) of confidences, given `other` (C, F)."""
    import numba

    from sensorium.models.ials_kernels import solve_rows

    whole = other.T @ other
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads(), numba.config.NUMBA_NUM_THREADS))
    try:
        with one_blas_thread():
            solve_rows(
                matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data.astype(np.float32),
                other, whole, penalty, prior, out, steps,
            )  # fmt: skip
    finally:
        numba.set_num_threads(before)


def _predicted(given: Floats, factors: Floats, count: NDArray[np.integer], share: float) -> Floats:
    """The ridge regression (D, F) from content to factors, rows with few events counting less, times `share`."""
    weight = (count / (count + 1.0)).astype(np.float32)[:, None]
    gram = given.T @ (weight * given) + np.float32(RIDGE) * np.eye(given.shape[1], dtype=np.float32)
    return (np.float32(share) * np.linalg.solve(gram, given.T @ (weight * factors))).astype(np.float32)
