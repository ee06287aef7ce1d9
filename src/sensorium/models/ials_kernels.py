"""Compiled half-steps of alternating least squares; imported where the work starts."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows


@numba.njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def solve_rows(
    start: Rows, item: Rows, value: Floats, other: Floats, whole: Floats, penalty: Floats, prior: Floats,
    out: Floats, steps: int,
) -> None:  # fmt: skip
    """One half-step: row u of `out` becomes the least-squares answer to its entries, by `steps` of conjugate gradients.

    Minimises Σ over entries |c|·(1 − x·y)² (0 in the place of 1 where c < 0) + Σ over the rest (x·y)² + penalty_u |x −
    prior_u|², from the x that `out` holds. `whole` (F, F) is other ᵀ other. Rows are independent: the bytes do not depend
    on how many threads there are. **Cost** steps · (entries · F + rows · F²).
    """
    size = other.shape[1]
    for u in numba.prange(len(start) - 1):
        first, last = start[u], start[u + 1]
        x = out[u].copy()
        r = penalty[u] * (prior[u] - x) - whole @ x
        for p in range(first, last):
            y = other[item[p]]
            c = value[p]
            dot = np.float32(0)
            for f in range(size):
                dot += y[f] * x[f]
            scale = max(c, np.float32(0)) - max(abs(c) - np.float32(1), np.float32(0)) * dot
            for f in range(size):
                r[f] += scale * y[f]
        direction = r.copy()
        old = np.float32(0)
        for f in range(size):
            old += r[f] * r[f]
        for _ in range(steps):
            if old < 1e-20:
                break
            pushed = whole @ direction
            for f in range(size):
                pushed[f] += penalty[u] * direction[f]
            for p in range(first, last):
                y = other[item[p]]
                weight = max(abs(value[p]) - np.float32(1), np.float32(0))
                dot = np.float32(0)
                for f in range(size):
                    dot += y[f] * direction[f]
                dot *= weight
                for f in range(size):
                    pushed[f] += dot * y[f]
            curve = np.float32(0)
            for f in range(size):
                curve += direction[f] * pushed[f]
            if curve <= 0:
                break
            pace = old / curve
            new = np.float32(0)
            for f in range(size):
                x[f] += pace * direction[f]
                r[f] -= pace * pushed[f]
                new += r[f] * r[f]
            turn = new / old
            for f in range(size):
                direction[f] = r[f] + turn * direction[f]
            old = new
        out[u] = x


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def folded(
    table: Floats, item: NDArray[np.int32], value: Floats, whole: Floats, penalty: float, prior: Floats
) -> Floats:
    """The least-squares person (F,) of one history, as `solve_rows` approaches it: exactly, by elimination.

    **Shapes** table (I, F), item (N,), value (N,): their confidences, whole (F, F), prior (F,). **Cost** N · F² + F³ ÷ 3.
    """
    size = table.shape[1]
    left, right = whole.copy(), np.float32(penalty) * prior
    for d in range(size):
        left[d, d] += np.float32(penalty)
    for n in range(len(item)):
        y, more = table[item[n]], max(abs(value[n]) - np.float32(1), np.float32(0))
        for d in range(size):
            right[d] += max(value[n], np.float32(0)) * y[d]
            for e in range(size):
                left[d, e] += more * y[d] * y[e]
    return np.linalg.solve(left, right)
