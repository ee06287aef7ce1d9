"""The compiled choice of items one after the other; imported where the work starts, since numba takes a moment."""

from __future__ import annotations

import numba
import numpy as np

from sensorium.arrays import Floats, Rows


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def chosen(scores: Floats, vectors: Floats, order: Rows, k: int, diversity: float) -> Rows:
    """The places in `order` of k items: the first, then each with the greatest relevance − diversity · cosine to those chosen.

    **Shapes** scores (C,), vectors (C, D), order (C,): by score. Ties keep the earlier place. Cosines are rounded to six
    digits: products of equal vectors may differ in the last bit.
    """
    count, size = vectors.shape
    directions = np.zeros((count, size), np.float32)
    relevance = np.empty(count)
    best, least = np.float64(scores[order[0]]), np.float64(scores[order[-1]])
    for one in range(count):
        row = vectors[order[one]]
        length = np.float32(0)
        for d in range(size):
            length += row[d] * row[d]
        if length > 0:
            length = np.sqrt(length)
            for d in range(size):
                directions[one, d] = row[d] / length
        height = (np.float64(scores[order[one]]) - least) / (best - least) if best > least else 1.0
        relevance[one] = (1 - diversity) * height
    nearest = np.full(count, -2.0)
    taken = np.zeros(count, np.bool_)
    out = np.zeros(k, np.int64)
    for step in range(k):
        place = 0  # the first is the most relevant, whatever the diversity
        if step:
            height = -1e300
            for one in range(count):
                gain = relevance[one] - diversity * nearest[one]
                if not taken[one] and gain > height:
                    place, height = one, gain
        out[step], taken[place] = place, True
        for one in range(count):
            cosine = np.float32(0)
            for d in range(size):
                cosine += directions[place, d] * directions[one, d]
            nearest[one] = max(nearest[one], np.rint(np.float64(cosine) * 1e6) * 1e-6)
    return out
