"""Item k-NN: what those who chose this also chose, in numbers that a handful of coincidences cannot inflate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from sensorium.data.events import Events, Fold
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.linear import Kin, LinearModel, crowd_known, lifted
from sensorium.models.model import Features
from sensorium.train.ranking import rank_targets


@dataclass(frozen=True)
class ItemKnn:
    """similarity(i, j) = xᵢ·xⱼ / (|xᵢ|·|xⱼ| + shrink), the `k` best of each candidate kept.

    `weighting` of the matrix of people by items: `plain`, `tfidf` (rare items, modest people count more) or `bm25`.
    Pure: an item that the crowd does not know scores 0.

    **Cost** one sparse product XᵀX. **Source** M. Deshpande, G. Karypis, "Item-based top-N recommendation
    algorithms" (2004); shrinkage: R. Bell, Y. Koren (2007).
    """

    k: int = 100
    shrink: float = 10.0
    weighting: Literal["plain", "tfidf", "bm25"] = "plain"
    decay: float = 0.9
    strength: float = 0.0

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LinearModel:
        rows, known = crowd_known(events, events.items)
        matrix = weighted(events.matrix(self.strength)[:, rows], self.weighting)
        product = (matrix.T @ matrix).tocsr()
        product.setdiag(0)
        product.eliminate_zeros()
        lengths = np.sqrt(matrix.multiply(matrix).sum(0)).ravel()
        row = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
        product.data /= lengths[row] * lengths[product.indices] + np.float32(self.shrink)
        kin = Kin(k=0)
        return LinearModel(
            _column_best(product, self.k),
            lifted(features, known, len(rows), kin),
            known,
            self.decay,
            self.strength,
            kin,
        )

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> ItemKnn:
        """Shrinkage, weighting, k and decay by NDCG@10 on validation."""

        def value(settings: ItemKnn) -> float:
            model = settings.fit(fold.train, features, rng=rng)
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        grid = {
            "decay": (1.0, 0.9, 0.7),
            "weighting": ("plain", "tfidf", "bm25"),
            "shrink": (0.0, 10.0, 50.0),
            "k": (30, 100, 300),
        }
        return climb(self, grid, value)[0]


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
    """The k largest entries of each column; ties keep the lower row."""
    turned = matrix.T.tocsr()
    turned.sort_indices()
    row = np.repeat(np.arange(turned.shape[0]), np.diff(turned.indptr))
    order = np.lexsort((turned.indices, -turned.data, row))
    place = np.arange(len(order)) - turned.indptr[row[order]]
    kept = order[place < k]
    out = sparse.csr_array((turned.data[kept], (turned.indices[kept], row[kept])), shape=matrix.shape, dtype=np.float32)
    out.sort_indices()
    return out
