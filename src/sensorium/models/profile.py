"""What people say of themselves, and what such people choose: the only thing known of a person without a history."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.kin import Kin, Lift, warmest
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features, Parts
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets


@dataclass(frozen=True)
class Profile:
    """Ridge regression from people's vectors to what they chose; zero for a person who says nothing.

    Both sides are centred, so the score is what such a person likes *more than others do*. `l2` counts people.
    **Cost** U · P² + nnz · P, P the length of a person's vector.
    **Source** A. Hoerl, R. Kennard, "Ridge regression: biased estimation for nonorthogonal problems" (1970); people by what
    they say of themselves: M. Pazzani, "A framework for collaborative, content-based and demographic filtering" (1999).
    """

    l2: float = 50.0
    strength: float = 0.0
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, l2=(0, INF), strength=(0, INF))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> ProfileModel:
        rows, known = crowd_known(events, events.items)
        lift = self.kin.lift(events, features, known)
        if features.people is None or not features.people.present[: events.users].any():
            return ProfileModel(np.zeros(0, np.float32), np.zeros((0, len(rows)), np.float32), lift)
        matrix = events.matrix(self.strength)[:, rows]
        count = min(len(features.people), events.users)
        asked = features.people.present[:count] & (np.diff(matrix.indptr)[:count] > 0)
        who = np.flatnonzero(asked)
        people = features.people.values[who]
        centre = people.mean(0) if len(who) else np.zeros(features.people.size, np.float32)
        people = (people - centre).astype(np.float32)
        # Long lists would otherwise outvote the many short ones.
        length = np.sqrt(np.maximum(np.diff(matrix.indptr)[who], 1)).astype(np.float32)
        chosen = matrix[who]
        target = np.asarray((chosen.T @ (people / length[:, None])).T)
        mean = np.asarray((chosen.T @ (1 / length)) / max(len(who), 1))
        target = target - people.sum(0)[:, None] * mean[None, :]
        gram = people.T @ people + np.float32(self.l2) * np.eye(people.shape[1], dtype=np.float32)
        return ProfileModel(centre.astype(np.float32), np.linalg.solve(gram, target).astype(np.float32), lift)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Profile:
        """The penalty, and how far items borrow, by NDCG@10 on validation."""
        if features.people is None:
            return self

        def value(settings: Profile) -> float:
            model = settings.fit(fold.train, features, rng=rng)
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        best, height = climb(self, {"l2": (5.0, 50.0, 500.0)}, value)
        return replace(best, kin=warmest(best.kin, lambda kin: value(replace(best, kin=kin)), height, features)[0])


@dataclass(frozen=True, eq=False)
class ProfileModel:
    """**Shapes** centre (P,), weights (P, K) for the items that have events."""

    centre: Floats
    weights: Floats
    lift: Lift

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C)."""
        items = np.arange(len(self.lift.known)) if candidates is None else candidates
        profile = histories.profile
        if profile is None or profile.shape[1] != len(self.centre):
            return np.zeros((len(histories), len(items)), np.float32)
        says = np.any(profile != 0, axis=1)
        near = np.where(says[:, None], profile - self.centre, 0).astype(np.float32) @ self.weights
        return self.lift.scores(near, items)

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """No event carries it."""
        values = np.zeros((len(candidates), len(history.item), 1), np.float32)
        return Parts(values, self.score(history, candidates)[0], ("crowd",))

    def extended(self, features: Features) -> ProfileModel:
        """Nobody has chosen a new item: its content says who would."""
        return replace(self, lift=self.lift.over(features))
