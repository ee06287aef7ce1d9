"""EASE's twin that knows before from after: what people went on to, from what they had done before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, confidence
from sensorium.models.kin import Kin, Lift
from sensorium.models.kinds import check_kinds, counted
from sensorium.models.linear import LinearModel, crowd_known, kept
from sensorium.models.local import local_ridge
from sensorium.models.model import Features
from sensorium.models.ridge import columns, ridge_weights, ridge_weights_of_sparse
from sensorium.models.tuning import tuned_linear
from sensorium.settings import INF, within

SPARSE = 0.02  # share of filled cells up to which an inverse times a sparse matrix is quicker than solving densely
FAINT = 1e-3  # a step whose decayed weight is below this is left out of a partial past
STEPS = 30_000_000  # pairs of a past and a future event from which on tuning the matrix is left out


@dataclass(frozen=True)
class Directed:
    """Ridge regression from every partial past to what followed it.

    An event `k` steps back in a past that is learnt from counts `past`^k, one `k` steps ahead `ahead`^k (0: only what came
    next). Scoring multiplies the history, decayed by `decay` a step back, with the matrix. The rest is as for `Ease`, and
    so are the local columns beyond `dense_items`; here an item may foretell itself.

    **Cost** exact: 2.3 K³ operations, 8 K² bytes; half of it where few items ever follow one another. Local: K · near³ ÷ 3.
    **Source** M. Choi et al., "Session-aware linear item-item models for session-based recommendation" (2021), whose
    second half (SLIT) this is.
    """

    l2: float = 50.0
    dropout: float = 0.0
    decay: float = 0.7
    past: float = 0.7
    ahead: float = 0.3
    strength: float = 0.0
    kinds: Mapping[str, float] = field(default_factory=dict)
    heard: Mapping[str, float] = field(default_factory=dict)
    conversion: Mapping[str, float] = field(default_factory=dict)
    keep: int = 0
    near: int = 200
    dense_items: int = 5_000
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, l2=(0, INF), dropout=(0, 0.99), decay=(0, 1), past=(0, 1), ahead=(0, 1))
        within(self, keep=(0, INF), near=(1, INF), dense_items=(0, INF), strength=(0, INF))
        check_kinds("directed", self.kinds, self.heard, self.conversion)

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LinearModel:
        _, known = crowd_known(events, events.items)
        return self.over(events, features, self.kin.lift(events, features, known))

    def over(self, events: Events, features: Features, lift: Lift) -> LinearModel:
        """The model on a lift that is there already."""
        weights = kept(self.solved(events, np.flatnonzero(lift.known >= 0)), self.keep)
        model = LinearModel(weights, lift, self.decay, self.strength, dict(self.heard))
        return model.leaning(events, self.conversion)

    def solved(self, events: Events, rows: Rows) -> Floats | sparse.csr_array:
        """The matrix from past to future of the items `rows` (K,), dense or, where they are many, sparse (K, K)."""
        told = counted(events, self.strength, self.kinds)
        past, future = pasts_and_futures(told, self.past, self.ahead, 1.0)
        past, future = past[:, rows], future[:, rows]
        before, cross = sparse.csr_array(past.T @ past), sparse.csr_array(past.T @ future)
        penalty = np.full(len(rows), self.l2, np.float32)
        if self.dropout:
            penalty += np.float32(self.dropout / (1 - self.dropout)) * before.diagonal().astype(np.float32)
        if len(rows) > self.dense_items:
            return local_ridge(before, cross, penalty, near=self.near, itself=True, keep=self.keep)
        if cross.nnz <= SPARSE * len(rows) ** 2:
            return ridge_weights_of_sparse(columns(before), cross, penalty)
        return ridge_weights(columns(before), columns(cross), penalty)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Directed:
        """Decays, penalty and dropout by NDCG@10 on validation; the larger the data the shorter the lists."""
        items, decays = len(np.unique(fold.train.item)), {"decay": (0.9, 0.8, 0.7, 0.5)}
        count = np.bincount(fold.train.user, minlength=1)
        if int((count * np.minimum(count, 60)).sum()) > STEPS:
            return tuned_linear(self, fold, features, decays)
        if items > self.dense_items:
            first = {**decays, "l2": (20.0, 50.0, 150.0)}
            return tuned_linear(
                self, fold, features, first, {"past": (0.5, 0.7), "dropout": (0.0, 0.5), "near": (1_000,)}
            )
        first = {"past": (0.5, 0.7, 0.9), **decays, "l2": (20.0, 100.0, 400.0, 1_000.0)}
        second = {"dropout": (0.0, 0.3, 0.6), "ahead": (0.0, 0.3, 0.6), **first}
        return tuned_linear(self, fold, features, first, second)


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
