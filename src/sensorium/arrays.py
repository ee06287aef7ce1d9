"""Small array operations that several rooms need: batches, rows of unit length, the best k, digests, threads."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Bits = NDArray[np.uint8]  # eight places a byte, the first in the lowest bit; as many bytes as whole words of eight take


def threads() -> int:
    """How many threads numerical work may use: `SENSORIUM_THREADS`, else the cores this process may run on."""
    asked = os.environ.get("SENSORIUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slices(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `range(count)`.

    >>> [(s.start, s.stop) for s in slices(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def packed(mask: NDArray[np.bool_]) -> Bits:
    """A mask (N,) as bits.

    >>> packed(np.array([True, False, True])).tolist()
    [5, 0, 0, 0, 0, 0, 0, 0]
    """
    out = np.zeros(-(-len(mask) // 64) * 8, np.uint8)
    bits = np.packbits(mask, bitorder="little")
    out[: len(bits)] = bits
    return out


def unpacked(bits: Bits, count: int) -> NDArray[np.bool_]:
    """The mask (N,) that was packed."""
    return np.unpackbits(bits, count=count, bitorder="little").view(bool)


def unit(values: NDArray[np.floating]) -> Floats:
    """Rows scaled to length one; a row of zeros stays zero.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    values = np.asarray(values, dtype=np.float32)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)


def leading(matrix: sparse.csr_array, rank: int, *, turns: int = 3) -> Floats:
    """The `rank` leading right singular vectors (I, F), largest first, by Chebyshev-filtered subspaces; exact where small.

    The spectrum of such graphs is flat, where plain powers of the matrix take dozens of turns. A polynomial that is small
    on what the block leaves out, and steep beyond, takes three; an eighth more vectors than asked for are turned.

    **Cost** 4 · turns products of the matrix with 9/8 rank + 32 vectors, and 5 · turns of (I, F) with (F, F).
    **Source** Y. Zhou, Y. Saad, "A Chebyshev–Davidson algorithm for large symmetric eigenproblems" (2007).
    """
    rank = max(min(rank, *matrix.shape), 1)
    wide = rank + rank // 8 + 32
    if not min(matrix.shape):
        return np.zeros((matrix.shape[1], 0), np.float32)
    if min(matrix.shape) <= 2 * wide:
        axes = np.linalg.svd(matrix.toarray(), full_matrices=False)[2][:rank].T
    else:
        back = matrix.T.tocsr()
        block = np.random.default_rng(0).normal(size=(matrix.shape[1], wide)).astype(np.float32)
        for _ in range(2):
            block = _orthogonal(back @ (matrix @ block))
        for _ in range(turns):
            block, values = _turned(matrix, block)
            shrink = np.float32(2 / max(float(values[-1]), 1e-30))  # what is below the least of the block: to [−1, 1]
            first = shrink * (back @ (matrix @ block)) - block
            second = 2 * (shrink * (back @ (matrix @ first)) - first) - block
            third = 2 * (shrink * (back @ (matrix @ second)) - second) - first
            block = _orthogonal(third / np.maximum(np.linalg.norm(third, axis=0), np.float32(1e-30)))
        axes = _turned(matrix, block)[0][:, :rank]
    turn = np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return np.ascontiguousarray(axes * np.where(turn == 0, 1, turn), np.float32)


def _orthogonal(block: Floats) -> Floats:
    """An orthonormal base of a block's columns (N, F), by its Gram matrix: one product, where QR takes many times as long."""
    values, turned = np.linalg.eigh((block.T @ block).astype(np.float64))
    least = max(float(values[-1]) * 1e-7, 1e-30)  # what single precision cannot tell from nothing
    return block @ (turned / np.sqrt(np.maximum(values, least))).astype(np.float32)


def _turned(matrix: sparse.csr_array, block: Floats) -> tuple[Floats, Floats]:
    """An orthonormal block (N, F) turned to its own singular vectors, and the squares of their values, largest first."""
    spread = matrix @ block
    values, axes = np.linalg.eigh(spread.T @ spread)
    return block @ np.ascontiguousarray(axes[:, ::-1]), values[::-1]


def best(scores: Floats, k: int) -> tuple[Rows, Floats]:
    """The k best columns of each row, best first; equal scores keep the lower column, so the order is one for ever.

    **Shapes** scores (B, C) → columns (B, K), scores (B, K), K = min(k, C). `-inf` marks a column that must not be
    chosen; it sorts last and keeps its `-inf`.

    >>> best(np.array([[1.0, 3.0, 3.0, 2.0]], dtype=np.float32), 2)[0].tolist()
    [[1, 2]]
    """
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((len(scores), 0), np.int64), np.zeros((len(scores), 0), np.float32)
    if k < scores.shape[1]:
        # The k-th value decides who is in; ties on it go to the lower column.
        edge = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
        chosen = np.empty((len(scores), k), np.int64)
        for row in range(len(scores)):
            above = np.flatnonzero(scores[row] > edge[row])
            level = np.flatnonzero(scores[row] == edge[row])[: k - len(above)]
            chosen[row] = np.sort(np.concatenate([above, level]))
    else:
        chosen = np.broadcast_to(np.arange(k), (len(scores), k)).copy()
    values = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(values, order, axis=1)


def top(scores: Floats, k: int) -> Rows:
    """`best` of one line (C,): the places alone, in a few microseconds.

    >>> top(np.array([1.0, 3.0, 3.0, 2.0], dtype=np.float32), 2).tolist()
    [1, 2]
    """
    count = len(scores)
    if k >= count:
        return np.argsort(-scores, kind="stable")
    some = np.flatnonzero(scores >= np.partition(scores, count - k)[count - k])  # all that level with the k-th
    return some[np.argsort(-scores[some], kind="stable")[:k]]


def digest(*parts: bytes | str) -> str:
    """A short, stable name of some bytes: 32 hexadecimal characters of BLAKE2b.

    >>> digest("a", b"b") == digest("ab")
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)
    return state.hexdigest()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """One BLAS thread inside the block, for libraries that run their own threads over BLAS calls."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
