"""`recommender = "auto"`: trains what the catalogue's size allows, keeps what wins on validation, and shows the table."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sensorium.data.events import Events, Fold
from sensorium.models.blend import LINEAR, Blend, BlendModel, weigh
from sensorium.models.choose import PEOPLE
from sensorium.models.model import Features, Model
from sensorium.train.ranking import rank_targets


@dataclass(frozen=True)
class Trial:
    """One line of the table: what was tried, how well it foretold validation, how long that took."""

    name: str
    ndcg: float  # @10
    recall: float  # @10
    seconds: float
    settings: Any = None


@dataclass(frozen=True)
class Auto:
    """Tries `use` in that order until `budget_seconds` are spent, then their blend; the best on NDCG@10 is kept.

    Without validation, it is the blend with plain settings.
    """

    budget_seconds: float = 600.0
    use: tuple[str, ...] = LINEAR
    chosen: Any = None
    trials: tuple[Trial, ...] = ()

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> Model:
        chosen = self.chosen if self.chosen is not None else Blend(use=self.use)
        return chosen.fit(events, features, rng=rng)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Auto:
        begin = time.perf_counter()
        trials: list[Trial] = []
        models: dict[str, Model] = {}
        blend = Blend(use=self.use)
        for name in self.use:
            if name == "profile" and features.people is None:
                continue
            if name == "content" and not features.items.present.any():
                continue
            if time.perf_counter() - begin > self.budget_seconds:
                break
            start = time.perf_counter()
            settings: Any = blend.member(name)
            if hasattr(settings, "tuned"):
                settings = settings.tuned(fold, features, rng=rng)
            models[name] = settings.fit(fold.train, features, rng=rng)
            ranks = rank_targets(models[name].score, fold, features.people, most=PEOPLE)
            trials.append(Trial(name, ranks.ndcg(), ranks.recall(), time.perf_counter() - start, settings))
        start = time.perf_counter()
        weights = weigh(models, fold, features)
        members: dict[str, Any] = {t.name: t.settings for t in trials}
        mixed = replace(blend, use=tuple(n for n in models if weights[n] > 0), weights=weights, **members)
        model = BlendModel({n: models[n] for n in mixed.use}, weights)
        ranks = rank_targets(model.score, fold, features.people, most=PEOPLE)
        trials.append(Trial("blend", ranks.ndcg(), ranks.recall(), time.perf_counter() - start, mixed))
        best = max(trials, key=lambda t: t.ndcg)
        return replace(self, chosen=best.settings, trials=tuple(trials))
