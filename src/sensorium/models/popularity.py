"""Popularity with decay: what many chose lately. The yardstick of every model, and the first answer to a stranger."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories, confidence
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.content import neighbours
from sensorium.models.model import Features, Parts
from sensorium.train.ranking import rank_targets

BINS = 256  # moments at which the counts are kept
DAY = 86_400.0


@dataclass(frozen=True)
class Popularity:
    """score(i) = log(1 + Σ over events of i before the history's now of 2^(−age ÷ half-life)).

    Without times, or with `half_life_days` 0, every event counts one. Events after the history's now are not seen.
    `smoothing` > 0 lets that share of an event speak for the content neighbours of its item as well, so that a new
    garment of a kind that sells is not at zero.
    """

    half_life_days: float = 0.0
    strength: float = 0.0
    smoothing: float = 0.0
    neighbours: int = 20
    sharpness: float = 8.0

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> PopularityModel:
        moments, counts = binned(events, self.strength)
        model = PopularityModel(
            moments, counts, events.timed, self.half_life_days, self.smoothing, self.neighbours, self.sharpness,
            sparse.csr_array((events.items, events.items), dtype=np.float32),
        )  # fmt: skip
        return model.extended(features)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Popularity:
        """The half-life with the best NDCG@10 on validation."""
        # Half-life and smoothing only say how the counts and the neighbours are read; both are made once.
        ready = replace(self, smoothing=1.0).fit(fold.train, features, rng=rng)

        def value(settings: Popularity) -> float:
            model = replace(ready, half_life_days=settings.half_life_days, smoothing=settings.smoothing)
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        grid: dict[str, tuple[float, ...]] = {}
        if fold.train.timed:
            grid["half_life_days"] = (0.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)
        if features.items.present.any():
            grid["smoothing"] = (0.0, 0.3, 1.0)
        return climb(self, grid, value)[0]


@dataclass(frozen=True, eq=False)
class PopularityModel:
    """**Shapes** moments (T,): the time of the last event of each bin, ascending; counts (T, I); near (I, I)."""

    moments: np.ndarray
    counts: sparse.csr_array
    timed: bool
    half_life_days: float
    smoothing: float
    neighbours: int
    sharpness: float
    near: sparse.csr_array

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). People asked at one moment share one row of work."""
        if self.timed and histories.timed:
            place = np.searchsorted(self.moments, histories.now, "right")  # bins that ended by now
        else:
            place = np.full(len(histories), len(self.moments))
        asked, row = np.unique(place, return_inverse=True)
        weights = np.zeros((len(asked), len(self.moments)), np.float32)
        for line, bins in enumerate(asked):
            if self.timed and self.half_life_days > 0 and bins:
                age = (self.moments[bins - 1] - self.moments[:bins]) / DAY
                weights[line, :bins] = 2.0 ** (-age / self.half_life_days)
            else:
                weights[line, :bins] = 1
        counted = np.asarray((self.counts.T @ weights.T).T, np.float32)
        if self.smoothing and self.near.nnz:
            counted = counted + np.float32(self.smoothing) * np.asarray((self.near @ counted.T).T, np.float32)
        scores = np.log1p(np.maximum(counted, 0)).astype(np.float32)[row]
        return scores if candidates is None else scores[:, candidates]

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """Nothing of it comes from the history."""
        base = self.score(history, candidates)[0]
        return Parts(np.zeros((len(candidates), len(history.item), 1), np.float32), base, ("crowd",))

    def extended(self, features: Features) -> PopularityModel:
        """New items have been chosen by nobody; where smoothing is on, their neighbours speak for them."""
        items = len(features.items)
        counts = sparse.csr_array(
            (self.counts.data, self.counts.indices, self.counts.indptr), shape=(len(self.moments), items)
        )
        near = sparse.csr_array((items, items), dtype=np.float32)
        if self.smoothing and features.items.present.any():
            rows = np.arange(items)
            near = neighbours(features.items, rows, rows, self.neighbours, self.sharpness)
        return replace(self, counts=counts, near=near)


def binned(events: Events, strength: float) -> tuple[np.ndarray, sparse.csr_array]:
    """Events counted in at most BINS stretches of time, each ending at an event. **Shapes** (T,), (T, I).

    A stretch never splits one moment, so what happened after a moment is never counted as before it.
    """
    if not len(events):
        return np.zeros(0), sparse.csr_array((0, events.items), dtype=np.float32)
    distinct = np.unique(events.time)
    if len(distinct) > BINS:
        ends = events.time[np.linspace(0, len(events) - 1, BINS + 1).astype(np.int64)[1:]]
        distinct = np.unique(ends)
    row = np.searchsorted(distinct, events.time, "left")
    values = confidence(events, strength)
    counts = sparse.csr_array((values, (row, events.item)), shape=(len(distinct), events.items), dtype=np.float32)
    counts.sum_duplicates()
    return distinct, counts
