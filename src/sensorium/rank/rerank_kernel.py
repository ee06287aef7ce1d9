"""The compiled choice of items one after the other; imported where the work starts, since numba takes a moment."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def chosen(relevance: NDArray[np.float64], directions: Floats, k: int, diversity: float) -> Rows:
    """The places of k items, the first first: then each with the greatest relevance − diversity · cosine to those chosen.

    **Shapes** relevance (C,), directions (C, D). Ties keep the lower place. Cosines are rounded to six digits: products of
    equal vectors may differ in the last bit.
    """
    count, size = directions.shape
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
