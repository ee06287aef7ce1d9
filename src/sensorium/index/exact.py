"""Exact nearest vectors by inner product, block by block: the answer that every approximate index is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows, best, slices
from sensorium.errors import ShapeError

BLOCK_BYTES = 64 * 1024 * 1024  # scores held at once


@dataclass(frozen=True, eq=False)
class Exact:
    """All vectors, as they are. **Shapes** vectors (I, D); present (I,): rows that may be found."""

    vectors: Floats
    present: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Floats, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[Rows, Floats]:
        """The k rows of greatest inner product with each query, best first; ties go to the lower row.

        **Shapes** queries (B, D), allowed (I,) → rows (B, K), scores (B, K), K = min(k, I). Where fewer rows are
        allowed, the rest is row −1 with score −inf. **Cost** O(B·I·D), less where few rows are allowed.
        """
        queries = checked(queries, self.vectors)
        mask = both(self.present, allowed)
        k = min(k, len(self.vectors))
        if mask is not None and mask.mean() < 0.5:  # gathering is cheaper than scoring what is thrown away
            rows = np.flatnonzero(mask)
            return padded(*_scan(queries, self.vectors[rows], k, None), k, rows)
        return padded(*_scan(queries, self.vectors, k, mask), k, None)


def score_rows(queries: Floats, vectors: Floats, rows: Rows, k: int) -> tuple[Rows, Floats]:
    """The exact k best among each query's own candidate rows (B, C), where −1 stands for none."""
    rows = np.sort(rows, axis=1)  # by row, so that ties go to the lower one as in the exact search
    found = np.full(rows.shape, -np.inf, np.float32)
    for b, query in enumerate(queries):
        known = rows[b] >= 0
        found[b, known] = vectors[rows[b, known]] @ query
    places, scores = best(found, k)
    chosen = np.take_along_axis(rows, places, axis=1)
    return np.where(np.isfinite(scores), chosen, -1), scores


def checked(queries: Floats, vectors: Floats) -> Floats:
    """The queries in float32. **Raises** ShapeError where their size is not that of the vectors."""
    queries = np.atleast_2d(np.asarray(queries, np.float32))
    if queries.shape[1] != vectors.shape[1]:
        raise ShapeError(
            f"a query has size {queries.shape[1]}, the index holds vectors of size {vectors.shape[1]}; rebuild the index"
        )
    return queries


def both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """The rows that both masks keep; None keeps everything."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def padded(rows: Rows, scores: Floats, k: int, names: Rows | None) -> tuple[Rows, Floats]:
    """Places turned into rows by `names`, −1 where the score is −inf, and filled up to k columns."""
    if names is not None and len(names):
        rows = names[rows]
    rows = np.where(np.isfinite(scores), rows, -1)
    missing = ((0, 0), (0, k - rows.shape[1]))
    return np.pad(rows, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)


def _scan(queries: Floats, vectors: Floats, k: int, mask: NDArray[np.bool_] | None) -> tuple[Rows, Floats]:
    """Best k over blocks of vectors; what earlier blocks found stands first, so ties keep the lower row."""
    rows = np.zeros((len(queries), 0), np.int64)
    scores = np.zeros((len(queries), 0), np.float32)
    size = max(1, BLOCK_BYTES // (4 * max(1, len(queries))))
    for part in slices(len(vectors), size):
        fresh = queries @ vectors[part].T
        if mask is not None:
            fresh[:, ~mask[part]] = -np.inf
        here = np.broadcast_to(np.arange(part.start, part.stop), fresh.shape)
        places, scores = best(np.concatenate([scores, fresh], axis=1), k)
        rows = np.take_along_axis(np.concatenate([rows, here], axis=1), places, axis=1)
    return rows, scores
