"""Item k-NN: what those who chose this also chose, in numbers that a handful of coincidences cannot inflate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.kin import Kin, Lift, warmest
from sensorium.models.linear import LinearModel, crowd_known
from sensorium.models.model import Features
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets


@dataclass(frozen=True)
class ItemKnn:
    """similarity(i, j) = xᵢ·xⱼ / (|xᵢ|·|xⱼ| + shrink), the `k` best of each candidate kept.

    `weighting` of the matrix of people by items: `plain`, `tfidf` (rare items, modest people count more) or `bm25`.
    An item that the crowd does not know is what its content says (`kin`).

    **Cost** one sparse product XᵀX. **Source** M. Deshpande, G. Karypis, "Item-based top-N recommendation
    algorithms" (2004); shrinkage: R. Bell, Y. Koren (2007).
    """

    k: int = 100
    shrink: float = 10.0
    weighting: Literal["plain", "tfidf", "bm25"] = "plain"
    decay: float = 0.9
    strength: float = 0.0
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, k=(1, INF), shrink=(0, INF), decay=(0, 1))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LinearModel:
        rows, known = crowd_known(events, events.items)
        together, lengths = overlap(events.matrix(self.strength)[:, rows], self.weighting)
        weights = _column_best(cosine(together, lengths, self.shrink), self.k)
        return LinearModel(weights, self.kin.lift(events, features, known), self.decay, self.strength)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> ItemKnn:
        """Shrinkage, weighting, k and decay by NDCG@10 on validation. The products XᵀX of two weightings are kept."""
        rows, known = crowd_known(fold.train, fold.train.items)
        matrix = fold.train.matrix(self.strength)[:, rows]
        products = lru_cache(maxsize=2)(lambda weighting: overlap(matrix, weighting))

        @lru_cache(maxsize=1)  # one matrix serves all decays
        def weights(weighting: str, shrink: float, k: int) -> sparse.csr_array:
            return _column_best(cosine(*products(weighting), shrink), k)

        @lru_cache(maxsize=1)
        def lifts(kin: Kin) -> Lift:
            return kin.lift(fold.train, features, known)

        def value(settings: ItemKnn) -> float:
            kept = weights(settings.weighting, settings.shrink, settings.k)
            model = LinearModel(kept, lifts(settings.kin), settings.decay, settings.strength)
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        grid = {
            "decay": (1.0, 0.9, 0.7),
            "weighting": ("plain", "tfidf", "bm25"),
            "shrink": (0.0, 10.0, 50.0),
            "k": (30, 100, 300),
        }
        best, height = climb(self, grid, value)
        kin, _ = warmest(best.kin, lambda kin: value(replace(best, kin=kin)), height, features)
        return replace(best, kin=kin)


def overlap(matrix: sparse.csr_array, weighting: str) -> tuple[sparse.csr_array, Floats]:
    """XᵀX without its diagonal (K, K), and the lengths of the columns of X (K,), X being the weighted matrix (U, K)."""
    matrix = weighted(matrix, weighting)
    product = (matrix.T @ matrix).tocsr()
    product.setdiag(0)
    product.eliminate_zeros()
    return product, np.sqrt(matrix.multiply(matrix).sum(0)).ravel()


def cosine(product: sparse.csr_array, lengths: Floats, shrink: float) -> sparse.csr_array:
    """xᵢ·xⱼ / (|xᵢ|·|xⱼ| + shrink) for what `overlap` gives."""
    row = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
    values = product.data / (lengths[row] * lengths[product.indices] + np.float32(shrink))
    return sparse.csr_array((values, product.indices, product.indptr), shape=product.shape)


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
