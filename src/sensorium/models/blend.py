"""A blend of all: each member's scores on one scale, summed with weights that validation learns."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import RecipeError
from sensorium.models.content import Content
from sensorium.models.ease import Directed, Ease
from sensorium.models.ials import Ials
from sensorium.models.itemknn import ItemKnn
from sensorium.models.mixing import Pool, scale
from sensorium.models.model import Explains, Features, Model, Parts, Pull, Pulls, Recommender
from sensorium.models.popularity import Popularity
from sensorium.models.profile import Profile
from sensorium.settings import nearest, read_settings

LINEAR = ("popularity", "content", "itemknn", "ease", "directed", "ials", "graph", "profile")
DEEP = ("sequence", "lstm")  # tried where they are named: they take minutes
LATER = {  # members that are imported where they are named
    "graph": "graph:Graph",
    "coldaligner": "coldaligner:ColdAligner",
    "hybrid": "hybrid:Hybrid",
    "lightgcn": "lightgcn:LightGcn",
    "sequence": "sequence:Sequence",
    "lstm": "sequence:Lstm",
}


@dataclass(frozen=True)
class Blend:
    """score = Σ weight · (a member's score − its mean) ÷ its standard deviation, both over what the history lacks.

    `use` names the members, whose settings are the fields of the same name; `weights` is what each counts (1 where not
    named), `by_length` the same for people whose histories have at least so many events, where they need other weights.
    `tuned` chooses the members' settings one by one and then the weights, all at or above zero, under which the targets
    of validation stand highest (see `weigh`).

    **Cost** the members'.
    **Source** scores on one scale: M. Montague, J. Aslam, "Relevance score normalization for metasearch" (2001); weights at
    or above zero: L. Breiman, "Stacked regressions" (1996); learnt by walks along one at a time: D. Metzler, W. B. Croft,
    "Linear feature-based models for information retrieval" (2007).
    """

    use: tuple[str, ...] = LINEAR
    weights: Mapping[str, float] = field(default_factory=dict)
    by_length: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    popularity: Popularity = field(default_factory=Popularity)
    content: Content = field(default_factory=Content)
    itemknn: ItemKnn = field(default_factory=ItemKnn)
    ease: Ease = field(default_factory=Ease)
    directed: Directed = field(default_factory=Directed)
    ials: Ials = field(default_factory=Ials)
    profile: Profile = field(default_factory=Profile)
    graph: Any = None
    coldaligner: Any = None
    hybrid: Any = None
    lightgcn: Any = None
    sequence: Any = None
    lstm: Any = None

    def __post_init__(self) -> None:
        for name in (*self.use, *self.weights, *(name for own in self.by_length.values() for name in own)):
            if name not in (*LINEAR, *LATER):
                raise RecipeError(f"blend: unknown member {name!r}; {nearest(name, (*LINEAR, *LATER))}")
        if len(set(self.use)) < len(self.use):
            raise RecipeError(f"blend: use = {list(self.use)} names a member twice")
        for weights in (self.weights, *self.by_length.values()):
            for name, weight in weights.items():
                if not 0 <= weight < math.inf:
                    raise RecipeError(f"blend: the weight {weight!r} of {name} should be a number of at least 0")
        for least in self.by_length:
            if not least.isdigit():
                raise RecipeError(f"blend: by_length has {least!r} where a number of events should stand")

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> BlendModel:
        """**Raises** RecipeError where no member counts anything: nothing could be answered."""
        names = [name for name in self.use if any(weights.get(name, 1.0) != 0 for weights in self.tables().values())]
        if not names:
            raise RecipeError("blend: no member has a weight above 0; name some in `use`")
        return self.of({name: self.member(name).fit(events, features, rng=rng) for name in names})

    def of(self, members: Mapping[str, Model]) -> BlendModel:
        """The blend of models that are fitted already."""
        tables = self.tables()
        shares = [[float(weights.get(name, 1.0)) for name in members] for weights in tables.values()]
        return BlendModel(dict(members), np.array(list(tables)), np.array(shares, np.float32).reshape(len(tables), -1))

    def tables(self) -> dict[int, Mapping[str, float]]:
        """From how many events on which weights count, ascending from 0."""
        own = {int(least): weights for least, weights in self.by_length.items()}
        return dict(sorted(({0: self.weights} | own).items()))

    def member(self, name: str) -> Recommender:
        """The settings of one member; what takes long to import is opened only where it is named."""
        settings = getattr(self, name)
        if name in LATER and (settings is None or isinstance(settings, Mapping)):  # a mapping is what a recipe says
            module, _, thing = LATER[name].partition(":")
            kind = getattr(importlib.import_module(f"sensorium.models.{module}"), thing)
            return read_settings(kind, settings or {}, where=f"blend.{name}")
        return settings

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Blend:
        """Members first, each alone, then their weights together. Where weights are set, the members were chosen before:
        then the weights alone are learnt anew, for the features there are (other ones in the knock-out table, other
        people where a recipe of `sensorium tune` is trained). What was written is not kept.
        """
        out, models = self, {}
        for name in self.use:
            settings = self.member(name)
            if self.weights:
                models[name] = settings.fit(fold.train, features, rng=rng)
            else:
                settings, models[name] = learnt(settings, fold, features, rng=rng)
            out = replace(out, **{name: settings})  # type: ignore[arg-type]
        return out.weighed(models, fold, features)

    def weighed(self, models: Mapping[str, Model], fold: Fold, features: Features) -> Blend:
        """The same with the weights that these fitted members should have."""
        weights, by_length = weigh(models, fold, features)
        return replace(self, weights=weights, by_length=by_length)


@dataclass(frozen=True, eq=False)
class BlendModel:
    """Fitted members and what each counts. **Shapes** lengths (G,) ascending; weights (G, M), in the order of `members`."""

    members: dict[str, Any]
    lengths: Rows
    weights: Floats

    def shares(self, histories: Histories) -> Floats:
        """What each member counts for each history (B, M): by the last group whose least length it reaches."""
        if len(self.lengths) == 1:
            return np.repeat(self.weights, len(histories), axis=0)
        group = np.searchsorted(self.lengths, np.diff(histories.start), "right") - 1
        return self.weights[np.maximum(group, 0)]

    def tables(self) -> tuple[Floats, ...] | None:
        """Those of the members; None where one has none."""
        found: list[Floats] = []
        for model in self.members.values():
            own = model.tables() if isinstance(model, Pulls) else None
            if own is None or len(own) != 1:
                return None
            found += own
        return tuple(found) or None

    def pulls(self, history: Histories) -> tuple[Pull, ...]:
        """The members', each with its share."""
        shares = self.shares(history)[0]
        return tuple(
            replace(model.pulls(history)[0], share=float(share))
            for model, share in zip(self.members.values(), shares, strict=True)
        )

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). Every member scores all items, for its scale is taken over all."""
        total: Floats | None = None
        shares = self.shares(histories)
        for place, model in enumerate(self.members.values()):
            scores = model.score(histories)
            centre, spread = scale(scores, histories)
            part = (scores if candidates is None else scores[:, candidates]) - centre[:, None]
            part *= (shares[:, place] * spread)[:, None]
            total = part if total is None else total + part
        if total is None:
            raise RecipeError("blend: no member has a weight above 0; name some in `use`")
        return total

    def parts(self, history: Histories, candidates: Rows, scales: Sequence[tuple[float, float]] | None = None) -> Parts:
        """The members' parts on the common scale; a member that cannot be taken apart counts as the base.

        `scales`: each member's mean and 1 ÷ deviation, where they are known already.
        """
        pieces: list[tuple[str, Floats]] = []
        base = np.zeros(len(candidates), np.float32)
        shares = self.shares(history)[0]
        for place, model in enumerate(self.members.values()):
            centre, spread = scales[place] if scales else (x[0] for x in scale(model.score(history), history))
            factor = np.float32(shares[place] * spread)
            if isinstance(model, Explains):
                own = model.parts(history, candidates)
                base += factor * (own.base - np.float32(centre))
                pieces += [(source, factor * own.values[:, :, s]) for s, source in enumerate(own.sources)]
            else:
                base += factor * (model.score(history, candidates)[0] - np.float32(centre))
        sources = tuple(dict.fromkeys(source for source, _ in pieces)) or ("crowd",)
        values = np.zeros((len(candidates), len(history.item), len(sources)), np.float32)
        for source, value in pieces:
            values[:, :, sources.index(source)] += value
        return Parts(values, base, sources)

    def weighing(self, members: Mapping[str, float]) -> BlendModel:
        """The same members under other weights, for people of every length of history; what is not named counts nothing.

        **Raises** RecipeError for a name that is no member, or where nothing is left.
        """
        for name in members:
            if name not in self.members:
                raise RecipeError(f"blend: no member {name!r}; {nearest(name, self.members)}")
        kept = {name: model for name, model in self.members.items() if members.get(name, 0) > 0}
        if not kept:
            raise RecipeError("blend: no member has a weight above 0; name some")
        weights = np.array([[members[name] for name in kept]], np.float32)
        return replace(self, members=kept, lengths=np.zeros(1, np.int64), weights=weights)

    def extended(self, features: Features) -> BlendModel:
        """Every member extended."""
        return replace(self, members={name: model.extended(features) for name, model in self.members.items()})


def learnt(settings: Any, fold: Fold, features: Features, *, rng: np.random.Generator) -> tuple[Any, Model]:
    """A member's settings as the fold chooses them, and the model they give of its training part.

    A member whose search ends with that model (`learnt` of its own) is not trained a second time.
    """
    if hasattr(settings, "learnt"):
        return settings.learnt(fold, features, rng=rng)
    if hasattr(settings, "tuned"):
        settings = settings.tuned(fold, features, rng=rng)
    return settings, settings.fit(fold.train, features, rng=rng)


def weigh(
    models: Mapping[str, Model], fold: Fold, features: Features, *, people: int = 2_500, uniform: int = 1_000,
    top: int = 100, seed: int = 0,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:  # fmt: skip
    """The weights ≥ 0 under which the targets stand highest: the mean of walks along one weight at a time, from equal ones.

    What is climbed is the mean gain 1 ÷ log₂(rank + 2) with no cut at 10: every target moves it, so that a few hundred
    people suffice where NDCG@10 itself would be fitted to chance. Of the candidates, the `top` of every member are kept
    and `uniform` others stand for the rest. Besides, the weights by length of history that prove better (`by_length`).

    **Cost** people · (top · members + uniform) · members · 4 bytes, and that many operations for each of ~2,000 steps.
    """
    names = list(models)
    if not names:
        return {}, {}
    pool = Pool.drawn(models, fold, features, people=people, uniform=uniform, top=top, seed=seed)
    if not len(pool.row):
        return dict.fromkeys(names, 1.0), {}

    def named(weights: NDArray[np.float64]) -> dict[str, float]:
        return {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}

    common = pool.bagged(seed)
    return named(common), {str(least): named(own) for least, own in pool.by_length(common, seed).items()}
