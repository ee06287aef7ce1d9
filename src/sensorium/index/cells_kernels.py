"""The compiled walk over cells; imported where the work starts, since numba takes a moment."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows


@numba.njit(cache=True, nogil=True)
def gathered(order: Rows, start: Rows, rows: Rows, keep: NDArray[np.bool_], most: int) -> tuple[Rows, Rows]:
    """The allowed rows of cells in an order, cell by whole cell until there are `most` (never more than twice as many),
    and their places in `rows`. `keep` (I,) is by place."""
    room = min(len(rows), 2 * most)
    out, places = np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    for cell in order:
        if count >= most:
            break
        for p in range(start[cell], start[cell + 1]):
            if keep[p] and count < room:
                out[count], places[count] = rows[p], p
                count += 1
    return out[:count], places[:count]
