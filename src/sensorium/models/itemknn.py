"""Item k-NN: what those who chose this also chose, in numbers that a handful of coincidences cannot inflate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold
from sensorium.models.choose import asked_at_once, climb
from sensorium.models.kin import Kin, Lift, warmest
from sensorium.models.kinds import check_kinds, counted, walked
from sensorium.models.linear import LinearModel, crowd_known, quieter
from sensorium.models.model import Features
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets

GRID = {
    "decay": (1.0, 0.9, 0.7),
    "weighting": ("plain", "tfidf", "bm25", "rp3"),
    "shrink": (0.0, 10.0, 50.0),
    "k": (30, 100, 300),
    "degree": (0.0, 0.4, 0.8),
}


@dataclass(frozen=True)
class ItemKnn:
    """similarity(i, j) = xᵢ·xⱼ / (|xᵢ|·|xⱼ| + shrink), the `k` best of each candidate kept.

    `weighting` of the matrix of people by items: `plain`, `tfidf` (rare items, modest people count more) or `bm25`. With
    `rp3` it is a walk instead: from item to a person who chose it, to an item they chose, divided by that item's
    popularity ^ `popular`. `degree` counts a person with n items n^−degree times (on top of the walk's own 1 ÷ n). `kinds`
    and `heard` are what events of a kind count where the matrix is learnt, and in a history, `conversion` how far an
    item's rate of a kind counts (see kinds.py). An item that the crowd does not know is what its content says (`kin`).

    **Cost** one sparse product XᵀX. **Source** M. Deshpande, G. Karypis, "Item-based top-N recommendation
    algorithms" (2004); shrinkage: R. Bell, Y. Koren (2007).
    """

    k: int = 100
    shrink: float = 10.0
    weighting: Literal["plain", "tfidf", "bm25", "rp3"] = "plain"
    decay: float = 0.9
    strength: float = 0.0
    degree: float = 0.0
    popular: float = 0.6
    kinds: Mapping[str, float] = field(default_factory=dict)
    heard: Mapping[str, float] = field(default_factory=dict)
    conversion: Mapping[str, float] = field(default_factory=dict)
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, k=(1, INF), shrink=(0, INF), decay=(0, 1), degree=(0, 2), popular=(0, 2))
        within(self, strength=(0, INF))
        check_kinds("itemknn", self.kinds, self.heard, self.conversion)

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LinearModel:
        _, known = crowd_known(events, events.items)
        return self.over(events, features, self.kin.lift(events, features, known))

    def over(self, events: Events, features: Features, lift: Lift) -> LinearModel:
        """The model on a lift that is there already."""
        together = overlap(self.matrix(events, np.flatnonzero(lift.known >= 0)), self.weighting, self.degree)
        weights = _column_best(self.similarity(*together), self.k)
        model = LinearModel(weights, lift, self.decay, self.strength, dict(self.heard))
        return model.leaning(events, self.conversion)

    def matrix(self, events: Events, rows: Rows) -> sparse.csr_array:
        """Who did what with the items `rows`, by kind (U, K)."""
        return counted(events, self.strength, self.kinds).matrix(1.0)[:, rows]

    def similarity(self, product: sparse.csr_array, lengths: Floats) -> sparse.csr_array:
        """Of what `overlap` gives: the cosine, shrunk, or the walk's share."""
        if self.weighting == "rp3":
            return shared(product, lengths, lengths ** np.float32(self.popular), self.shrink)
        return shared(product, lengths, lengths, self.shrink)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> ItemKnn:
        """Shrinkage, weighting, k, decay, people's degree, and what kinds of events count, by NDCG@10 on validation.

        The products XᵀX of two weightings are kept.
        """
        _, known = crowd_known(fold.train, fold.train.items)
        rows, most = np.flatnonzero(known >= 0), asked_at_once(fold.train.items)
        wanted: dict[str, ItemKnn] = {}

        @lru_cache(maxsize=2)
        def products(key: str) -> tuple[sparse.csr_array, Floats]:
            one = wanted[key]
            return overlap(one.matrix(fold.train, rows), one.weighting, one.degree)

        @lru_cache(maxsize=1)  # one matrix serves all decays
        def weights(key: str) -> sparse.csr_array:
            one = wanted[key]
            product = repr((one.weighting, one.degree, dict(one.kinds)))
            wanted[product] = one
            return _column_best(one.similarity(*products(product)), one.k)

        @lru_cache(maxsize=1)
        def lifts(kin: Kin) -> Lift:
            return kin.lift(fold.train, features, known)

        def value(one: ItemKnn) -> float:
            popular = one.popular if one.weighting == "rp3" else None
            key = repr((one.weighting, one.degree, dict(one.kinds), one.shrink, one.k, popular))
            wanted[key] = one
            model = LinearModel(weights(key), lifts(one.kin), one.decay, one.strength, dict(one.heard))
            model = model.leaning(fold.train, one.conversion)
            return rank_targets(model.score, fold, features.people, most=most).ndcg()

        best, height = climb(self, GRID, value)
        if best.weighting == "rp3":
            best, height = climb(best, {"popular": (0.3, 0.8, 1.0)}, value)
        best, height = walked(best, height, fold, value)
        kin, _ = warmest(best.kin, lambda kin: value(replace(best, kin=kin)), height, features)
        return replace(best, kin=kin)


def overlap(matrix: sparse.csr_array, weighting: str, degree: float = 0.0) -> tuple[sparse.csr_array, Floats]:
    """XᵀX without its diagonal (K, K), X being the weighted matrix (U, K), and the lengths of the columns of X (K,): of the
    walk how often each was chosen.
    """
    if weighting == "rp3":
        lengths = np.asarray(np.abs(matrix).sum(0), np.float32).ravel()
        matrix = sparse.csr_array(sparse.diags_array(quieter(matrix, min(1 + degree, 2))) @ matrix)
    else:
        matrix = weighted(matrix, weighting)
        if degree:
            matrix = sparse.csr_array(sparse.diags_array(quieter(matrix, degree)) @ matrix)
        lengths = np.sqrt(matrix.multiply(matrix).sum(0)).ravel()
    product = (matrix.T @ matrix).tocsr()
    product.setdiag(0)
    product.eliminate_zeros()
    return product, lengths


def shared(product: sparse.csr_array, left: Floats, right: Floats, shrink: float) -> sparse.csr_array:
    """product_ij / (left_i · right_j + shrink); with the lengths of the columns on both sides it is the cosine."""
    row = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
    values = product.data / (left[row] * right[product.indices] + np.float32(shrink))
    return sparse.csr_array((values.astype(np.float32), product.indices, product.indptr), shape=product.shape)


def weighted(matrix: sparse.csr_array, weighting: str, *, k1: float = 1.2, b: float = 0.75) -> sparse.csr_array:
    """People by items reweighted as documents by words: rare items speak louder, people with long lists softer."""
    if weighting == "plain":
        return matrix
    out = matrix.astype(np.float32).copy()
    row = np.repeat(np.arange(out.shape[0]), np.diff(out.indptr))
    length = np.asarray(out.sum(1)).ravel()
    chosen_by = np.bincount(out.indices, minlength=out.shape[1])
    rare = np.log((out.shape[0] + 1) / (1 + chosen_by)).astype(np.float32)
    if weighting == "tfidf":
        out.data *= rare[out.indices] / np.sqrt(np.maximum(np.diff(out.indptr), 1))[row]
    else:
        mean = max(float(length.mean()), 1e-9)
        saturated = out.data * (k1 + 1) / (out.data + k1 * (1 - b + b * length[row] / mean))
        out.data = (saturated * rare[out.indices]).astype(np.float32)
    return out


def _column_best(matrix: sparse.csr_array, k: int) -> sparse.csr_array:
    """The k largest entries of each column; ties keep the lower row. **Cost** one plain sort of all entries."""
    turned = matrix.T.tocsr()
    turned.sort_indices()
    count = np.diff(turned.indptr)
    column = np.repeat(np.arange(len(count)), count)
    full = np.flatnonzero(count > k)
    least = np.full(len(count), -np.inf, np.float32)
    least[full] = _sorted_within(turned.data, column)[turned.indptr[full + 1] - k]
    above, level = turned.data > least[column], turned.data == least[column]
    room = k - np.bincount(column[above], minlength=len(count))
    earlier = np.cumsum(level) - level  # ties before this one; less those of the columns before
    kept = above | (level & (earlier - earlier[turned.indptr[column]] < room[column]))
    out = sparse.csr_array(
        (turned.data[kept], (turned.indices[kept], column[kept])), shape=matrix.shape, dtype=np.float32
    )
    out.sort_indices()
    return out


def _sorted_within(values: Floats, group: Rows) -> Floats:
    """Values sorted within their groups, which ascend. Group and value in one whole number sort together, and fastest."""
    bits = values.view(np.int32)
    bits = bits ^ ((bits >> 31) & np.int32(2**31 - 1))  # in the order of the values, also below zero
    key = (group.astype(np.int64) << 32) + bits
    key.sort()
    bits = key.astype(np.int32)  # the lower half
    return (bits ^ ((bits >> 31) & np.int32(2**31 - 1))).view(np.float32)
