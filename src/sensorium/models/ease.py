"""EASE and its directed twin: the best linear item-to-item models in closed form, hard to beat where there is a crowd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, confidence
from sensorium.models.choose import PEOPLE
from sensorium.models.kin import Kin, Lift, warmest
from sensorium.models.linear import LinearModel, crowd_known, strongest
from sensorium.models.model import Features
from sensorium.models.ridge import columns, ease_weights, ease_weights_of_few, ridge_weights, ridge_weights_of_sparse
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets

# Operations of one fit beyond which tuning leaves a penalty out. 5,000 items (2 s on one core) are the edge; 12,000 take
# 14 times that. One eigendecomposition for all penalties does not move it: for 5,000 items it takes 13.6 s, and the
# product that each penalty then needs 2.9 s, against 1.8 s for the whole inverse from Cholesky.
LARGE = 5_000**3
FEW = 3  # people are few where that many times their number is below the number of items; then they are twice as quick
SPARSE = 0.02  # share of filled cells up to which an inverse times a sparse matrix is quicker than solving densely
FAINT = 1e-3  # a step whose decayed weight is below this is left out of a partial past
Solve = Callable[[float], Floats]  # a penalty l2 → the matrix B


@dataclass(frozen=True)
class Ease:
    """The item-by-item matrix B with a zero diagonal that best rebuilds who chose what, under a ridge penalty `l2`.

    Scoring multiplies the history, decayed by `decay` a step back, with B. `strength` lets the weights of events count
    (0: what was done counts, not how strongly); `degree` counts a person with n items n^−degree times; `content` adds
    content · V Vᵀ to the Gram matrix, so that the vectors V of the items speak like that many more people. Items without
    events, and those beyond the `dense_items` most popular, stand in for their content neighbours (`kin`).
    `keep` > 0 stores only that many entries of each column (12,000 items dense are 576 MB, with 500 kept 72 MB).

    **Cost** K³ operations and 4 K² bytes: 10 s and 0.6 GB for 12,000 items on two cores; U K² operations for few people.
    **Source** H. Steck, "Embarrassingly shallow autoencoders for sparse data" (2019); rows of content:
    O. Jeunen et al., "Closed-form models for collaborative filtering with side-information" (2020).
    """

    l2: float = 200.0
    decay: float = 0.8
    strength: float = 0.0
    degree: float = 0.0
    content: float = 0.0
    keep: int = 0
    dense_items: int = 20_000
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, l2=(0, INF), decay=(0, 1), degree=(0, 1), content=(0, INF), keep=(0, INF), dense_items=(1, INF))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LinearModel:
        rows, known = crowd_known(events, self.dense_items)
        weights = self.solver(events, features, rows)(self.l2)
        return linear_model(weights, self.kin.lift(events, features, known), self)

    def solver(self, events: Events, features: Features, rows: Rows) -> Solve:
        """Everything that the penalty does not change, made once. Between penalties it stays sparse, which is small."""
        matrix = events.matrix(self.strength)[:, rows]
        if self.degree:
            count = np.maximum(np.diff(matrix.indptr), 1).astype(np.float32)
            matrix = sparse.diags_array(count ** np.float32(-self.degree / 2)).tocsr() @ matrix
        vectors = features.items.values[rows] if self.content and features.items.present.any() else None
        if FEW * (matrix.shape[0] + (0 if vectors is None else vectors.shape[1])) < len(rows):
            choices = matrix.toarray()
            if vectors is not None:  # a number of the vector is one more person, who chose each item that strongly
                choices = np.concatenate([choices, np.sqrt(np.float32(self.content)) * vectors.T])
            return lambda l2: ease_weights_of_few(choices, l2)
        product = matrix.T @ matrix

        def solve(l2: float) -> Floats:
            gram = columns(product)
            if vectors is not None:
                gram += np.float32(self.content) * (vectors @ vectors.T)
            return ease_weights(gram, l2)

        return solve

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Ease:
        """The penalty and the decay by NDCG@10 on validation; larger catalogues get a shorter list of penalties."""
        people, items = fold.train.users, fold.train.items
        operations = items**2 * (people if FEW * people < items else items)
        penalties = (50.0, 200.0) if operations > LARGE else (50.0, 200.0, 800.0)
        return _tuned(self, fold, features, penalties, (1.0, 0.9, 0.8, 0.7, 0.5))


@dataclass(frozen=True)
class Directed:
    """EASE's twin that knows before from after: ridge regression from every partial past to what followed it.

    An event `k` steps back in the past counts `decay`^k, one `k` steps ahead `ahead`^k. The rest is as for `Ease`.

    **Cost** 2.3 K³ operations, 8 K² bytes; half of it where few items ever follow one another.
    **Source** M. Choi et al., "Session-aware linear item-item models for session-based recommendation" (2021), whose
    second half (SLIT) this is.
    """

    l2: float = 50.0
    decay: float = 0.7
    ahead: float = 0.3
    strength: float = 0.0
    keep: int = 0
    dense_items: int = 20_000
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, l2=(0, INF), decay=(0, 1), ahead=(0, 1), keep=(0, INF), dense_items=(1, INF))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LinearModel:
        rows, known = crowd_known(events, self.dense_items)
        weights = self.solver(events, features, rows)(self.l2)
        return linear_model(weights, self.kin.lift(events, features, known), self)

    def solver(self, events: Events, features: Features, rows: Rows) -> Solve:
        """Everything that the penalty does not change, made once. Between penalties it stays sparse, which is small."""
        past, future = pasts_and_futures(events, self.decay, self.ahead, self.strength)
        past, future = past[:, rows], future[:, rows]
        before, cross = past.T @ past, past.T @ future
        if cross.nnz <= SPARSE * len(rows) ** 2:
            return lambda l2: ridge_weights_of_sparse(columns(before), cross, l2)
        return lambda l2: ridge_weights(columns(before), columns(cross), l2)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Directed:
        """The penalty, then the decay, by NDCG@10 on validation."""
        penalties = (50.0, 250.0) if fold.train.items**3 > LARGE else (10.0, 50.0, 250.0)
        return _tuned(self, fold, features, penalties, (0.9, 0.8, 0.7, 0.5))


def linear_model(weights: Floats, lift: Lift, settings: Ease | Directed) -> LinearModel:
    """The learnt matrix with what scoring needs beside it."""
    stored = strongest(weights, settings.keep) if 0 < settings.keep < len(weights) else weights
    return LinearModel(stored, lift, settings.decay, settings.strength)


def pasts_and_futures(
    events: Events, decay: float, ahead: float, strength: float
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Every partial past of every person and what followed it, as two (E, I) matrices.

    Row t stands for the moment before event t (events by person, then time): `past` holds what the person did before it,
    decayed by steps back, `future` event t and what came after, decayed by steps ahead.
    """
    order = np.argsort(events.user, kind="stable")
    item, weight = events.item[order], confidence(events, strength)[order]
    start = np.searchsorted(events.user[order], np.arange(events.users + 1))
    first, end = np.repeat(start[:-1], np.diff(start)), np.repeat(start[1:], np.diff(start))
    place = np.arange(len(order))

    def faded(at_once: Rows, step: int, decay: float, asked: NDArray[np.bool_]) -> sparse.csr_array:
        """Rows t with the same person's events at `at_once`[t], one `step` further, and so on while they are not faint."""
        longest = int((end - first).max(initial=0))
        if decay < 1:
            longest = min(longest, int(np.ceil(np.log(FAINT) / np.log(decay))) if decay > 0 else 1)
        rows, columns, values = [place[:0]], [item[:0]], [weight[:0]]
        for lag in range(longest):
            there = at_once + step * lag
            inside = asked & (there >= first) & (there < end)
            rows.append(place[inside])
            columns.append(item[there[inside]])
            values.append(weight[there[inside]] * np.float32(decay**lag))
        triple = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_array(triple, shape=(len(place), events.items), dtype=np.float32)

    after_something = place > first
    return faded(place - 1, -1, decay, after_something), faded(place, 1, ahead, after_something)


S = TypeVar("S", Ease, Directed)


def _tuned(settings: S, fold: Fold, features: Features, penalties: Sequence[float], decays: Sequence[float]) -> S:
    """Each penalty is solved once; decays of the history, and then how much items borrow from their content, are tried
    on the fitted model, which costs a ranking only.
    """
    rows, known = crowd_known(fold.train, settings.dense_items)
    solve = settings.solver(fold.train, features, rows)
    lift = settings.kin.lift(fold.train, features, known)

    def value(model: LinearModel) -> float:
        return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

    best, height, kept = settings, -1.0, None
    for l2 in penalties:
        model = linear_model(solve(l2), lift, settings)
        for decay in decays:
            reached = value(replace(model, decay=decay))
            if reached > height:
                best, height, kept = replace(settings, l2=l2, decay=decay), reached, replace(model, decay=decay)
    if kept is None:
        return best
    kin, _ = warmest(
        best.kin, lambda kin: value(replace(kept, lift=kin.lift(fold.train, features, known))), height, features
    )
    return replace(best, kin=kin)
