"""A method of rating as a recommender: what somebody would rate highest, new people and new items folded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from sensorium.arrays import Floats, Rows, slices
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import DataError
from sensorium.models.choose import PEOPLE
from sensorium.models.kin import Kin, Lift
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features
from sensorium.models.ratings.bayes import Bayes, Sides
from sensorium.models.ratings.fitted import RatingModel
from sensorium.models.ratings.names import method_of
from sensorium.models.ratings.ratings import Lists, Ratings
from sensorium.train.ranking import rank_targets

Algorithm = Literal["normal", "baseline", "neighbours", "svd", "svdpp", "nmf", "slopeone", "coclustering", "bayes"]
BATCH = 256  # people folded in at once
CHOICES: tuple[Algorithm, ...] = ("svd", "svdpp", "neighbours", "slopeone", "baseline")  # that validation tries


@dataclass(frozen=True)
class RatingsRecommender:
    """Ranks all items by the rating that `algorithm` foretells for somebody with this history.

    What is learnt and foretold is the *weight* of events, the one scale on which a history speaks of everything: for a
    rating 1 + (value − the person's mean) ÷ half the scale. Of several events of a pair the last counts.
    `settings` are those of the algorithm. Items nobody rated get the estimate that their content predicts (`kin`).
    """

    algorithm: Algorithm = "svd"
    settings: Mapping[str, Any] = field(default_factory=dict)
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        method_of(self.algorithm, self.settings)

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> RatingsRecommenderModel:
        """**Raises** RecipeError for settings the algorithm does not have."""
        rows, known = crowd_known(events, events.items)
        lift = self.kin.lift(events, features, known)
        method = method_of(self.algorithm, self.settings)
        if isinstance(method, Bayes):
            people = None if features.people is None else features.people.values[: events.users]
            shown = features.items.values if features.items.present.any() else None
            method = method.beside(Sides(people if people is not None and len(people) == events.users else None, shown))
        weights = replace(events, value=np.full(len(events), np.nan, np.float32))
        model = method.fit(Ratings.of_events(weights), rng=rng) if len(events) else None
        return RatingsRecommenderModel(model, lift, rows)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> RatingsRecommender:
        """The algorithm and the size of its vectors, by NDCG@10 on validation."""

        def value(settings: RatingsRecommender) -> float:
            try:
                model = settings.fit(fold.train, features, rng=np.random.default_rng(0))
            except DataError:  # too many people or items to compare each with each
                return -1.0
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        tried: list[RatingsRecommender] = [self]
        if not self.settings:
            tried += [replace(self, algorithm=name) for name in CHOICES if name != self.algorithm]
        values = [value(one) for one in tried]
        return tried[int(np.argmax(values))]


@dataclass(frozen=True, eq=False)
class RatingsRecommenderModel:
    """**Shapes** rows (K,): the items that have events, which are the columns of `lift`."""

    model: RatingModel | None
    lift: Lift
    rows: Rows

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C)."""
        items = np.arange(len(self.lift.known)) if candidates is None else np.asarray(candidates, np.int64)
        if self.model is None:
            return np.zeros((len(histories), len(items)), np.float32)
        out = np.zeros((len(histories), len(items)), np.float32)
        for part in slices(len(histories), BATCH):
            # An item without ratings and without content is worth the mean, so the mean is what nothing stands for.
            near = self.model.folded(
                _given(histories.take(np.arange(part.start, part.stop)), len(self.model.ratings.items))
            )
            apart = (near[:, self.rows] - self.model.mean).astype(np.float32)
            out[part] = self.lift.scores(apart, items) + np.float32(self.model.mean)
        return out

    def extended(self, features: Features) -> RatingsRecommenderModel:
        """New items are what their content says."""
        return replace(self, lift=self.lift.over(features))


def _given(histories: Histories, items: int) -> Lists:
    """Histories as lists of ratings, the last event of a pair; items that came after the model are passed over."""
    row, order = histories.row, np.arange(len(histories.item))
    place = np.lexsort((order, histories.item, row))
    place = place[histories.item[place] < items]
    last = np.ones(len(place), bool)
    last[:-1] = (row[place][1:] != row[place][:-1]) | (histories.item[place][1:] != histories.item[place][:-1])
    place = place[last]
    start = np.concatenate([[0], np.cumsum(np.bincount(row[place], minlength=len(histories)))]).astype(np.int64)
    return Lists(
        start, histories.item[place].astype(np.int32), histories.weight[place].astype(np.float64), order[place]
    )
