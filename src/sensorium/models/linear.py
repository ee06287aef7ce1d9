"""Models whose score is a history times a matrix of item by item: item k-NN, EASE and its directed twin learn the matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows, best, slices
from sensorium.data.events import Events, Histories
from sensorium.models.content import carried, neighbours
from sensorium.models.model import Features, Parts


@dataclass(frozen=True)
class Kin:
    """How an item that the crowd does not know stands in for its content neighbours.

    `k` neighbours, weighted by exp(sharpness · cos); 0 leaves such items at score 0. `own` is what a neighbour that
    stands in the history itself is worth, for the matrix has nothing to say of an item next to itself.
    """

    k: int = 20
    sharpness: float = 8.0
    own: float = 0.2


@dataclass(frozen=True, eq=False)
class LinearModel:
    """score = history · lift · weights · liftᵀ, where `lift` is one for items the crowd knows and spreads the others.

    **Shapes** weights (K, K), dense or sparse, row = event's item, column = candidate; lift (I, K);
    known (I,): the column of an item the crowd knows, −1 elsewhere.
    """

    weights: Floats | sparse.csr_array
    lift: sparse.csr_array
    known: Rows
    decay: float
    strength: float
    kin: Kin

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). **Cost** events · K for a dense matrix, then I · kin.k per history for what is unknown."""
        return self._scores(histories.matrix(len(self.known), decay=self.decay, strength=self.strength), candidates)

    def _scores(self, history: sparse.csr_array, candidates: Rows | None) -> Floats:
        """Linear in the history (B, I), which is why its parts are exact."""
        columns = np.arange(len(self.known)) if candidates is None else candidates
        spread = history @ self.lift
        warm = np.asarray(_dense(spread @ self.weights), np.float32)
        place = self.known[columns]
        cold = place < 0
        out = np.zeros((history.shape[0], len(columns)), np.float32)
        out[:, ~cold] = warm[:, place[~cold]]
        if self.lift.nnz > np.count_nonzero(self.known >= 0):
            strange = (self.known < 0).astype(np.float32)
            from_cold = np.float32(self.kin.own) * (history.multiply(strange[None, :]).tocsr() @ self.lift)
            out[:, ~cold] += _dense(from_cold)[:, place[~cold]]
            if cold.any():
                near = warm + np.float32(self.kin.own) * _dense(spread)
                out[:, cold] = (self.lift[columns[cold]] @ near.T).T
        return out

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """Each event's share, all of it from the crowd."""
        carry = carried(history, self.decay, self.strength)
        count = len(history.item)
        alone = sparse.csr_array((carry, (np.arange(count), history.item)), shape=(count, len(self.known)))
        values = self._scores(alone, candidates).T[:, :, None]
        return Parts(values, np.zeros(len(candidates), np.float32), ("crowd",))

    def extended(self, features: Features) -> LinearModel:
        """New items stand in for their neighbours by content among those the crowd knows."""
        fresh = np.full(len(features.items) - len(self.known), -1, np.int64)
        known = np.concatenate([self.known, fresh])
        return replace(self, known=known, lift=lifted(features, known, self.lift.shape[1], self.kin))


def lifted(features: Features, known: Rows, columns: int, kin: Kin) -> sparse.csr_array:
    """**Shapes** known (I,) → (I, columns): a one for what the crowd knows, weighted neighbours for the rest."""
    rows = np.flatnonzero(known >= 0)
    ones = sparse.csr_array(
        (np.ones(len(rows), np.float32), (rows, known[rows])), shape=(len(known), columns), dtype=np.float32
    )
    strange = np.flatnonzero(known < 0)
    if kin.k < 1 or not len(strange) or not features.items.present.any():
        return ones
    among = rows[np.argsort(known[rows], kind="stable")]
    near = neighbours(features.items, strange, among, kin.k, kin.sharpness).tocoo()
    rest = sparse.csr_array((near.data, (strange[near.row], near.col)), shape=ones.shape, dtype=np.float32)
    return (ones + rest).tocsr()


def crowd_known(events: Events, most: int) -> tuple[Rows, Rows]:
    """The items with events, at most the `most` popular ones, as ascending rows (K,) and as a column for each item (I,)."""
    counts = np.bincount(events.item, minlength=events.items)
    rows = np.flatnonzero(counts)
    if len(rows) > most:
        rows = np.sort(rows[np.argsort(-counts[rows], kind="stable")[:most]])
    known = np.full(events.items, -1, np.int64)
    known[rows] = np.arange(len(rows))
    return rows, known


def strongest(weights: Floats, keep: int) -> sparse.csr_array:
    """Only the `keep` largest entries, in size, of every column; the rest is lost, and so is most of the memory."""
    data: list[Floats] = []
    row: list[Rows] = []
    column: list[Rows] = []
    for part in slices(weights.shape[1], 512):
        block = weights[:, part].T
        chosen, _ = best(np.abs(block), keep)
        data.append(np.take_along_axis(block, chosen, 1).ravel())
        row.append(chosen.ravel())
        column.append(np.repeat(np.arange(part.start, part.stop), chosen.shape[1]))
    triple = (np.concatenate(data), (np.concatenate(row), np.concatenate(column)))
    matrix = sparse.csr_array(triple, shape=weights.shape, dtype=np.float32)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _dense(matrix: object) -> Floats:
    return matrix.toarray() if sparse.issparse(matrix) else matrix  # type: ignore[attr-defined, return-value]
