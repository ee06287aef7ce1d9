"""Hybrid factorisation: people and items as sums of what is known of them: who they are, features, pictures, words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sensorium.arrays import Floats, Rows, slices
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import RecipeError
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.hybrid.factors import Factors, Given, Matrix
from sensorium.models.hybrid.tables import OPTIMIZERS, Table
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features
from sensorium.settings import INF, nearest, within
from sensorium.train.ranking import rank_targets

TURNS = 8  # steps of a fold-in; see HybridModel.user_vectors
PARTITION = 4096  # items that stand for all in a fold-in


@dataclass(frozen=True)
class Hybrid:
    """Matrix factorisation with features, by the loss of your choice; a superset of LightFM (docs/from-lightfm.md).

    `fit` learns from events, as every recommender does; `factors` from a matrix and features, row by row.
    `dense` names what is projected into the space of the factors: "fused", one modality or several ("text+image"),
    or "". VBPR is `Hybrid(loss="bpr", dense="image")`. `user_l2` and `item_l2` shrink every row a little at each sample;
    `fold_l2` is the penalty of a person who is folded in; `full` the largest catalogue whose softmax is not sampled.

    **Cost** epochs · E · size · (3 + draws). **Source** M. Kula, "Metadata embeddings for user and item cold-start
    recommendations" (2015); J. Weston, H. Yee, R. Weiss, "Learning to rank recommendations with the k-order statistic
    loss" (2013); R. He, J. McAuley, "VBPR" (2016); S. Rendle et al., "BPR" (2009).
    """

    size: int = 64
    loss: Literal["logistic", "bpr", "warp", "warp-kos", "softmax"] = "softmax"
    optimizer: Literal["adagrad", "adadelta", "adam"] = "adagrad"
    learning_rate: float = 0.05
    epochs: int = 30
    user_l2: float = 0.0
    item_l2: float = 0.0
    max_sampled: int = 10
    k: int = 5
    n: int = 10
    rho: float = 0.95
    epsilon: float = 1e-6
    averaged: float = 0.0
    popular: bool = False
    full: int = 5_000
    threads: int = 1
    block: int = 1024
    hogwild: bool = False
    dense: str = "fused"
    people: bool = True
    strength: float = 0.0
    decay: float = 1.0
    fold_l2: float = 10.0

    def __post_init__(self) -> None:
        within(
            self, size=(1, 4096), learning_rate=(0, INF), epochs=(0, INF), user_l2=(0, INF), item_l2=(0, INF),
            max_sampled=(1, 100_000), k=(1, INF), n=(1, 100_000), rho=(0, 1), epsilon=(0, 1), full=(0, INF),
            threads=(1, 256), block=(1, INF), decay=(0, 1), averaged=(0, 1), fold_l2=(1e-6, INF), strength=(0, INF),
        )  # fmt: skip
        for name, known in (("loss", LOSSES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise RecipeError(
                    f"hybrid: {name} = {getattr(self, name)!r} is not known; {nearest(getattr(self, name), known)}"
                )

    def whole(self, items: int) -> bool:
        """Whether the softmax goes over all of so many items."""
        return self.loss == "softmax" and items <= self.full

    def factors(
        self, interactions: Matrix, given: Given | None = None, *, weights: Matrix | np.ndarray | None = None,
        epochs: int | None = None, rng: np.random.Generator,
    ) -> Factors:  # fmt: skip
        """Factors of a matrix (U, I): above 0 what was liked, other stored entries what was not."""
        none = Table.drawn(0, self.size, self.optimizer, rng)
        nobody = np.zeros((0, self.size + 1), np.float32)
        start = Factors(self, none, none, none, none, nobody, nobody)
        return start.updated(interactions, given, weights=weights, epochs=epochs, rng=rng)

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> HybridModel:
        """Learns from events; items that nobody had are what their content says, about an average item."""
        rows, _ = crowd_known(events, events.items)
        dense = dense_of(features, self.dense)
        people = features.people.values if self.people and features.people is not None else None
        if people is not None:  # rows for everybody who did something, also for those who say nothing
            people = _fitted_rows(people, events.users)
        matrix = events.matrix(self.strength)[:, rows].tocoo()
        fitted = self.factors(
            matrix, Given(dense_items=dense[rows], dense_users=people), weights=np.abs(matrix.data), rng=rng
        )
        own = fitted.items - dense[rows] @ fitted.item_projection.value
        mean = own.mean(0) if len(rows) else np.zeros(self.size + 1, np.float32)
        items = np.tile(mean, (events.items, 1))
        items[rows] = own
        if dense.shape[1]:
            items += dense @ fitted.item_projection.value
        chosen = rows
        if len(rows) > PARTITION:
            chosen = np.sort(np.random.default_rng(0).choice(rows, PARTITION, replace=False))
        share = np.bincount(events.item, minlength=events.items)[chosen].astype(np.float32)
        share /= max(float(share.sum()), 1.0)
        q = items[chosen, 1:].astype(np.float64)
        centre = share.astype(np.float64) @ q
        spread, basis = np.linalg.eigh((q * share[:, None]).T @ q - np.outer(centre, centre))
        return HybridModel(
            items.astype(np.float32), fitted.item_projection.value, fitted.user_projection.value, mean.astype(np.float32),
            chosen, basis.astype(np.float32), np.maximum(spread, 0).astype(np.float32),
            self.dense, self.strength, self.decay, self.fold_l2,
        )  # fmt: skip

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Hybrid:
        """Rate, epochs and size, and then the fold-in's penalty and decay, by NDCG@10 on validation.

        **Cost** six fits and eight more rankings; a log of more than `MANY` events is fitted twice.
        """

        def fitted(settings: Hybrid) -> HybridModel:
            return settings.fit(fold.train, features, rng=np.random.default_rng(0))

        def value(model: HybridModel) -> float:
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        grid: dict[str, tuple[float, ...]] = {"learning_rate": (0.15,)}
        if len(fold.train) <= MANY:
            grid |= {"epochs": (10, 60), "size": (32, 128)}
        best, _ = climb(self, grid, lambda settings: value(fitted(settings)))
        model = fitted(best)
        again = {"fold_l2": FOLDS, "decay": DECAYS}
        return climb(best, again, lambda s: value(replace(model, fold_l2=s.fold_l2, decay=s.decay)))[0]


FOLDS = (1.0, 3.0, 30.0, 100.0)  # penalties of a fold-in that validation tries
DECAYS = (0.99, 0.97, 0.9)  # of a history, a step back
MANY = 400_000  # events
LOSSES = ("logistic", "bpr", "warp", "warp-kos", "softmax")


@dataclass(frozen=True, eq=False)
class HybridModel:
    """**Shapes** items (I, W), bias first; projection (D, W) of content; profile (P, W) of people; mean (W,): the own part
    of an item nobody had; partition (S,): the items a fold-in looks at; basis (F, F), spread (F,): the directions in
    which popular items differ, and how much.
    """

    items: Floats
    projection: Floats
    profile: Floats
    mean: Floats
    partition: Rows
    basis: Floats
    spread: Floats
    dense: str
    strength: float
    decay: float
    fold_l2: float

    def item_vectors(self) -> Floats:
        """**Shapes** (I, W)."""
        return self.items

    def user_vectors(self, histories: Histories) -> Floats:
        """The person whose softmax over items makes each history likeliest, about what their profile foretells. (B, W).

        The first column is 1. The loss is convex in the person; each of `TURNS` steps is a gradient divided by the
        curvature it would have if all were chosen as often as they are popular.
        """
        matrix = histories.matrix(len(self.items), decay=self.decay, strength=self.strength)
        matrix.data = np.maximum(matrix.data, 0)
        out = np.ones((len(histories), self.items.shape[1]), np.float32)
        start = np.zeros((len(histories), self.items.shape[1] - 1), np.float32)
        given = histories.profile
        if given is not None and given.shape[1] == len(self.profile):
            start = given @ self.profile[:, 1:]
        q, bias = self.items[self.partition, 1:], self.items[self.partition, 0]
        for part in slices(len(histories), 512):
            some = matrix[part]
            mass = np.asarray(some.sum(1)).astype(np.float32).reshape(-1, 1)
            wanted = np.asarray(some @ self.items[:, 1:], np.float32)
            person = start[part]
            curve = 1 / (mass * self.spread + np.float32(self.fold_l2))
            for _ in range(TURNS if len(q) else 0):
                shares = person @ q.T + bias
                shares -= shares.max(1, keepdims=True)
                np.exp(shares, out=shares)
                shares /= shares.sum(1, keepdims=True)
                slope = wanted - mass * (shares @ q) - np.float32(self.fold_l2) * (person - start[part])
                person = person + ((slope @ self.basis) * curve) @ self.basis.T
            out[part, 1:] = person
        return out

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C)."""
        items = self.items if candidates is None else self.items[candidates]
        return self.user_vectors(histories) @ items.T

    def extended(self, features: Features) -> HybridModel:
        """New items are an average item moved by what their content says."""
        more = np.arange(len(self.items), len(features.items))
        new = np.tile(self.mean, (len(more), 1))
        dense = dense_of(features, self.dense)[more]
        if dense.shape[1] == len(self.projection) and len(self.projection):
            new = new + dense @ self.projection
        return replace(self, items=np.concatenate([self.items, new.astype(np.float32)]))


def dense_of(features: Features, names: str) -> Floats:
    """The vectors (I, D) that `names` asks for, side by side, D = 0 for none. **Raises** RecipeError for an unknown view."""
    if names == "fused" and features.items.present.any():
        return features.items.values
    chosen = []
    for name in names.split("+") if names not in ("", "fused") and features.views else ():
        if name not in features.views:
            raise RecipeError(f"hybrid: dense = {names!r} names no view of this run; {nearest(name, features.views)}")
        chosen.append(features.views[name].values)
    return np.concatenate(chosen, axis=1) if chosen else np.zeros((len(features.items), 0), np.float32)


def _fitted_rows(values: Floats, rows: int) -> Floats:
    """The first rows, or rows of zeros behind them where there are fewer."""
    short = max(rows - len(values), 0)
    return np.concatenate([values[:rows], np.zeros((short, values.shape[1]), np.float32)])
