"""A blend of all: each member's scores on one scale, summed with weights that validation learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import RecipeError
from sensorium.models.content import Content
from sensorium.models.ease import Directed, Ease
from sensorium.models.ials import Ials
from sensorium.models.itemknn import ItemKnn
from sensorium.models.model import Explains, Features, Model, Parts, Recommender
from sensorium.models.popularity import Popularity
from sensorium.models.profile import Profile
from sensorium.settings import nearest
from sensorium.train.ranking import asked, hide

LINEAR = ("popularity", "content", "itemknn", "ease", "directed", "ials", "profile")


@dataclass(frozen=True)
class Blend:
    """score = Σ weight · (a member's score − its mean) ÷ its standard deviation, both over what the history lacks.

    `use` names the members, whose settings are the fields of the same name; `weights` is what each counts (1 where not
    named). `tuned` chooses the members' settings one by one and then the weights, all at or above zero, under which the
    targets of validation are most likely (a softmax over the candidates; concave, so there is one answer).

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

    def __post_init__(self) -> None:
        for name in (*self.use, *self.weights):
            if name not in (*LINEAR, "sequence"):
                raise RecipeError(f"blend: unknown member {name!r}; {nearest(name, (*LINEAR, 'sequence'))}")

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> BlendModel:
        names = [name for name in self.use if self.weights.get(name, 1.0) != 0]
        members = {name: self.member(name).fit(events, features, rng=rng) for name in names}
        return BlendModel(members, {name: float(self.weights.get(name, 1.0)) for name in names})

    def member(self, name: str) -> Recommender:
        """The settings of one member."""
        return getattr(self, name)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Blend:
        """Members first, each alone, then their weights together."""
        out, models = self, {}
        for name in self.use:
            settings = self.member(name)
            if hasattr(settings, "tuned"):
                settings = settings.tuned(fold, features, rng=rng)
            out = replace(out, **{name: settings})
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


def scale(scores: Floats, histories: Histories) -> tuple[Floats, Floats]:
    """The mean (B,) of each row over items outside the history, and 1 ÷ their standard deviation (0 where all are equal).

    The history is left out because it is never recommended, and its own items often stand far above the rest.
    """
    row, item = histories.row, histories.item
    pairs = np.unique(row.astype(np.int64) * scores.shape[1] + item)
    row, item = pairs // scores.shape[1], pairs % scores.shape[1]
    count = np.maximum(scores.shape[1] - np.bincount(row, minlength=len(scores)), 1)
    own = scores[row, item].astype(np.float64)
    mean = (scores.sum(1, dtype=np.float64) - np.bincount(row, own, minlength=len(scores))) / count
    centred = scores - mean[:, None].astype(np.float32)
    square = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
    square -= np.bincount(row, (own - mean[row]) ** 2, minlength=len(scores))
    deviation = np.sqrt(np.maximum(square, 0) / count)
    alive = deviation > 1e-6 * np.abs(scores).max(1, initial=0)
    spread = np.divide(1, deviation, out=np.zeros_like(deviation), where=alive & (deviation > 0))
    return mean.astype(np.float32), spread.astype(np.float32)


def weigh(
    models: Mapping[str, Model], fold: Fold, features: Features, *, people: int = 1_000, uniform: int = 1_000,
    top: int = 100, l2: float = 1e-3, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """The weights under which a softmax over candidates gives the targets the highest likelihood, all ≥ 0.

    Of the candidates, the `top` of every member are kept and `uniform` others stand for the rest.
    **Cost** members · people · (top · members + uniform) · 8 bytes.
    """
    rng = np.random.default_rng(seed)
    names = list(models)
    examples: list[tuple[Floats, Floats, Floats]] = []  # (target features (M,), other features (N, M), log count (N,))
    for batch in asked(fold, features.people, batch=256, most=people, seed=seed):
        standard = []
        for name in names:
            scores = models[name].score(batch.histories)
            centre, spread = scale(scores, batch.histories)
            standard.append((scores - centre[:, None]) * spread[:, None])
        hidden = [hide(scores, batch, fold.candidates) for scores in standard]
        for b in range(len(batch.users)):
            open_ = np.flatnonzero(np.isfinite(hidden[0][b]))
            targets = batch.targets[1][batch.targets[0] == b]
            high = [np.argpartition(-h[b], min(top, len(h[b]) - 1))[:top] for h in hidden]
            chosen = np.intersect1d(np.unique(np.concatenate(high)), open_)
            rest = np.setdiff1d(open_, chosen, assume_unique=True)
            drawn = rest if len(rest) <= uniform else np.sort(rng.choice(rest, uniform, replace=False))
            others = np.concatenate([chosen, drawn])
            log_count = np.zeros(len(others), np.float32)
            log_count[len(chosen) :] = np.log(len(rest) / max(len(drawn), 1)) if len(rest) else 0
            table = np.stack([s[b] for s in standard], 1)
            for target in targets:
                keep = others != target
                examples.append((table[target], table[others[keep]], log_count[keep]))
    if not examples:
        return dict.fromkeys(names, 1.0)
    weights = _most_likely(examples, len(names), l2)
    top_weight = max(float(weights.max()), 1e-9)
    return {name: round(float(w) / top_weight, 4) for name, w in zip(names, weights, strict=True)}


def _most_likely(examples: list[tuple[Floats, Floats, Floats]], size: int, l2: float) -> np.ndarray:
    """The concave likelihood's top under w ≥ 0, by L-BFGS-B from small equal weights."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.5 * l2 * float(weights @ weights), l2 * weights
        for target, others, log_count in examples:
            logit = others @ weights.astype(np.float32) + log_count
            goal = float(target @ weights)
            peak = max(float(logit.max(initial=-np.inf)), goal)
            raised = np.exp(logit - peak)
            whole = float(raised.sum()) + np.exp(goal - peak)
            value += (peak + np.log(whole) - goal) / len(examples)
            mean = (raised @ others + np.exp(goal - peak) * target) / whole
            slope = slope + (mean - target) / len(examples)
        return value, slope

    result = minimize(loss, np.full(size, 0.1), jac=True, method="L-BFGS-B", bounds=[(0, None)] * size,
                      options={"maxiter": 100})  # fmt: skip
    return result.x
