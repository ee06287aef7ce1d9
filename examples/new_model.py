"""A recommender of one's own: settings that are fitted, a model that scores histories, and the checks that hold it to that."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sensorium.checks.conformance import mixed_world, must
from sensorium.checks.tiny import stripes


@dataclass(frozen=True)
class Companions:
    """Score of an item: how often it was chosen by those who chose what the history holds."""

    def fit(self, events, features, *, rng):
        matrix = (events.matrix() > 0).astype(np.float32)
        counts = (matrix.T @ matrix).toarray().astype(np.float32)
        np.fill_diagonal(counts, 0)
        return CompanionsModel(counts)


@dataclass(frozen=True, eq=False)
class CompanionsModel:
    """**Shapes** counts (I, I)."""

    counts: np.ndarray

    def score(self, histories, candidates=None):
        scores = np.asarray((histories.matrix(len(self.counts)) > 0).astype(np.float32) @ self.counts, np.float32)
        return scores if candidates is None else scores[:, candidates]

    def extended(self, features):
        grown = np.zeros((len(features.items),) * 2, np.float32)
        grown[: len(self.counts), : len(self.counts)] = self.counts
        return replace(self, counts=grown)


world = stripes()
model = Companions().fit(world.events, world.features, rng=np.random.default_rng(0))
print(f"stripes: {world.holds(model):.0%} of the claims hold")

events, features = mixed_world()
scores = Companions().fit(events, features, rng=np.random.default_rng(0)).score(events.histories(range(events.users)))
must(np.isfinite(scores).all(), "scores must be finite")
print("inside sensorium/models, check_model(Companions()) would also save it and read it back")
