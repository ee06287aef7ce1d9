"""The compiled walk over cells; imported where the work starts, since numba takes a moment."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows


@numba.njit(cache=True, nogil=True)
def gathered(
    order: Rows, start: Rows, rows: Rows, keep: NDArray[np.bool_], most: int
) -> tuple[Rows, Rows, bool]:
    """The allowed rows of cells in an order, cell by whole cell until there are `most`; their places in `rows`; and
    whether these are all. `keep` (I,) is by place."""
    room = min(len(rows), 2 * most)
    out, places = np.empty(room, np.int64), np.empty(room, np.int64)
    count, turn = 0, 0
    while turn < len(order) and count < most:
        cell = order[turn]
        for p in range(start[cell], start[cell + 1]):
            if keep[p]:
                if count == room:
                    return out, places, False
                out[count], places[count] = rows[p], p
                count += 1
        turn += 1
    for rest in range(turn, len(order)):
        for p in range(start[order[rest]], start[order[rest] + 1]):
            if keep[p]:
                return out[:count], places[:count], False
    return out[:count], places[:count], True
