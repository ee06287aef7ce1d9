"""Ridge regression of every item on its own neighbours alone: EASE where the whole matrix is too large to invert.

An exact inverse couples all items with all. Yet most of what foretells an item is said by the few hundred items that occur
with it, and a regression on those alone is a small dense system of its own. Each column is then exact for its
neighbourhood; what is left out are items that the target never met.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows, best, one_blas_thread, slices, threads

LANES = 8  # workspaces, whatever the number of threads
ALIKE = 50  # neighbours by content that are heard beside those of the crowd
FAINT = np.float32(1e-6)


def local_ridge(
    gram: sparse.csr_array, cross: sparse.csr_array, penalty: Floats, *, near: int, itself: bool, keep: int = 0,
    vectors: Floats | None = None,
) -> sparse.csr_array:  # fmt: skip
    """Column t: (G_SS + penalty_S)⁻¹ · cross_St, S the `near` items most alike with t among those that occur with it.

    **Shapes** gram (K, K) symmetric, cross (K, T), penalty (K,) → (K, T). Alike is cross_it ÷ √gram_ii, which is the
    share of t that i alone explains. `itself`: whether i = t may explain t (past and future) or not (EASE). With all
    items in S it is the exact solution. `keep` > 0 stores only that many entries of a column. `vectors` (K, D) add V Vᵀ to
    gram and to cross, and the items nearest by them to the neighbours.

    **Cost** Σ over targets of |S|³ ÷ 3 operations and of the Gram rows of S read once; |S| T · 8 bytes of result.
    **Source** X. Ning, G. Karypis, "SLIM" (2011), whose feature selection this is, with EASE's penalty; for the other way
    to a sparse inverse: M. Spišák et al., "Scalable approximate nonsymmetric autoencoder" (2023).
    """
    from sensorium.models.local_kernels import solve_each

    diagonal = np.asarray(gram.diagonal(), np.float32)
    if vectors is not None:
        cross = sparse.csr_array(cross + alike(vectors, ALIKE))
    start, item, value = neighbours(cross, diagonal, near, itself)
    targets = cross.shape[1]
    out = np.zeros(len(item), np.float32)
    if vectors is None:
        vectors = np.zeros((len(diagonal), 0), np.float32)
    # Long targets first and dealt out in turn: no thread is left with all of them.
    order = np.argsort(-np.diff(start), kind="stable").astype(np.int64)
    with one_blas_thread():
        import numba

        before = numba.get_num_threads()
        numba.set_num_threads(min(threads(), numba.config.NUMBA_NUM_THREADS))
        try:
            solve_each(
                gram.indptr.astype(np.int64), gram.indices.astype(np.int64), gram.data.astype(np.float32),
                diagonal + np.asarray(penalty, np.float32), start, item, value, vectors, order, out, LANES,
            )  # fmt: skip
        finally:
            numba.set_num_threads(before)
    column = np.repeat(np.arange(targets), np.diff(start))
    if 0 < keep < near:
        size = np.lexsort((-np.abs(out), column))
        inside = np.arange(len(size)) - np.repeat(start[:-1], np.diff(start)) < keep
        chosen = size[inside]
        out, item, column = out[chosen], item[chosen], column[chosen]
    weights = sparse.csr_array((out, (item, column)), shape=cross.shape, dtype=np.float32)
    weights.sort_indices()
    return weights


def alike(vectors: Floats, count: int) -> sparse.csr_array:
    """A pattern (K, K) of each item's `count` nearest by their vectors, as entries too small to change a sum."""
    row: list[Rows] = []
    column: list[Rows] = []
    for part in slices(len(vectors), 512):
        chosen, _ = best(vectors[part] @ vectors.T, count)
        row.append(chosen.ravel())
        column.append(np.repeat(np.arange(part.start, part.stop), chosen.shape[1]))
    places = (np.concatenate(row), np.concatenate(column))
    values = np.full(len(places[0]), FAINT, np.float32)
    return sparse.csr_array((values, places), shape=(len(vectors), len(vectors)))


def neighbours(cross: sparse.csr_array, diagonal: Floats, near: int, itself: bool) -> tuple[Rows, Rows, Floats]:
    """For each column of `cross` its `near` rows with the largest |cross_it| ÷ √diagonal_i, ascending.

    As (start (T + 1,), row (N,), value (N,)). Ties keep the lower row.
    """
    from sensorium.models.local_kernels import choose_each

    turned = sparse.csr_array(cross.T.tocsr())
    turned.sort_indices()
    count = np.minimum(np.diff(turned.indptr), near).astype(np.int64)
    begin = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    row, value = np.full(begin[-1], -1, np.int64), np.zeros(begin[-1], np.float32)
    choose_each(
        turned.indptr.astype(np.int64), turned.indices, turned.data.astype(np.float32), diagonal.astype(np.float32),
        near, itself, begin, row, value,
    )  # fmt: skip
    filled = row >= 0
    start = np.concatenate([[0], np.cumsum(filled)]).astype(np.int64)[begin]
    return start, row[filled], value[filled]


def scattered(history: sparse.csr_array, weights: sparse.csr_array) -> Floats:
    """history (B, K) · weights (K, T), both sparse, into a dense (B, T). **Cost** the products, and B · T · 4 bytes."""
    from sensorium.models.local_kernels import spread

    out = np.zeros((history.shape[0], weights.shape[1]), np.float32)
    spread(
        history.indptr.astype(np.int64), history.indices.astype(np.int64), history.data.astype(np.float32),
        weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data.astype(np.float32), out,
    )  # fmt: skip
    return out
