"""The compiled walk over cells; imported where the work starts, since numba takes a moment."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows


@numba.njit(cache=True, nogil=True)
def gathered(
    order: Rows, start: Rows, rows: Rows, keep: NDArray[np.bool_], most: int
) -> tuple[NDArray[np.int64], bool]:
    """The allowed rows of cells in an order, cell by whole cell until there are `most`; and whether these are all."""
    out = np.empty(len(rows) if len(rows) < 2 * most else 2 * most, np.int64)
    count = 0
    for place in range(len(order)):
        if count >= most:
            for rest in range(place, len(order)):
                for p in range(start[order[rest]], start[order[rest] + 1]):
                    if keep[rows[p]]:
                        return out[:count], False
            return out[:count], True
        for p in range(start[order[place]], start[order[place] + 1]):
            out[count] = rows[p]
            count += keep[rows[p]]
            if count == len(out):
                return out[:count], count == len(rows)
    return out[:count], True
