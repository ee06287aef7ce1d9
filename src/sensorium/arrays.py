"""Small array operations that several rooms need: batches, rows of unit length, the best k, digests, threads."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


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


def unit(values: NDArray[np.floating]) -> Floats:
    """Rows scaled to length one; a row of zeros stays zero.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    values = np.asarray(values, dtype=np.float32)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)


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
