"""Slope One, compiled: mean differences between items, and their mean over what a user rated."""

from __future__ import annotations

import numpy as np
from numba import njit

from sensorium.arrays import Floats, Rows
from sensorium.models.ratings.ratings import Doubles


@njit(cache=True, nogil=True)
def add_differences(start: Rows, other: Rows, value: Doubles, total: Floats, both: Floats) -> None:
    """For every pair of items of a user: both[i, j] += 1, total[i, j] += value i − value j."""
    for u in range(len(start) - 1):
        for n in range(start[u], start[u + 1]):
            i = other[n]
            for m in range(start[u], n):
                j = other[m]
                apart = np.float32(value[n] - value[m])
                both[i, j] += 1
                both[j, i] += 1
                total[i, j] += apart
                total[j, i] -= apart


@njit(cache=True, nogil=True)
def slopes(
    begin: int, end: int, list_of: Rows, item: Rows, start: Rows, other: Rows, apart: Floats, both: Floats, out: Doubles
) -> None:
    """The mean difference of item[n] to the items of list_of[n] that somebody rated beside it; 0 where there is none."""
    for n in range(begin, end):
        total, many = 0.0, 0
        if list_of[n] >= 0 and item[n] >= 0:
            for m in range(start[list_of[n]], start[list_of[n] + 1]):
                if both[item[n], other[m]] > 0:
                    total += apart[item[n], other[m]]
                    many += 1
        out[n] = total / many if many else 0.0
