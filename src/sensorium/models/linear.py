"""Models whose score is a history times a matrix of item by item: item k-NN, EASE and its directed twin learn the matrix."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows, best, slices
from sensorium.data.events import Events, Histories
from sensorium.models.content import carried
from sensorium.models.kin import Lift
from sensorium.models.kinds import conversion, counted, heard
from sensorium.models.local import scattered
from sensorium.models.model import Features, Parts

LARGE = 2_000_000  # entries of a sparse matrix from which the compiled product pays


@dataclass(frozen=True, eq=False)
class LinearModel:
    """score = history · L · weights · Lᵀ, where L says for each item what it is in the crowd's columns (kin.py).

    **Shapes** weights (K, K), dense or sparse, row = event's item, column = candidate.
    """

    weights: Floats | sparse.csr_array
    lift: Lift
    decay: float
    strength: float
    heard: dict[str, float] = field(
        default_factory=dict
    )  # what an event of a kind counts in a history, 1 where not named

    def leaning(self, events: Events, powers: Mapping[str, float]) -> LinearModel:
        """The same with each known item's column times its rate of a kind of event (see kinds.conversion)."""
        if not any(powers.values()):
            return self
        factor = conversion(events, powers)[np.flatnonzero(self.lift.known >= 0)]
        if not isinstance(self.weights, sparse.csr_array):
            return replace(self, weights=self.weights * factor)
        shape, indices, indptr = self.weights.shape, self.weights.indices, self.weights.indptr
        return replace(
            self, weights=sparse.csr_array((self.weights.data * factor[indices], indices, indptr), shape=shape)
        )

    @functools.cached_property
    def through(self) -> Floats:
        """What content says of a history's item, times the weights: (D, K), and the mean's as the last row."""
        return np.asarray(_dense(np.vstack([self.lift.map, self.lift.mean]) @ self.weights), np.float32)

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). **Cost** events · K a history for a dense matrix; (K + C) · D where items borrow."""
        known = self.lift.known
        told = counted(histories, self.strength, self.heard)
        near = self._near(told.matrix(len(known), decay=self.decay, strength=1.0))
        items = np.arange(len(known)) if candidates is None else candidates
        return self.lift.scores(near, items)

    def _near(self, history: sparse.csr_array) -> Floats:
        """Histories (B, I) → scores of the crowd's columns (B, K). Linear, which is why its parts are exact."""
        own, lent = self.lift.history(history)
        if isinstance(self.weights, sparse.csr_array) and self.weights.nnz > LARGE:
            near = scattered(own, self.weights)
        else:
            near = np.asarray(_dense(own @ self.weights), np.float32)
        if lent is not None:
            near += (lent @ self.lift.content) @ self.through[:-1]
            near += np.asarray(lent.sum(1)).reshape(-1, 1) * self.through[-1]
        return near

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """Each event's share: by a candidate's own column it is the crowd's, by its content the modality's."""
        carry = np.zeros(len(history.item), np.float32)
        carry[heard(history, self.heard)] = carried(counted(history, self.strength, self.heard), self.decay, 1.0)
        count = len(history.item)
        near = self._near(
            sparse.csr_array((carry, (np.arange(count), history.item)), shape=(count, len(self.lift.known)))
        )
        values, sources = [self.lift.owned(near, candidates).T], ["crowd"]
        if (self.lift.place[candidates] >= 0).any():
            lent = near @ self.lift.map.T
            for name, begin, end in self.lift.edges or (("content", 0, len(self.lift.map)),):
                values.append(self.lift.borrowed(lent, candidates, slice(begin, end)).T)
                sources.append(name)
        return Parts(np.stack(values, axis=2), np.zeros(len(candidates), np.float32), tuple(sources))

    def extended(self, features: Features) -> LinearModel:
        """New items are what their content says."""
        return replace(self, lift=self.lift.over(features))


def crowd_known(events: Events, most: int) -> tuple[Rows, Rows]:
    """The items with events, at most the `most` popular ones, as ascending rows (K,) and as a column for each item (I,)."""
    counts = np.bincount(events.item, minlength=events.items)
    rows = np.flatnonzero(counts)
    if len(rows) > most:
        rows = np.sort(rows[np.argsort(-counts[rows], kind="stable")[:most]])
    known = np.full(events.items, -1, np.int64)
    known[rows] = np.arange(len(rows))
    return rows, known


def quieter(matrix: sparse.csr_array, degree: float) -> Floats:
    """What multiplies each person's row (U,): √ of n^−degree, scaled so that the mean over all entries is 1."""
    count = np.maximum(np.diff(matrix.indptr), 1).astype(np.float64)
    weight = count**-degree
    scale = matrix.nnz / max(float(np.diff(matrix.indptr) @ weight), 1e-9)
    return np.sqrt(weight * scale).astype(np.float32)


def strongest(weights: Floats | sparse.csr_array, keep: int) -> sparse.csr_array:
    """Only the `keep` largest entries, in size, of every column; the rest is lost, and so is most of the memory."""
    data: list[Floats] = []
    row: list[Rows] = []
    column: list[Rows] = []
    for part in slices(weights.shape[1], 512):
        block = _dense(weights[:, part]).T
        chosen, _ = best(np.abs(block), keep)
        data.append(np.take_along_axis(block, chosen, 1).ravel())
        row.append(chosen.ravel())
        column.append(np.repeat(np.arange(part.start, part.stop), chosen.shape[1]))
    triple = (np.concatenate(data), (np.concatenate(row), np.concatenate(column)))
    matrix = sparse.csr_array(triple, shape=weights.shape, dtype=np.float32)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def kept(weights: Floats | sparse.csr_array, keep: int) -> Floats | sparse.csr_array:
    """The matrix as it is stored: all of it, or the `keep` > 0 strongest entries of each column."""
    return strongest(weights, keep) if 0 < keep < weights.shape[0] and not sparse.issparse(weights) else weights


def _dense(matrix: object) -> Floats:
    return matrix.toarray() if sparse.issparse(matrix) else matrix  # type: ignore[attr-defined, return-value]
