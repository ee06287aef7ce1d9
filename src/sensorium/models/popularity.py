"""Popularity with decay: what many chose lately. The yardstick of every model, and the first answer to a stranger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories, confidence
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.kin import Kin, Lift, warmest
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features, Parts
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets

BINS = 256  # moments at which the counts are kept
DAY = 86_400.0
HALF_LIVES = (0.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)  # days that validation tries


@dataclass(frozen=True)
class Popularity:
    """score(i) = log(1 + Σ over events of i before the history's now of 2^(−age ÷ half-life)).

    Without times, or with `half_life_days` 0, every event counts one. Events after the history's now are not seen.
    An item without events scores what its content foretells (`kin`), so that a new garment of a kind that sells is not
    at zero.

    **Cost** one pass over the events; of a batch, M · min(E, BINS · I) for people asked at M different moments.
    **Source** Y. Ji et al., "A re-visit of the popularity baseline in recommender systems" (2020).
    """

    half_life_days: float = 0.0
    strength: float = 0.0
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, half_life_days=(0, INF), strength=(0, INF))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> PopularityModel:
        rows, known = crowd_known(events, events.items)
        moments, counts = binned(events, self.strength)
        lift = self.kin.lift(events, features, known)
        return PopularityModel(moments, counts[:, rows], events.timed, self.half_life_days, lift)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Popularity:
        """The half-life, and how far items borrow, with the best NDCG@10 on validation. The counts are made once."""
        model = self.fit(fold.train, features, rng=rng)
        _, known = crowd_known(fold.train, fold.train.items)

        def value(model: PopularityModel) -> float:
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        days = HALF_LIVES if fold.train.timed else (self.half_life_days,)
        best, height = climb(
            self, {"half_life_days": days}, lambda s: value(replace(model, half_life_days=s.half_life_days))
        )
        model = replace(model, half_life_days=best.half_life_days)
        kin, _ = warmest(
            best.kin, lambda kin: value(replace(model, lift=kin.lift(fold.train, features, known))), height, features
        )
        return replace(best, kin=kin)


@dataclass(frozen=True, eq=False)
class PopularityModel:
    """**Shapes** moments (T,): the time of the last event of each bin, ascending; counts (T, K) of items with events."""

    moments: np.ndarray
    counts: sparse.csr_array
    timed: bool
    half_life_days: float
    lift: Lift

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
        scores = np.log1p(np.maximum(counted, 0)).astype(np.float32)
        items = np.arange(len(self.lift.known)) if candidates is None else candidates
        return self.lift.scores(scores, items)[row]

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """Nothing of it comes from the history."""
        base = self.score(history, candidates)[0]
        return Parts(np.zeros((len(candidates), len(history.item), 1), np.float32), base, ("crowd",))

    def extended(self, features: Features) -> PopularityModel:
        """New items have been chosen by nobody: their content foretells how popular they will be."""
        return replace(self, lift=self.lift.over(features))


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
