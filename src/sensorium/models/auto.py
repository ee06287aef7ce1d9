"""`recommender = "auto"`: trains what the catalogue's size allows, keeps what wins on validation, and shows the table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sensorium.data.events import Events, Fold
from sensorium.errors import RecipeError
from sensorium.models.blend import DEEP, LATER, LINEAR, Blend, learnt
from sensorium.models.choose import asked_at_once
from sensorium.models.directed import Directed
from sensorium.models.ease import Ease
from sensorium.models.graph import ASKED, CELLS
from sensorium.models.model import Features, Model
from sensorium.settings import nearest
from sensorium.train.ranking import rank_targets

UNFED = {  # why a member has nothing to learn from
    "content": "no item has content",
    "profile": "nobody says anything of themselves",
}


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
    """Tries those of `use` that fit into `budget_seconds`, then their blend; the best on NDCG@10 is kept.

    What fits is estimated from the sizes of the data (see `expected`), in the order of `use`, and not by a clock: the same
    data must give the same choice on a slow machine. What is not tried stands in `left_out`, with the reason. `sequence`
    and `lstm` are tried where `use` names them: they take minutes, their sums depend on the number of threads, and their part of a score cannot be explained by events. Without
    validation, it is the blend with plain settings.
    """

    budget_seconds: float = 600.0
    use: tuple[str, ...] = LINEAR
    chosen: Any = None
    trials: tuple[Trial, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # by name, why it was not tried

    def __post_init__(self) -> None:
        if not 0 < self.budget_seconds < float("inf"):
            raise RecipeError(f"auto: budget_seconds is {self.budget_seconds!r}; give the seconds that tuning may take")
        if not self.use:
            raise RecipeError("auto: use = [] leaves nothing to try; name some of " + ", ".join((*LINEAR, *LATER)))
        for name in self.use:
            if name not in (*LINEAR, *LATER):
                raise RecipeError(f"auto: unknown name {name!r} in use; {nearest(name, (*LINEAR, *LATER))}")

    def allowed(self, events: Events, features: Features) -> tuple[str, ...]:
        """The names of `use` that the data feed and that the budget allows."""
        refused = self.refused(events, features)
        return tuple(name for name in self.use if name not in refused)

    def refused(self, events: Events, features: Features) -> dict[str, str]:
        """The other names of `use`, each with the reason why it is not tried."""
        spent, out = 0.0, {}
        for name in self.use:
            if (name == "profile" and features.people is None) or (
                name == "content" and not features.items.present.any()
            ):
                out[name] = UNFED[name]
                continue
            cost = expected(name, events, features)
            if spent + cost <= self.budget_seconds:
                spent += cost
                continue
            out[name] = (
                f"about {_seconds(cost)} s, over the {_seconds(self.budget_seconds - spent)} s that are left of the budget of"
                f" {self.budget_seconds:g} s; raise recommender.budget_seconds"
            )
        return out

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> Model:
        chosen = self.chosen if self.chosen is not None else Blend(use=self.use)
        return chosen.fit(events, features, rng=rng)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Auto:
        trials: list[Trial] = []
        models: dict[str, Model] = {}
        blend, most = Blend(use=self.use), asked_at_once(fold.train.items)
        refused = self.refused(fold.train, features)
        for name in self.use:
            if name in refused:
                continue
            start = time.perf_counter()
            settings, models[name] = learnt(blend.member(name), fold, features, rng=rng)
            ranks = rank_targets(models[name].score, fold, features.people, most=most)
            trials.append(Trial(name, ranks.ndcg(), ranks.recall(), time.perf_counter() - start, settings))
        if not trials:
            told = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
            raise RecipeError(f"auto: nothing of `use` can be tried; {told}")
        start = time.perf_counter()
        members: dict[str, Any] = {t.name: t.settings for t in trials}
        mixed = replace(blend, **members).weighed(models, fold, features)
        counted = tuple(n for n in models if any(weights[n] > 0 for weights in mixed.tables().values()))
        mixed = replace(mixed, use=counted)
        model = mixed.of({n: models[n] for n in counted})
        ranks = rank_targets(model.score, fold, features.people, most=most)
        trials.append(Trial("blend", ranks.ndcg(), ranks.recall(), time.perf_counter() - start, mixed))
        best = max(trials, key=lambda t: t.ndcg)
        return replace(self, chosen=best.settings, trials=tuple(trials), left_out=refused)


@dataclass(frozen=True)
class Thorough(Auto):
    """Auto with the sequence model in its line-up and twenty minutes: the most that this house can do with order."""

    budget_seconds: float = 1_200.0
    use: tuple[str, ...] = (*LINEAR, "sequence")


def _seconds(value: float) -> str:
    """One digit after the point below ten: estimates are right to a factor of two."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def expected(name: str, events: Events, features: Features) -> float:
    """Seconds that tuning one member takes on two cores of 2024, from sizes alone: right to a factor of about two.

    Each ranking of the P people asked takes 2e-8 · P · I; the constants were fitted to
    catalogues of 1,700 to 12,000 items.
    """
    users, items, rows, size = events.users, events.items, len(events), features.items.size
    people = min(users, asked_at_once(items))
    ranking = 2e-8 * people * items
    known = int(np.count_nonzero(np.bincount(events.item, minlength=items)))
    if name == "popularity":
        return 10 * ranking
    if name == "content":
        touched = min(people * rows / max(users, 1), items)
        return 30 * ranking + touched * items * (5e-11 * size + 1e-7)
    if name == "itemknn":
        return 14 * ranking + 3e-8 * rows * min(rows / max(users, 1), 200)
    if name in ("ease", "directed"):
        exact = known <= (Ease() if name == "ease" else Directed()).dense_items
        return 20 * ranking + (2e-11 * known**3 if exact else 3e-3 * known)
    if name == "graph":
        return 30 * 2e-8 * min(max(CELLS, ASKED[0] * items), min(users, ASKED[1]) * items) + 1e-4 * rows
    if name == "ials":
        return 8 * ranking + 3e-11 * 120 * (rows * 2 * 64**2 + (users + items) * 64**3)
    if name in DEEP:
        from sensorium.models.sequence import Sequence

        sequence = Sequence()
        return sequence.affordable(events, features) * sequence.epoch_work(events, features) / 0.015
    if name in ("hybrid", "lightgcn"):
        return 20 * ranking + rows * (2e-4 if name == "hybrid" else 2e-3)
    if name == "coldaligner":
        return 30 * ranking + 1e-9 * size**2 * items + 1e-4 * rows
    return 3 * ranking
