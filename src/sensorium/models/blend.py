"""A blend of all: each member's scores on one scale, summed with weights that validation learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import RecipeError
from sensorium.models.content import Content
from sensorium.models.ease import Directed, Ease
from sensorium.models.ials import Ials
from sensorium.models.itemknn import ItemKnn
from sensorium.models.mixing import Pool, scale
from sensorium.models.model import Explains, Features, Model, Parts, Recommender
from sensorium.models.popularity import Popularity
from sensorium.models.profile import Profile
from sensorium.settings import nearest

DEEP = ("sequence", "lstm")  # tried where they are named: they take minutes
LINEAR = ("popularity", "content", "itemknn", "ease", "directed", "ials", "profile")


@dataclass(frozen=True)
class Blend:
    """score = Σ weight · (a member's score − its mean) ÷ its standard deviation, both over what the history lacks.

    `use` names the members, whose settings are the fields of the same name; `weights` is what each counts (1 where not
    named). `tuned` chooses the members' settings one by one and then the weights, all at or above zero, under which the
    targets of validation stand highest (see `weigh`).

    **Cost** the members'.
    """

    use: tuple[str, ...] = LINEAR
    weights: Mapping[str, float] = field(default_factory=dict)
    popularity: Popularity = field(default_factory=Popularity)
    content: Content = field(default_factory=Content)
    itemknn: ItemKnn = field(default_factory=ItemKnn)
    ease: Ease = field(default_factory=Ease)
    directed: Directed = field(default_factory=Directed)
    ials: Ials = field(default_factory=Ials)
    profile: Profile = field(default_factory=Profile)
    sequence: Any = None
    lstm: Any = None

    def __post_init__(self) -> None:
        for name in (*self.use, *self.weights):
            if name not in (*LINEAR, *DEEP):
                raise RecipeError(f"blend: unknown member {name!r}; {nearest(name, (*LINEAR, *DEEP))}")

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> BlendModel:
        names = [name for name in self.use if self.weights.get(name, 1.0) != 0]
        members = {name: self.member(name).fit(events, features, rng=rng) for name in names}
        return BlendModel(members, {name: float(self.weights.get(name, 1.0)) for name in names})

    def member(self, name: str) -> Recommender:
        """The settings of one member; the sequence models are opened only where they are named."""
        if name in DEEP and getattr(self, name) is None:
            from sensorium.models.sequence import Lstm, Sequence

            return Sequence() if name == "sequence" else Lstm()
        return getattr(self, name)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Blend:
        """Members first, each alone, then their weights together. Where weights are set, the members were chosen before:
        then the weights alone are learnt anew (for other features, as in the knock-out table).
        """
        out, models = self, {}
        for name in self.use:
            settings = self.member(name)
            if not self.weights and hasattr(settings, "tuned"):
                settings = settings.tuned(fold, features, rng=rng)
            out = replace(out, **{name: settings})  # type: ignore[arg-type]
            models[name] = settings.fit(fold.train, features, rng=rng)
        return replace(out, weights=weigh(models, fold, features))


@dataclass(frozen=True, eq=False)
class BlendModel:
    """Fitted members and what each counts."""

    members: dict[str, Any]
    weights: dict[str, float]

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). Every member scores all items, for its scale is taken over all."""
        total: Floats | None = None
        for name, model in self.members.items():
            scores = model.score(histories)
            centre, spread = scale(scores, histories)
            part = (scores if candidates is None else scores[:, candidates]) - centre[:, None]
            part *= (self.weights[name] * spread)[:, None]
            total = part if total is None else total + part
        if total is None:
            raise RecipeError("blend: no member has a weight above 0; name some in `use`")
        return total

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """The members' parts on the common scale; a member that cannot be taken apart counts as the base."""
        pieces: list[tuple[str, Floats]] = []
        base = np.zeros(len(candidates), np.float32)
        for name, model in self.members.items():
            scores = model.score(history)
            centre, spread = scale(scores, history)
            factor = np.float32(self.weights[name]) * spread[0]
            if isinstance(model, Explains):
                own = model.parts(history, candidates)
                base += factor * (own.base - centre[0])
                pieces += [(source, factor * own.values[:, :, s]) for s, source in enumerate(own.sources)]
            else:
                base += factor * (scores[0, candidates] - centre[0])
        sources = tuple(dict.fromkeys(source for source, _ in pieces)) or ("crowd",)
        values = np.zeros((len(candidates), len(history.item), len(sources)), np.float32)
        for source, value in pieces:
            values[:, :, sources.index(source)] += value
        return Parts(values, base, sources)

    def extended(self, features: Features) -> BlendModel:
        """Every member extended."""
        return replace(self, members={name: model.extended(features) for name, model in self.members.items()})


def weigh(
    models: Mapping[str, Model], fold: Fold, features: Features, *, people: int = 1_000, uniform: int = 1_000,
    top: int = 100, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """The weights ≥ 0 under which the targets stand highest: a walk along one weight at a time, from equal ones.

    What is climbed is the mean gain 1 ÷ log₂(rank + 2) with no cut at 10: every target moves it, so that a few hundred
    people suffice where NDCG@10 itself would be fitted to chance. Of the candidates, the `top` of every member are kept
    and `uniform` others stand for the rest.

    **Cost** people · (top · members + uniform) · members · 4 bytes, and that many operations for each of ~200 steps.
    """
    names = list(models)
    if not names:
        return {}
    pool = Pool.drawn(models, fold, features, people=people, uniform=uniform, top=top, seed=seed)
    if not len(pool.row):
        return dict.fromkeys(names, 1.0)
    weights = pool.climbed()
    return {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}
