"""Ridge regression of every item on the others, solved at once: the linear algebra under EASE and its directed twin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

from sensorium.arrays import Floats, slices
from sensorium.errors import ShapeError


def ease_weights(gram: NDArray[np.float32], l2: float | Floats) -> Floats:
    """B = 1 − P / diag(P), P = (gram + l2·1)⁻¹, zero on the diagonal. **Shapes** (K, K) → (K, K), row → column; l2 one or (K,).

    Overwrites `gram`. The inverse of a symmetric positive matrix takes half the work of a general one, and in float32
    and in place a quarter of its memory traffic.
    """
    if not len(gram):
        return np.zeros((0, 0), np.float32)
    gram[np.diag_indices(len(gram))] += np.asarray(l2, np.float32)
    weights = inverted(gram).T  # symmetric, so that the transpose turns Fortran order into C order and nothing else
    weights /= -weights.diagonal()
    np.fill_diagonal(weights, 0)
    return weights


def ease_weights_of_few(choices: Floats, l2: float | Floats) -> Floats:
    """`ease_weights(choicesᵀ · choices, l2)` for fewer people than items. **Shapes** (R, K), one or (K,) → (K, K).

    By Woodbury's identity l2·P = 1 − ZᵀZ, where Z = L⁻¹ · choices and L Lᵀ = choices · choicesᵀ + l2·1, so that
    B = ZᵀZ ÷ (1 − |zⱼ|²) beside the diagonal. Penalties that differ are taken into the columns of `choices` and out of
    the rows and columns of B. **Cost** R K² operations instead of K³.
    """
    if np.ndim(l2):
        root = np.sqrt(np.asarray(l2, np.float32))
        weights = ease_weights_of_few((choices / root).astype(np.float32), 1.0)
        weights *= root
        weights /= root[:, None]
        return weights
    inner = np.asfortranarray(choices @ choices.T)
    inner[np.diag_indices(len(inner))] += np.asarray(l2, np.float32)
    factor, code = lapack.spotrf(inner, lower=1, overwrite_a=1, clean=0)
    _check(code)
    solved, _ = lapack.strtrs(factor, np.asfortranarray(choices), lower=1)
    weights = solved.T @ solved
    weights /= 1 - weights.diagonal()
    np.fill_diagonal(weights, 0)
    return weights


def ridge_weights(gram: NDArray[np.float32], cross: NDArray[np.float32], l2: float | Floats) -> Floats:
    """(gram + l2·1)⁻¹ · cross by Cholesky. **Shapes** (K, K), (K, T) → (K, T). Overwrites both."""
    if not len(gram):
        return np.zeros(cross.shape, np.float32)
    gram[np.diag_indices(len(gram))] += np.asarray(l2, np.float32)
    factor, code = lapack.spotrf(np.asfortranarray(gram), lower=1, overwrite_a=1, clean=0)
    _check(code)
    solved, code = lapack.spotrs(factor, np.asfortranarray(cross), lower=1, overwrite_b=1)
    _check(code)
    return np.ascontiguousarray(solved)


def ridge_weights_of_sparse(gram: NDArray[np.float32], cross: sparse.csr_array, l2: float | Floats) -> Floats:
    """`ridge_weights` where `cross` is sparse, in half the time and without a dense copy of it. Overwrites `gram`."""
    if not len(gram):
        return np.zeros(cross.shape, np.float32)
    gram[np.diag_indices(len(gram))] += np.asarray(l2, np.float32)
    inverse = inverted(gram).T  # symmetric: the same numbers in C order
    return np.ascontiguousarray((cross.T.tocsr() @ inverse).T)


def inverted(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of a symmetric positive definite matrix, in place where it is in Fortran order.

    **Raises** ShapeError where it is not positive definite. **Cost** n³ operations, a third of a general inverse's.
    """
    factor, code = lapack.spotrf(np.asfortranarray(matrix), lower=1, overwrite_a=1, clean=0)
    _check(code)
    inverse, code = lapack.spotri(factor, lower=1, overwrite_c=1)
    _check(code)
    # LAPACK fills the lower half; the upper is its mirror image, copied in blocks that fit the cache.
    for column in slices(len(inverse), 256):
        block = inverse[column, column]
        inverse[column, column] = np.tril(block) + np.tril(block, -1).T
        inverse[column, column.stop :] = inverse[column.stop :, column].T
    return inverse


def columns(matrix: sparse.csr_array) -> NDArray[np.float32]:
    """A sparse matrix as LAPACK wants it: dense, column by column."""
    return matrix.toarray(order="F").astype(np.float32, copy=False)


def _check(code: int) -> None:
    if code:
        raise ShapeError(f"ease: the Gram matrix is not positive definite (LAPACK says {code}); raise l2")
