"""One Gibbs step of a side of a factor model, compiled: every row drawn from its normal posterior, given the other side."""

from __future__ import annotations

import numpy as np
from numba import njit

from sensorium.arrays import Rows
from sensorium.models.ratings.ratings import Doubles


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def draw_rows(
    begin: int, end: int, start: Rows, other: Rows, target: Doubles, design: Doubles, precision: Doubles, prior: Doubles,
    noise: float, chance: Doubles, out: Doubles,
) -> None:  # fmt: skip
    """Rows begin … end of `out` (X, K): posterior of a ridge of target (N,) on design (Y, K).

    The prior is normal with mean prior (X, K) and the given precision (K, K); `noise` is the precision of a rating;
    `chance` (X, K) standard normal draws, or zeros for the posterior's mean.
    """
    size = design.shape[1]
    left, right = np.empty((size, size)), np.empty(size)
    for x in range(begin, end):
        for a in range(size):
            total = 0.0
            for b in range(size):
                left[a, b] = 0.0
                total += precision[a, b] * prior[x, b]
            right[a] = total
        for n in range(start[x], start[x + 1]):
            row = design[other[n]]
            worth = noise * target[n]
            for a in range(size):
                right[a] += worth * row[a]
                scaled = row[a]
                for b in range(a + 1):
                    left[a, b] += scaled * row[b]
        for a in range(size):
            for b in range(a + 1):
                left[a, b] = precision[a, b] + noise * left[a, b]
        # Cholesky in place, lower triangle.
        for a in range(size):
            for b in range(a + 1):
                total = left[a, b]
                for c in range(b):
                    total -= left[a, c] * left[b, c]
                left[a, b] = np.sqrt(total) if a == b else total / left[b, b]
        for a in range(size):
            total = right[a]
            for c in range(a):
                total -= left[a, c] * right[c]
            right[a] = total / left[a, a]
        for a in range(size - 1, -1, -1):
            total = right[a] + chance[x, a]
            for c in range(a + 1, size):
                total -= left[c, a] * out[x, c]
            out[x, a] = total / left[a, a]
