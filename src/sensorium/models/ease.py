"""EASE: the best linear item-to-item model in closed form, hard to beat where there is a crowd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats
from sensorium.data.events import Events, Fold
from sensorium.models.directed import Directed as Directed
from sensorium.models.kin import Kin, Lift
from sensorium.models.kinds import check_kinds, counted
from sensorium.models.linear import LinearModel, crowd_known, kept, quieter
from sensorium.models.local import local_ridge
from sensorium.models.model import Features
from sensorium.models.ridge import columns, ease_weights, ease_weights_of_few
from sensorium.models.tuning import tuned_linear
from sensorium.settings import INF, within

FEW = 3  # people are few where that many times their number is below the number of items; then they are twice as quick
LARGE = 5_000  # items from which on an exact fit takes seconds and only decay and penalty are tuned
PAIRS = 20_000_000  # pairs of items that met, from which on a fit takes minutes and tuning the matrix is left out


@dataclass(frozen=True)
class Ease:
    """The item-by-item matrix B with a zero diagonal that best rebuilds who chose what, under a ridge penalty.

    The penalty of an item is `l2` + `dropout` ÷ (1 − `dropout`) · how often it was chosen: what leaving out each choice with
    that probability comes to. `degree` counts a person with n items n^−degree times (scaled so that an event still counts
    1 on average). `content` adds content · V Vᵀ to the Gram matrix, so that the vectors V of the items speak like that many
    more people: B is drawn to what is alike. `strength` lets the weights of events count (0: what was done counts, not
    how strongly), and `kinds` what an event of a kind counts; scoring multiplies the history, decayed by `decay` a step
    back, with B, `heard` being what the kinds count there and `conversion` how far an item's rate of a kind does.

    Up to `dense_items` items the solution is exact. Beyond, each column is solved on the `near` items most alike with it
    (see local.py): ten times as fast, sparse, and nearly as good where items meet often (Amazon Beauty), but blind to
    items that never met, which costs half of the accuracy where events are few (tiktok). Items without events stand in for
    their content neighbours (`kin`). `keep` > 0 stores only that many entries of each column.

    **Cost** exact: K³ operations and 4 K² bytes; U K² operations for few people. Local: K · near³ ÷ 3.
    **Source** H. Steck, "Embarrassingly shallow autoencoders for sparse data" (2019), "Autoencoders that don't overfit
    towards the identity" (2020); rows of content: O. Jeunen et al., "Closed-form models for collaborative filtering with
    side-information" (2020).
    """

    l2: float = 200.0
    dropout: float = 0.0
    decay: float = 0.8
    strength: float = 0.0
    degree: float = 0.0
    content: float = 0.0
    kinds: Mapping[str, float] = field(default_factory=dict)
    heard: Mapping[str, float] = field(default_factory=dict)
    conversion: Mapping[str, float] = field(default_factory=dict)
    keep: int = 0
    near: int = 200
    dense_items: int = 20_000
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, l2=(0, INF), dropout=(0, 0.99), decay=(0, 1), degree=(0, 1), content=(0, INF))
        within(self, keep=(0, INF), near=(1, INF), dense_items=(0, INF), strength=(0, INF))
        check_kinds("ease", self.kinds, self.heard, self.conversion)

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LinearModel:
        _, known = crowd_known(events, events.items)
        return self.over(events, features, self.kin.lift(events, features, known))

    def over(self, events: Events, features: Features, lift: Lift) -> LinearModel:
        """The model on a lift that is there already."""
        weights = kept(self.solved(events, features, np.flatnonzero(lift.known >= 0)), self.keep)
        model = LinearModel(weights, lift, self.decay, self.strength, dict(self.heard))
        return model.leaning(events, self.conversion)

    def solved(self, events: Events, features: Features, rows: np.ndarray) -> Floats | sparse.csr_array:
        """The matrix B of the items `rows` (K,), dense or, where they are many, sparse (K, K)."""
        matrix = counted(events, self.strength, self.kinds).matrix(1.0)[:, rows]
        if self.degree:
            matrix = sparse.csr_array(sparse.diags_array(quieter(matrix, self.degree)) @ matrix)
        vectors = None
        if self.content and features.items.present.any():
            vectors = np.ascontiguousarray(np.sqrt(np.float32(self.content)) * features.items.values[rows])
        penalty = np.full(len(rows), self.l2, np.float32)
        if self.dropout:
            penalty += np.float32(self.dropout / (1 - self.dropout)) * matrix.multiply(matrix).sum(0).ravel()
        if len(rows) > self.dense_items:
            product = sparse.csr_array(matrix.T @ matrix)
            return local_ridge(product, product, penalty, near=self.near, itself=False, keep=self.keep, vectors=vectors)
        l2 = penalty if self.dropout else self.l2
        if FEW * (matrix.shape[0] + (0 if vectors is None else vectors.shape[1])) < len(rows):
            # A number of the vector is one more person, who chose each item that strongly.
            choices = matrix.toarray() if vectors is None else np.concatenate([matrix.toarray(), vectors.T])
            return ease_weights_of_few(choices, l2)
        gram = columns(matrix.T @ matrix)
        if vectors is not None:
            gram += vectors @ vectors.T
        return ease_weights(gram, l2)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Ease:
        """Penalty, decay, dropout, people's degree and content by NDCG@10 on validation; the larger the catalogue the
        shorter the lists, down to the decay alone.
        """
        items, decays = len(np.unique(fold.train.item)), {"decay": (1.0, 0.9, 0.8, 0.7, 0.5)}
        if pairs(fold.train) > PAIRS:
            # Where people have hundreds of items each, the penalty that is right is far above the usual one.
            first = {"l2": (500.0, 1_000.0, 2_000.0), "degree": (0.3,)} if items <= LARGE else {}
            return tuned_linear(self, fold, features, {**first, **decays})
        told = {"content": (0.0, 3.0, 30.0, 300.0)} if features.items.present.any() else {}
        if items > LARGE:
            first = {**decays, "l2": (50.0, 200.0, 600.0)}
            return tuned_linear(self, fold, features, first, told if items > self.dense_items else {})
        first = {**decays, "l2": (20.0, 50.0, 200.0, 500.0, 1_000.0, 2_000.0)}
        second = {"degree": (0.0, 0.3, 0.6), "dropout": (0.0, 0.3, 0.6), **told, **first}
        return tuned_linear(self, fold, features, first, second)


def pairs(events: Events) -> int:
    """How many pairs of items met in one person at the most: the entries of a sparse Gram matrix."""
    count = np.bincount(events.user, minlength=1).astype(np.float64)
    return int((count**2).sum())
